"""Two cores of Spark beside the best plain loop on one, and what a row and a start cost."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow

from conceptry.evaluation.batch.job import explain
from conceptry.evaluation.batch.settings import Settings
from conceptry.evaluation.benchmarks.batch import loop
from conceptry.evaluation.benchmarks.measure import Record
from conceptry.models.errors import ConceptryError

LOOP, SPARK, WARM = "plain loop, one core", "batch, two cores", "batch, two cores, warm"
LEAST = 1.7


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
    """The loop, then Spark whose processes have yet to load the version, then Spark once more, whose have."""
    progress(f"{case}: {LOOP}")
    one = plain_loop(uri, source, 256)
    rows = one["rows"]
    said = {"rows": rows, "rows/s": rows / one["seconds"], "ms/row": 1e3 * one["seconds"] / rows}
    records = [Record(case, LOOP, one["seconds"], extra=said | {"request": one["size"], "start s": one["loading"]})]
    for number, name in enumerate((SPARK, WARM)):
        progress(f"{case}: {name}")
        start = time.perf_counter()
        done = explain(uri, str(source), str(folder / f"{case}-{number}"), spark=spark, settings=settings)
        whole = time.perf_counter() - start
        said = {"rows": rows, "rows/s": rows / done.seconds, "ms/row": 1e3 * done.seconds / rows}
        said |= {"request": settings.batch_rows, "start s": whole - done.seconds}
        records.append(Record(case, name, done.seconds, extra=said | {"x loop": one["seconds"] / done.seconds}))
    return records
