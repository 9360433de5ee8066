"""What HTTP costs: one picture asked of the served version, beside the same `predict` in this process."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from conceptry.evaluation.benchmarks.measure import Record, Target

REPEATS, WARM_UP = 200, 20


def measure_serving(progress: Callable[[str], None], repeats: int = REPEATS) -> tuple[list[Record], list[Target]]:
    """Medians over `repeats` pairs of calls, taken in turn, of versions in a store of their own.

    The target is about the ONNX version, which the demo makes its champion; the torch one is shown beside it.
    """
    import mlflow

    before, folder = mlflow.get_tracking_uri(), os.getcwd()
    with tempfile.TemporaryDirectory() as temporary:
        try:
            os.chdir(temporary)  # new experiments keep their artifacts below the current folder
            mlflow.set_tracking_uri(f"sqlite:///{Path(temporary) / 'mlflow.db'}")
            found = {runtime: _measure(runtime, repeats, progress) for runtime in ("onnx", "torch")}
        finally:
            os.chdir(folder)
            mlflow.set_tracking_uri(before)
    records = [
        record
        for runtime, (inside, over_http) in found.items()
        for record in (
            Record(f"one picture, {runtime}", "predict in process", inside),
            Record(f"one picture, {runtime}", "mlflow models serve", over_http, extra={"ratio": over_http / inside}),
        )
    ]
    inside, over_http = found["onnx"]
    name = "served one-picture request, ms (1.3 times predict in process + 3 ms)"
    return records, [Target(name, over_http * 1e3, 1.3 * inside * 1e3 + 3, "max")]


def _measure(runtime: str, repeats: int, progress: Callable[[str], None]) -> tuple[float, float]:
    """Median seconds of `predict` in this process and of the same request over HTTP."""
    import pandas as pd

    from conceptry.evaluation.data import load_data
    from conceptry.evaluation.serving import picture_request, served
    from conceptry.registry import load, register

    progress(f"serving with {runtime}: registering and starting the server")
    version = register("splice", {"runtime": runtime}).version
    picture = load_data("zoo:emoji-scenes", size=2).pictures[1].content()
    body, frame = picture_request(picture), pd.DataFrame({"image": [picture]})
    model = load(version.uri)
    seconds: tuple[list[float], list[float]] = ([], [])
    with served(version.uri) as client:
        progress(f"serving with {runtime}: one picture at a time")
        for _ in range(repeats + WARM_UP):
            start = time.perf_counter()
            model.predict(frame)
            between = time.perf_counter()
            status, text = client.post(body)
            end = time.perf_counter()
            assert status == 200, text
            seconds[0].append(between - start)
            seconds[1].append(end - between)
    inside, over_http = (statistics.median(values[WARM_UP:]) for values in seconds)
    return inside, over_http
