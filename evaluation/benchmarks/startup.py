"""Cold start: from the start of a process until a version has answered its first request.

Each start is a new Python process, as a server's worker is one: it imports `mlflow.pyfunc` and torch, loads the version
from a folder, and answers its own example. Beside it the same process with these two imports alone, which no version
goes without, and one that loads an MLflow model that does nothing: what MLflow itself takes. Starts of one round follow
one another, so ratios are of what was measured under the same load; the first round, which fills caches, is left out.
"""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from conceptry.evaluation.benchmarks.measure import Benchmark, Record, Target
from conceptry.evaluation.benchmarks.servers import own_store
from conceptry.models.errors import ConceptryError

ROUNDS, QUICK_ROUNDS = 5, 1
LIMIT = 1.3  # times the bare imports
BARE, NOTHING = "import mlflow.pyfunc, torch", "a model that does nothing"
VERSIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "splice, torch": ("splice", {}),
    "splice, onnx": ("splice", {"runtime": "onnx"}),
    "harsanyi": ("harsanyi", {}),
    "perturbation": ("perturbation", {}),
    "milan": ("milan", {"size": 200, "layers": "layer3", "k": 5}),
}
_START = """
import sys
import mlflow.pyfunc, torch
if len(sys.argv) > 1:
    model = mlflow.pyfunc.load_model(sys.argv[1])
    model.predict(model.input_example)
"""
_ECHO = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Echo(PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input


set_model(Echo())
"""


def run(dictionary: Path | None = None, quick: bool = False, progress: Callable[[str], None] = print) -> Benchmark:
    """Measure the shipped kinds of version. `dictionary` says nothing here: other benchmarks take one."""
    with own_store() as directory:
        folders = _folders(directory, progress)
        seconds = start_seconds(folders, QUICK_ROUNDS if quick else ROUNDS, progress)
    bare = seconds[BARE]
    ratios = {
        name: statistics.median(one / base for (one, _), (base, _) in zip(found, bare, strict=True))
        for name, found in seconds.items()
    }
    records = [
        Record(
            "cold start",
            name,
            statistics.median(wall for wall, _ in found),
            extra={"cpu_seconds": statistics.median(cpu for _, cpu in found), "ratio": ratios[name]},
        )
        for name, found in seconds.items()
    ]
    targets = [Target(f"{name}: cold start, times the bare imports", ratios[name], LIMIT, "max") for name in VERSIONS]
    notes = ["medians over rounds; a round starts each once, one after another", f"the bare imports: {BARE}"]
    return Benchmark("start-up", records, targets, notes)


def start_seconds(
    folders: Mapping[str, Path | None], rounds: int, progress: Callable[[str], None]
) -> dict[str, list[tuple[float, float]]]:
    """Seconds by the clock and of CPU time of each start, by name; a name without a folder starts the imports alone."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in folders}
    for number in range(rounds + 1):
        for name, folder in folders.items():
            progress(f"round {number} of {rounds}: {name}" if number else f"filling caches: {name}")
            found = _start(folder)
            if number:
                seconds[name].append(found)
    return seconds


def _start(folder: Path | None) -> tuple[float, float]:
    arguments = [] if folder is None else [str(folder)]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, "-P", "-c", _START, *arguments], capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise ConceptryError(f"{folder}: does not start: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _folders(directory: Path, progress: Callable[[str], None]) -> dict[str, Path | None]:
    """The folder of each version, registered in the store in use, and of a model that does nothing."""
    from mlflow.artifacts import download_artifacts

    from conceptry.registry import register

    folders: dict[str, Path | None] = {BARE: None, NOTHING: save_nothing(directory / "nothing")}
    for name, (method, options) in VERSIONS.items():
        progress(f"registering {name}")
        version = register(method, options).version
        (directory / name).mkdir()
        folders[name] = Path(download_artifacts(version.uri, dst_path=str(directory / name)))
    return folders


def save_nothing(directory: Path) -> Path:
    """Write an MLflow model that gives back what it is asked."""
    import mlflow.pyfunc
    import pandas as pd

    source = directory.with_suffix(".py")
    source.write_text(_ECHO, encoding="utf-8")
    mlflow.pyfunc.save_model(
        str(directory),
        python_model=str(source),
        input_example=pd.DataFrame({"x": [1.0]}),
        pip_requirements=["mlflow", "pandas", "torch"],
    )
    return directory
