"""Two cores of Spark beside the best plain loop on one, and what a row and a start cost."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow

from conceptry.evaluation.batch.job import explain
from conceptry.evaluation.batch.settings import Settings
from conceptry.evaluation.benchmarks.batch import loop
from conceptry.evaluation.benchmarks.batch.ends import below
from conceptry.evaluation.benchmarks.measure import Record
from conceptry.models.errors import ConceptryError

LOOP, SPARK, WARM = "plain loop, one core", "batch, two cores", "batch, two cores, warm"
LEAST = 1.7
CORES = 2
TRIED = 256  # rows for each size of request


def plain_loop(uri: str, source: Path, tried: int) -> dict[str, Any]:
    """Rows, seconds and the best size of request of a loop in a process of its own, on one thread."""
    done = subprocess.run(
        [sys.executable, "-P", loop.__file__, uri, str(source), str(tried)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise ConceptryError(f"the plain loop over {uri} ended with code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def side_by_side(
    case: str, uri: str, source: Path, spark: Any, folder: Path, settings: Settings, progress: Callable[[str], None]
) -> list[Record]:
    """The loop, then Spark whose processes have yet to load the version, then Spark once more, whose have.

    Beside the clock, which other work on the machine disturbs, the CPU time of all processes says what cores that have
    nothing else to do would come to: `x by CPU` is the loop's over the half of Spark's. Both are of asking and writing;
    `start s` is the rest: reading what is there, copying the version, logging.
    """
    progress(f"{case}: {LOOP}")
    one = plain_loop(uri, source, TRIED)
    rows = one["rows"]

    def said(seconds: float, cpu: float, request: int, start: float) -> dict[str, Any]:
        shown = {"rows": rows, "rows/s": rows / seconds, "CPU ms/row": 1e3 * cpu / rows, "request": request}
        return shown | {"start s": start, "x loop": one["seconds"] / seconds, "x by CPU": CORES * one["cpu"] / cpu}

    alone = said(one["seconds"], one["cpu"], one["size"], one["loading"]) | {"x by CPU": 1.0}
    records = [Record(case, LOOP, one["seconds"], extra=alone)]
    for number, name in enumerate((SPARK, WARM)):
        progress(f"{case}: {name}")
        marks: list[float] = []

        def mark(what: str, share: float, marks: list[float] = marks) -> None:
            if " rows" in what:  # while rows are asked about and written
                marks.append(cpu_seconds())

        start = time.perf_counter()
        output = str(folder / f"{case}-{number}")
        done = explain(uri, str(source), output, spark=spark, settings=settings, progress=mark)
        whole = time.perf_counter() - start
        extra = said(done.seconds, marks[-1] - marks[0], settings.batch_rows, whole - done.seconds)
        records.append(Record(case, name, done.seconds, extra=extra))
    return records


def cpu_seconds() -> float:
    """CPU time of this process and of all below it that are still there; those that have ended are not in it."""
    total = 0.0
    for pid in (os.getpid(), *below(os.getpid())):
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total
