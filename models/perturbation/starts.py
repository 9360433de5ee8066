"""Pictures to start from that mean nothing, on the grid of 8 bits that pictures are delivered in.

| symbol | meaning | shape |
|---|---|---|
| x | start, entries v / 255 with v in 0 .. 255 | (batch, C, H, W) |
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

LEVELS = 255


def noise(rows: Iterable[int], shape: tuple[int, ...], seed: int) -> Tensor:
    """Uniform noise, float32 (rows, *shape): a row's is a function of `seed` and its number alone.

    So a probe is the same in any batch and whatever is asked beside it.
    """
    drawn = [np.random.default_rng([seed, row]).integers(LEVELS + 1, size=shape, dtype=np.uint8) for row in rows]
    return torch.from_numpy(np.stack(drawn)).float() / LEVELS


def grey(rows: int, shape: tuple[int, ...]) -> Tensor:
    """The middle grey, 128 / 255, float32 (rows, *shape)."""
    return torch.full((rows, *shape), 128 / LEVELS)


def to_eight_bits(pixels: Tensor) -> Tensor:
    """Pixels as a file of 8 bits gives them back: clipped to [0, 1] and rounded to v / 255."""
    return (pixels.clamp(0, 1) * LEVELS).round() / LEVELS


def in_ball(like: Tensor, optimizer: str, radius: float, generator: torch.Generator) -> Tensor:
    """A perturbation to restart from, as `like`: of random direction on the l2 sphere, or uniform in the linf cube.

    It is the same for all pictures, so that an answer does not depend on what else is asked.
    """
    shape = like.shape[1:]
    if optimizer.startswith("linf"):
        return ((2 * torch.rand(shape, generator=generator) - 1) * radius).to(like).expand_as(like)
    drawn = torch.randn(shape, generator=generator)
    return (drawn / torch.linalg.vector_norm(drawn) * radius).to(like).expand_as(like)
