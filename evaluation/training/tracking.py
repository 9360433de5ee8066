"""What every training command shares: an MLflow run, and the record of how it was made."""

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from conceptry.models.manifest import files_in, sha256_file

EXPERIMENT = "conceptry/train"
LOG_EVERY = 20  # steps


def circumstances(directory: Path, packages: Sequence[str], seconds: float) -> dict[str, Any]:
    """The part of a provenance that all trainings record: time, machine, packages, digests of the files."""
    return {
        "training_seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "platform": f"Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        "packages": {name: metadata.version(name) for name in packages},
        "sha256": {path.name: sha256_file(path) for path in files_in(directory)},
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
    """Logs to one run through a client, so that no active run or experiment of the process is touched."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        from conceptry.registry.store import connect, ensure_experiment
        from conceptry.registry.tags import owner_tag

        self._client, self._last = connect(), 0
        experiment = ensure_experiment(self._client, EXPERIMENT)
        run = self._client.create_run(experiment.experiment_id, run_name=name, tags=owner_tag())
        self.run_id = run.info.run_id
        self._client.log_batch(self.run_id, params=[Param(k, str(v)) for k, v in settings.items()])

    def losses(self, step: int, values: dict[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._last = max(self._last, step)
        self._client.log_batch(self.run_id, metrics=[Metric(name, v, now, step) for name, v in values.items()])

    def finish(self, scores: dict[str, float], provenance: Path) -> None:
        # MLflow shows the value of the greatest step: a score that curves have too, as that of the epoch that was kept.
        self.losses(self._last, scores)
        self._client.log_artifact(self.run_id, str(provenance))

    def end(self, status: str) -> None:
        """Close the run."""
        self._client.set_terminated(self.run_id, status)


@contextmanager
def tracked(name: str, settings: Mapping[str, Any], tracking: bool) -> Iterator[Log]:
    """An MLflow run called `name` with the settings as parameters, or a log that goes nowhere."""
    if not tracking:
        yield Log()
        return
    log = _MlflowLog(name, settings)
    try:
        yield log
    except KeyboardInterrupt:
        log.end("KILLED")
        raise
    except BaseException:
        log.end("FAILED")
        raise
    log.end("FINISHED")
