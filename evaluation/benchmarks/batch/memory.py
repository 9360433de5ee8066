"""The memory of all processes of a batch, over inputs of different lengths."""

import threading
import time
from pathlib import Path
from typing import Any

from conceptry.evaluation.batch.job import explain
from conceptry.evaluation.batch.settings import BATCH_ROWS, Settings
from conceptry.evaluation.benchmarks.batch.ends import below
from conceptry.evaluation.benchmarks.measure import MIB, Record


def peaks(uri: str, sources: dict[int, Path], spark: Any, folder: Path) -> list[Record]:
    """Peak memory of Spark's JVM and of all Python processes, each in its own column, for each input in turn."""
    records = []
    for rows, source in sources.items():
        with _Watch() as watch:
            done = explain(
                uri, str(source), str(folder / f"out-{rows}"), spark=spark, settings=Settings(batch_rows=BATCH_ROWS)
            )
        said = {name: peak / MIB for name, peak in watch.peaks.items()} | {"refused": done.errors}
        records.append(Record(f"memory, {rows:,} embeddings", "batch, two cores", done.seconds, extra=said))
    return records


class _Watch:
    """Looks at this process and those below it twice a second; `peaks` are bytes, shared pages divided among all."""

    def __enter__(self) -> "_Watch":
        self.peaks = {"java MiB": 0.0, "driver MiB": 0.0, "workers MiB": 0.0}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        import os

        while not self._over.is_set():
            now = {"java MiB": 0.0, "driver MiB": float(_bytes(os.getpid())), "workers MiB": 0.0}
            for pid in below(os.getpid()):
                kind = "java MiB" if _name(pid) == "java" else "workers MiB"
                now[kind] += _bytes(pid)
            self.peaks = {name: max(peak, now[name]) for name, peak in self.peaks.items()}
            time.sleep(0.5)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
