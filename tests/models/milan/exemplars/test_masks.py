"""Masks against padding, interpolation and cropping by torch, and against sampling at points."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from conceptry.models.milan.exemplars.masks import masks_of


def literal(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A cell of zeros around the maps (m, h, w), enlarged by a whole factor, without what became of the zeros."""
    factor = (size[0] // maps.shape[1], size[1] // maps.shape[2])
    padded = functional.pad(maps[None].double(), (1, 1, 1, 1))
    scale = (float(factor[0]), float(factor[1]))
    large = functional.interpolate(padded, scale_factor=scale, mode="bilinear", align_corners=False)[0]
    return large[:, factor[0] : large.shape[1] - factor[0], factor[1] : large.shape[2] - factor[1]]


def sampled(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The same for any size: values at the pixels' centres, zeros beyond the map."""
    y, x = ((2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1 for n in size)
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None]
    return functional.grid_sample(maps[None].double(), grid, padding_mode="zeros", align_corners=False)[0]


def check(maps: torch.Tensor, size: tuple[int, int], large: torch.Tensor) -> None:
    levels = maps.flatten(1).quantile(0.8, dim=1).numpy()
    masks = masks_of(maps.numpy(), levels, size)
    assert masks.dtype == np.uint8
    away = (large - torch.from_numpy(levels)[:, None, None]).abs() > 1e-5  # else rounding decides
    assert away.float().mean() > 0.99
    expected = large > torch.from_numpy(levels)[:, None, None]
    assert (torch.from_numpy(masks).bool() == expected)[away].all()


@pytest.mark.parametrize(("cells", "size"), [((4, 4), (64, 64)), ((7, 7), (224, 224)), ((2, 3), (6, 12))])
def test_pad_enlarge_and_crop(cells: tuple[int, int], size: tuple[int, int]) -> None:
    maps = torch.randn(12, *cells, generator=torch.Generator().manual_seed(0))
    large = literal(maps, size)
    torch.testing.assert_close(large, sampled(maps, size))
    check(maps, size, large)


@pytest.mark.parametrize(
    ("cells", "size"), [((27, 27), (224, 224)), ((13, 11), (50, 64)), ((30, 20), (9, 8)), ((5, 5), (5, 5))]
)
def test_sizes_that_do_not_divide(cells: tuple[int, int], size: tuple[int, int]) -> None:
    maps = torch.randn(12, *cells, generator=torch.Generator().manual_seed(1))
    check(maps, size, sampled(maps, size))


def test_borders_fade_and_nothing_is_above_an_infinite_level() -> None:
    masks = masks_of(np.ones((2, 2, 2), np.float32), np.array([0.9, np.inf]), (16, 16))
    assert masks[0, 4, 4] == 1
    assert masks[0, 0].sum() == 0
    assert masks[1].sum() == 0
    assert masks_of(np.ones((0, 2, 2), np.float32), np.zeros(0), (4, 4)).shape == (0, 4, 4)


def test_one_cell_has_no_place() -> None:
    maps = np.array([0.5, 0.95, -0.5], np.float32)[:, None, None]
    masks = masks_of(maps, np.array([0.9, 0.9, -1.0]), (16, 12))
    assert [mask.mean() for mask in masks] == [0, 1, 1]
    row = np.array([[[0.0, 1.0, 0.0, 0.0]]], np.float32)  # a map of one row: columns alone have places
    in_row = masks_of(row, np.array([0.5]), (8, 16))[0]
    assert (in_row == in_row[0]).all()
    assert in_row[0].tolist() == masks_of(np.repeat(row, 4, axis=1), np.array([0.5]), (8, 16))[0, 4].tolist()
