"""Masks of made-up units, drawn as those of real ones come about: activations on a coarse grid, upsampled and cut.

| symbol | meaning |
|---|---|
| k | exemplars of a unit |
| g | cells of the activation grid along a side: 2, 4, 8, 16 or 32, one for the whole unit |
| r | the pixels that the unit responds to (64, 64) |
| a | activations (g, g): the share of each cell that r covers, faded cell by cell and with noise added |

a is upsampled bilinearly to 64 x 64, zero beyond the border, and cut at a level of the unit. An exemplar that stays
below it is cut a little below its own maximum: a real unit's strongest pictures are active somewhere.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from conceptry.models.zoo.emoji import OBJECTS
from conceptry.models.zoo.raster import SCENE_SIZE
from conceptry.models.zoo.scenes import Scene

GRID_SHARES = {2: 0.2, 4: 0.25, 8: 0.25, 16: 0.2, 32: 0.1}


def region(scene: Scene, words: Sequence[str]) -> np.ndarray:
    """bool (64, 64): the pixels of the scene's objects among `words`, and of its ground where a word names that.

    The ground, too, where the scene shows no object of `words`.
    """
    parts = [mask for name, mask in zip(scene.objects, scene.masks, strict=True) if name in words]
    if any(word not in OBJECTS for word in words) or not parts:
        parts.append(scene.background_mask)
    return np.logical_or.reduce(parts)


def draw_masks(rng: np.random.Generator, regions: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 (k, 1, 64, 64) from the k regions of a unit's exemplars, none of them empty."""
    g = list(GRID_SHARES)[rng.choice(len(GRID_SHARES), p=list(GRID_SHARES.values()))]
    noise, fading, level = rng.uniform(0, 0.2), rng.uniform(0, 0.6), rng.uniform(0.3, 0.8)
    side = SCENE_SIZE // g
    a = np.stack(regions).reshape(-1, g, side, g, side).mean(axis=(2, 4))
    a = a * (1 - fading * rng.random(a.shape)) + noise * rng.standard_normal(a.shape)
    up = upsampling(g)
    full = up @ a @ up.T
    strongest = full.max(axis=(1, 2), keepdims=True)
    least = np.minimum(level * a.max(), strongest - 0.2 * np.abs(strongest))
    return (full > least).astype(np.uint8)[:, None]


@cache
def upsampling(g: int) -> np.ndarray:
    """(64, g): half-pixel bilinear upsampling along one axis, zero beyond the border."""
    position = (np.arange(SCENE_SIZE) + 0.5) * g / SCENE_SIZE - 0.5
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(g)[None, :]))
