"""Pixels of the emoji world: sprites (resized, turned, mirrored pictures) and patterned backgrounds.

Resampling is written out here, with whole-number arithmetic where it decides, so that a scene does not depend on
the release of an imaging library: each pixel of a sprite averages the 3x3 nearest source pixels of its sub-pixels.
Edges are hard: a pixel belongs to an object when the picture covers at least half of it.
"""

import math
from functools import cache

import numpy as np

from conceptry.models.zoo.emoji import COLOURS, SPRITE_SIZE, picture

SCENE_SIZE = 64  # pixels, height and width of a scene
ANGLES = (-16, -8, 0, 8, 16)  # degrees, counter-clockwise
_SUB = 3  # sub-pixels per pixel and axis


@cache
def sprite(name: str, size: int, turn: int, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """The picture at `size` pixels, turned by ANGLES[turn]: colours uint8 (size, size, 3), mask bool (size, size)."""
    source = picture(name)[:, ::-1] if mirrored else picture(name)
    alpha = source[..., 3:].astype(np.int64)
    premultiplied = np.concatenate([source[..., :3] * alpha, alpha], axis=-1)  # (72, 72, 4)
    angle = math.radians(ANGLES[turn])
    cos, sin = round(math.cos(angle) * 4096), round(math.sin(angle) * 4096)  # 12-bit fixed point
    n = size * _SUB
    offset = 2 * np.arange(n, dtype=np.int64) + 1 - n  # twice the distance from the centre, in sub-pixels
    y, x = offset[:, None], offset[None, :]
    unit = 2 * n * 4096  # source position = centre + (rotated offset) * 72 / unit
    rows = (SPRITE_SIZE * (cos * y + sin * x) + SPRITE_SIZE * unit // 2) // unit
    columns = (SPRITE_SIZE * (cos * x - sin * y) + SPRITE_SIZE * unit // 2) // unit
    inside = (rows >= 0) & (rows < SPRITE_SIZE) & (columns >= 0) & (columns < SPRITE_SIZE)
    limit = SPRITE_SIZE - 1
    pixels = premultiplied[rows.clip(0, limit), columns.clip(0, limit)] * inside[..., None]
    sums = pixels.reshape(size, _SUB, size, _SUB, 4).sum(axis=(1, 3))
    coverage = sums[..., 3]
    colours = (sums[..., :3] // np.maximum(coverage, 1)[..., None]).astype(np.uint8)
    mask = 2 * coverage >= 255 * _SUB * _SUB
    colours.flags.writeable = mask.flags.writeable = False
    return colours, mask


@cache
def _canvas(colour: str, pattern: str) -> np.ndarray:
    """A background large enough for every phase, uint8 (80, 80, 3)."""
    rows, columns = np.indices((SCENE_SIZE + 16, SCENE_SIZE + 16)) % 16
    if pattern == "striped":
        figure = columns % 8 < 4
    elif pattern == "checked":
        figure = (rows < 8) ^ (columns < 8)
    elif pattern == "dotted":
        figure = (rows % 8 - 3.5) ** 2 + (columns % 8 - 3.5) ** 2 < 7
    else:
        figure = np.zeros_like(rows, dtype=bool)
    return np.array(COLOURS[colour], dtype=np.uint8)[figure.astype(np.intp)]


def background(colour: str, pattern: str, phase: int) -> np.ndarray:
    """A fresh uint8 (64, 64, 3) background; `phase` shifts its pattern (and means nothing for a plain one)."""
    y, x = phase % 16, phase // 16 % 16
    return _canvas(colour, pattern)[y : y + SCENE_SIZE, x : x + SCENE_SIZE].copy()
