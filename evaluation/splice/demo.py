"""SpLiCE in the demo: five versions over the emoji world, and two scenes in words."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from conceptry.evaluation.demo import Tour
from conceptry.evaluation.splice.data import DEFAULT, ImageData, load_images
from conceptry.registry import Requirement

VERSIONS: tuple[dict[str, Any], ...] = (
    {"l1_penalty": 0.15},
    {"l1_penalty": 0.25},
    {"l1_penalty": 0.4},
    {"l1_penalty": 0.25, "vocabulary_size": 60},
    {"l1_penalty": 0.25, "runtime": "onnx"},
)
MIN_RECALL = 0.95
SHOWN = (12, 9)  # scenes whose objects stand apart


def _versions(output: Path) -> Sequence[Mapping[str, Any]]:
    return VERSIONS


def _data(size: int) -> ImageData:
    return load_images(DEFAULT, size)


def _rank(metrics: Mapping[str, float]) -> tuple[float, ...]:
    return round(metrics["concept_precision"], 3), -metrics["encode_ms"] - metrics["solve_ms"]


def _scenes(output: Path) -> list[Path]:
    from conceptry.models.zoo.emoji_world.scenes import EmojiScenes

    scenes = EmojiScenes("heldout", 16, seed=7, n_objects=2)
    files = []
    for index in SHOWN:
        scene = scenes[index]
        files.append(output / f"{'-and-'.join(scene.objects).replace(' ', '-')}.png")
        Image.fromarray(scene.image).save(files[-1])
    return files


def _request(image: Path) -> str:
    return (
        f"base64 < {shlex.quote(str(image))} | tr -d '\\n' "
        '| sed \'s/.*/{"dataframe_split": {"columns": ["image"], "data": [["&"]]}}/\''
    )


TOURS = (
    Tour(
        method="splice",
        name="emoji-splice",
        prepare=_versions,
        data=_data,
        requirement=Requirement("recall_objects_all", ">=", MIN_RECALL),
        rank=_rank,
        rule=f"largest share of true words among versions with recall_objects_all >= {MIN_RECALL:g}; ties: the faster",
        samples=_scenes,
        figures=[("explanations.png", None)],
        request=_request,
        attribution="Pictured objects: Twemoji, copyright Twitter, Inc and other contributors, CC-BY 4.0",
    ),
)
