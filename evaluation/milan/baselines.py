"""What baselines say of the same units, asked of the data alone: it is the same for every version.

| baseline | needs | says |
|---|---|---|
| net_dissect | the pixels of every concept | the concept of the largest IoU with the masks |
| clip_dissect | the encoder zoo:emoji-clip, its vocabulary | the word that a unit's exemplars share beyond others |
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from conceptry.evaluation.milan.cases import UnitCase

if TYPE_CHECKING:
    from conceptry.models.milan.clip_dissect import ClipDissect

REFERENCE_PICTURES = 500  # by which CLIP-Dissect knows how frequent words are


def baselines(cases: Sequence[UnitCase]) -> dict[str, list[str]]:
    """By baseline a text for each unit, "" where it names none.

    Only for units of the emoji world: elsewhere neither the pixels of concepts nor a fitting vocabulary is known.
    """
    if not all(case.segmentations for case in cases):
        return {}
    return {"clip_dissect": _clip_dissected(cases), "net_dissect": _dissected(cases)}


def _dissected(cases: Sequence[UnitCase]) -> list[str]:
    from conceptry.models.milan.dissect import dissect  # the package imports torch

    return [dissect(masks, case.segmentations).concept or "" for case in cases if (masks := case.masks) is not None]


def _clip_dissected(cases: Sequence[UnitCase]) -> list[str]:
    describer = _describer()
    units = [(case.images, case.masks) for case in cases if case.images is not None and case.masks is not None]
    return [describer.describe(images[None], masks[None])[0].text for images, masks in units]


@cache
def _describer() -> "ClipDissect":
    from conceptry.models.encoders.load import load_encoder
    from conceptry.models.milan.clip_dissect import build_clip_dissect
    from conceptry.models.zoo.emoji import VOCABULARY
    from conceptry.models.zoo.scenes import EmojiScenes

    scenes = EmojiScenes("train", REFERENCE_PICTURES)
    pictures = (Image.fromarray(np.ascontiguousarray(scenes[i].image)) for i in range(REFERENCE_PICTURES))
    return build_clip_dissect(load_encoder("zoo:emoji-clip"), VOCABULARY, pictures)
