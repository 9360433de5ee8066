"""Budgets of pixels, and starts of 8 bits that are functions of the seed and the row."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conceptry.models.errors import InputError
from conceptry.models.perturbation.question import grey, in_ball, noise, to_eight_bits
from conceptry.models.perturbation.solvers.budget import check_kept, pixel_budget, strongest_pixels


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_a_share_of_k_pixels_is_k_pixels(height: int, width: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, height * width))
    assert pixel_budget(k / (height * width), height, width) == k
    assert pixel_budget(min(1.0, (k + 0.99) / (height * width)), height, width) == min(k, height * width)


def test_a_budget_of_less_than_a_pixel_cannot_be_met() -> None:
    with pytest.raises(InputError, match=r"max_changed 0.01 of 7 x 7 pixels is not one pixel") as error:
        pixel_budget(0.01, 7, 7)
    least = float(str(error.value).rsplit(" ", 1)[1])
    assert pixel_budget(least, 7, 7) == 1
    assert pixel_budget(0.29, 10, 10) == 29  # 0.29 x 100 is 28.999999999999996


def test_a_q_that_leaves_nothing_to_move_cannot_be_met() -> None:
    check_kept(0.998, 256)  # .512 of an entry is rounded to one
    with pytest.raises(InputError, match=r"q 0.999 of 256 entries leaves none to move, .* it must be below 0.998047"):
        check_kept(0.999, 256)
    with pytest.raises(InputError, match=r"q 0.5 of 1 entries leaves none to move"):  # half to even
        check_kept(0.5, 1)


def test_the_strongest_pixels_count_all_channels_and_the_first_of_equals() -> None:
    delta = torch.zeros(2, 3, 2, 3)
    delta[0, :, 0, 1] = torch.tensor([-0.2, 0.2, -0.2])
    delta[0, 1, 1, 2] = 0.5
    delta[1, 0] = 0.1
    expected = [[0, 1, 0, 0, 0, 1], [1, 1, 0, 0, 0, 0]]
    assert strongest_pixels(delta, 2).flatten(1).int().tolist() == expected
    assert strongest_pixels(delta, 2).shape == (2, 1, 2, 3)
    assert strongest_pixels(delta, torch.tensor([1, 6])).flatten(1).sum(1).tolist() == [1, 6]


def test_noise_is_a_function_of_the_seed_and_the_row() -> None:
    together = noise([0, 1, 7], (3, 4, 5), 11)
    assert together.shape == (3, 3, 4, 5)
    torch.testing.assert_close(noise([7], (3, 4, 5), 11)[0], together[2], rtol=0, atol=0)
    assert not torch.equal(noise([7], (3, 4, 5), 12)[0], together[2])
    many = noise(range(50), (1, 16, 16), 0)
    assert (many * 255).round().div(255).equal(many)
    levels = np.bincount((many * 255).round().long().flatten().numpy(), minlength=256)
    assert levels.min() > 20  # of 50 on average: no level is missing, white and black included
    assert levels.max() < 90


def test_starts_and_results_are_on_the_grid_of_8_bits() -> None:
    assert grey(2, (1, 2, 2)).mul(255).unique().tolist() == [128]
    values = torch.tensor([-0.3, 0.0, 0.5 / 255 - 1e-6, 0.4999, 1.2])
    assert to_eight_bits(values).mul(255).tolist() == pytest.approx([0, 0, 0, 127, 255])


def test_restarts_begin_within_the_ball() -> None:
    like = torch.zeros(5, 3, 4, 4)
    generator = torch.Generator().manual_seed(0)
    l2 = in_ball(like, "l2_projected", 1.5, generator)
    torch.testing.assert_close(l2.flatten(1).norm(dim=1), torch.full((5,), 1.5))
    linf = in_ball(like, "linf_projected", 0.25, generator)
    assert 0.24 < float(linf.abs().max()) <= 0.25
    for start in (l2, linf):
        assert torch.equal(start, start[:1].expand_as(start))
    assert not torch.equal(in_ball(like, "l2_projected", 1.5, generator), l2)
