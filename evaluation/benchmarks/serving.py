"""What HTTP costs: one picture asked of the served version, beside the same `predict` in this process."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from conceptry.evaluation.benchmarks.measure import Record, Target

REPEATS = 200


def measure_serving(progress: Callable[[str], None], repeats: int = REPEATS) -> tuple[list[Record], list[Target]]:
    """Medians over `repeats` pairs of calls, taken in turn, of the default SpLiCE version in a store of its own."""
    import mlflow
    import pandas as pd

    from conceptry.evaluation.data import load_data
    from conceptry.evaluation.serving import picture_request, served
    from conceptry.registry import load, register

    before, folder = mlflow.get_tracking_uri(), os.getcwd()
    with tempfile.TemporaryDirectory() as temporary:
        try:
            os.chdir(temporary)  # new experiments keep their artifacts below the current folder
            mlflow.set_tracking_uri(f"sqlite:///{Path(temporary) / 'mlflow.db'}")
            progress("serving: registering and starting the server")
            version = register("splice").version
            picture = load_data("zoo:emoji-scenes", size=2).pictures[1].content()
            body, frame = picture_request(picture), pd.DataFrame({"image": [picture]})
            model = load(version.uri)
            with served(version.uri) as client:
                progress("serving: one picture at a time")
                seconds: tuple[list[float], list[float]] = ([], [])
                for _ in range(repeats + 10):
                    start = time.perf_counter()
                    model.predict(frame)
                    between = time.perf_counter()
                    status, text = client.post(body)
                    end = time.perf_counter()
                    assert status == 200, text
                    seconds[0].append(between - start)
                    seconds[1].append(end - between)
        finally:
            os.chdir(folder)
            mlflow.set_tracking_uri(before)
    inside, over_http = (statistics.median(values[10:]) for values in seconds)
    records = [
        Record("one picture", "predict in process", inside),
        Record("one picture", "mlflow models serve", over_http, extra={"ratio": over_http / inside}),
    ]
    name = "served one-picture request, ms (1.3 times predict in process + 3 ms)"
    return records, [Target(name, over_http * 1e3, 1.3 * inside * 1e3 + 3, "max")]
