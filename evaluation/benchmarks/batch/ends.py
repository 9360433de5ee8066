"""Batches that are killed at random moments, the command or one of its processes, and started again."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import mlflow
import pyarrow.parquet

from conceptry.evaluation.benchmarks.measure import Record
from conceptry.models.errors import ConceptryError

PART_ROWS = 40


def kill(uri: str, source: Path, folder: Path, kills: int, progress: Callable[[str], None], seed: int = 0) -> Record:
    """Kill batches over a folder of pictures until `kills` are dead; count rows that are lost or doubled.

    A command goes on in the output of the one that was killed before it, until one of them comes to its end. Every
    second kill is of a process that Spark or the version runs in, which the command has to survive.
    """
    rng, found = random.Random(seed), Counter()
    expected = {str(file.resolve()) for file in source.iterdir()}
    start = time.perf_counter()
    ended = _run(uri, source, folder / "output-0", folder)
    usual = time.perf_counter() - start
    if ended:
        raise ConceptryError(f"the batch that nobody kills ended with code {ended}")
    number = 1
    while found["command"] + found["process"] < kills:
        output = folder / f"output-{number}"
        kind = "process" if (found["command"] + found["process"]) % 2 else "command"
        moment = rng.uniform(0.0, usual)
        progress(f"kill {found['command'] + found['process'] + 1} of {kills}: a {kind} after {moment:.1f} s")
        child = _start(uri, source, output, folder)
        killed = _kill_after(child, kind, moment, rng)
        code = child.wait()
        found[kind] += killed
        found["over before"] += not killed
        found["failed"] += bool(code) and kind == "process"  # Spark's own retries had to do
        if code == 0:
            found.update(_wrong(output, expected))
            number += 1
    if _run(uri, source, folder / f"output-{number}", folder):
        found["failed"] += 1
    found.update(_wrong(folder / f"output-{number}", expected))
    names = ("command", "process", "over before", "failed", "lost", "doubled")
    return Record("kills", "SIGKILL", usual, extra={name: found[name] for name in names} | {"complete": number + 1})


def _start(uri: str, source: Path, output: Path, folder: Path) -> subprocess.Popen:
    words = ["batch", uri, str(source), "--output", str(output), "--part-rows", str(PART_ROWS)]
    log = (folder / "log.txt").open("ab")
    return subprocess.Popen(
        [sys.executable, "-m", "conceptry.evaluation.cli.app", *words],
        env=os.environ | {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()},
        stdout=log,
        stderr=log,
    )


def _run(uri: str, source: Path, output: Path, folder: Path) -> int:
    return _start(uri, source, output, folder).wait()


def _kill_after(child: subprocess.Popen, kind: str, moment: float, rng: random.Random) -> bool:
    """Whether there was a process to kill at that moment: the command itself, or one of Python's below it."""
    try:
        child.wait(timeout=moment)
        return False
    except subprocess.TimeoutExpired:
        pass
    if kind == "command":
        child.kill()
        return True
    while child.poll() is None:  # until Spark has started one
        workers = [pid for pid in below(child.pid) if _is_worker(pid)]
        if workers:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
                return True
        time.sleep(0.1)
    return False


def below(pid: int) -> Iterator[int]:
    """All processes that a process has started, and those that they have."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                yield child
                yield from below(child)


def _is_worker(pid: int) -> bool:
    """Whether a process is one of Spark's Python processes, or one of a version."""
    with suppress(OSError):
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        return b"pyspark.daemon" in line or b"isolation/worker.py" in line
    return False


def _wrong(output: Path, expected: set[str]) -> dict[str, int]:
    """Rows of the input that are lost, and that are there more than once."""
    ids = [
        row
        for file in output.glob("part-*.parquet")
        for row in pyarrow.parquet.read_table(file, columns=["id"])["id"].to_pylist()
    ]
    return {"lost": len(expected - set(ids)), "doubled": len(ids) - len(set(ids))}
