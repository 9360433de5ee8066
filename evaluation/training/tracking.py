"""What every training command shares: an MLflow run, and the record of how it was made."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from conceptry.models.manifest import files_in, sha256_file

if TYPE_CHECKING:
    from conceptry.evaluation.runs import Run

EXPERIMENT = "conceptry/train"
LOG_EVERY = 20  # steps


def circumstances(directory: Path, packages: Sequence[str], seconds: float) -> dict[str, Any]:
    """The part of a provenance that all trainings record: time, machine, packages, digests of the files."""
    return {
        "training_seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "platform": f"Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        "packages": {name: metadata.version(name) for name in packages},
        "sha256": {path.relative_to(directory).as_posix(): sha256_file(path) for path in files_in(directory)},
    }


def command_line(kind: str, options: Mapping[str, Any]) -> str:
    """The command that repeats a training: `conceptry train KIND` with the options that were given.

    None and False are options that were not given; True is a flag. What travels with the weights names no folder of
    the user's machine: `--output` is FOLDER, and callers leave other folders out of the values.
    """
    words = [f"conceptry train {kind} --output FOLDER"]
    for name, value in options.items():
        if value is not None and value is not False:
            option = f"--{name.replace('_', '-')}"
            words.append(option if value is True else f"{option} {value}")
    return " ".join(words)


class Log:
    """Logs nowhere."""

    def losses(self, step: int, values: dict[str, float]) -> None:
        """The losses after a step."""

    def finish(self, scores: dict[str, float], provenance: Path) -> None:
        """The final scores and the provenance."""


class _MlflowLog(Log):
    """Logs to one run."""

    def __init__(self, run: "Run") -> None:
        self._run, self._last = run, 0

    def losses(self, step: int, values: dict[str, float]) -> None:
        self._last = max(self._last, step)
        self._run.metrics(values, step)

    def finish(self, scores: dict[str, float], provenance: Path) -> None:
        # MLflow shows the value of the greatest step: a score that curves have too, as that of the epoch that was kept.
        self._run.metrics(scores, self._last)
        self._run.client.log_artifact(self._run.run_id, str(provenance))


@contextmanager
def tracked(name: str, settings: Mapping[str, Any], tracking: bool) -> Iterator[Log]:
    """An MLflow run called `name` with the settings as parameters, or a log that goes nowhere."""
    if not tracking:
        yield Log()
        return
    from conceptry.evaluation.runs import new_run

    with new_run(EXPERIMENT, name, settings) as run:
        yield _MlflowLog(run)
