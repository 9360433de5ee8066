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
from conceptry.models.zoo.emoji import VOCABULARY

if TYPE_CHECKING:
    from conceptry.models.milan.clip_dissect import ClipDissect
    from conceptry.models.zoo.scenes import Scene

REFERENCE_PICTURES = 1000  # by which the baselines know how frequent words and concepts are


def baselines(cases: Sequence[UnitCase]) -> dict[str, list[str]]:
    """By baseline a text for each unit, "" where it names none.

    Only for units of the emoji world: elsewhere neither the pixels of concepts nor a fitting vocabulary is known.
    """
    if not all(case.segmentations for case in cases):
        return {}
    return {"clip_dissect": _clip_dissected(cases), "net_dissect": _dissected(cases)}


def _dissected(cases: Sequence[UnitCase]) -> list[str]:
    from conceptry.models.milan.dissect import dissect  # the package imports torch

    shares = _shares()
    return [
        dissect(masks, case.segmentations, shares).concept or "" for case in cases if (masks := case.masks) is not None
    ]


def _clip_dissected(cases: Sequence[UnitCase]) -> list[str]:
    describer = _describer()
    units = [(case.images, case.masks) for case in cases if case.images is not None and case.masks is not None]
    return [describer.describe(images[None], masks[None])[0].text for images, masks in units]


@cache
def _reference() -> "list[Scene]":
    from conceptry.models.zoo.scenes import EmojiScenes

    scenes = EmojiScenes("train", REFERENCE_PICTURES)
    return [scenes[index] for index in range(REFERENCE_PICTURES)]


@cache
def _shares() -> dict[str, float]:
    """The share of all pixels that each concept of the emoji world covers."""
    from conceptry.models.milan.dissect import concept_shares

    return dict.fromkeys(VOCABULARY, 0.0) | concept_shares([scene.segments for scene in _reference()])


@cache
def _describer() -> "ClipDissect":
    from conceptry.models.encoders.load import load_encoder
    from conceptry.models.milan.clip_dissect import build_clip_dissect

    pictures = (Image.fromarray(np.ascontiguousarray(scene.image)) for scene in _reference())
    return build_clip_dissect(load_encoder("zoo:emoji-clip"), VOCABULARY, pictures)
