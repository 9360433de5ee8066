"""Units of the emoji world as cases: what is true of each is known, down to the pixels of every concept."""

from collections.abc import Sequence

import numpy as np

from conceptry.evaluation.milan.cases import ANNOTATED, UnitCase
from conceptry.models.milan.dissect import Segmentation
from conceptry.models.zoo.annotated_units import EmojiUnits
from conceptry.models.zoo.scenes import Scene


def emoji_cases(size: int, seed: int) -> tuple[list[UnitCase], list[UnitCase]]:
    """Units to evaluate on, and controls of random pictures (see `data`); `size` of annotated and planted ones each."""
    return annotated_cases(size, seed), []


def annotated_cases(size: int, seed: int) -> list[UnitCase]:
    """Held-out annotated units, with three references each."""
    units = EmojiUnits("heldout", size, seed)
    cases = []
    for number, unit in enumerate(units):
        found = unit.exemplars
        assert found.ids is not None
        cases.append(
            UnitCase(
                ANNOTATED,
                f"annotated {seed}:{number}",
                images=found.images,
                masks=found.masks,
                references=unit.captions,
                truth=unit.properties,
                segmentations=tuple(segmentation(units.scene(i)) for i in found.ids.tolist()),
            )
        )
    return cases


def segmentation(scene: Scene) -> Segmentation:
    """The pixels of each concept of a scene: its objects; its colour and pattern, which fill the background."""
    ground = scene.background_mask
    objects: Sequence[tuple[str, np.ndarray]] = list(zip(scene.objects, scene.masks, strict=True))
    return dict(objects) | {scene.colour: ground, scene.pattern: ground}
