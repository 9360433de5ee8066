"""The record that every solver of SpLiCE returns."""

import pytest
import torch

from conceptry.models.errors import InputError
from conceptry.models.splice.decomposition import Decomposition


@pytest.fixture
def decomposition():
    return Decomposition(
        row_starts=torch.tensor([0, 3, 3, 5]),
        concept_indices=torch.tensor([1, 4, 6, 0, 4]),
        concept_weights=torch.tensor([0.25, 0.5, 0.25, 1.0, 2.0]),
        n_concepts=7,
        gap=torch.tensor([1e-8, 0.0, 2e-8], dtype=torch.float64),
        converged=torch.tensor([True, True, True]),
        iterations=torch.tensor([2, 1, 2]),
        solver="active_set",
        l1_penalty=0.25,
    )


def test_views_of_the_weights(decomposition):
    dense = torch.tensor([[0, 0.25, 0, 0, 0.5, 0, 0.25], [0.0] * 7, [1, 0, 0, 0, 2, 0, 0]])
    assert len(decomposition) == 3
    assert decomposition.shape == (3, 7)
    assert torch.equal(decomposition.to_dense(), dense)
    assert decomposition.weights.is_coalesced()
    assert torch.equal(decomposition.weights.to_dense(), dense)
    assert decomposition.l0.tolist() == [3, 0, 2]
    assert torch.equal(decomposition.mean(), dense.mean(0))


def test_rows_are_sorted_by_weight_then_index(decomposition):
    indices, weights = decomposition.row(0)
    assert indices.tolist() == [4, 1, 6]
    assert weights.tolist() == [0.5, 0.25, 0.25]
    assert decomposition.row(-1)[0].tolist() == [4, 0]
    assert decomposition.row(1)[0].tolist() == []
    with pytest.raises(InputError, match="row is 3, but the decomposition has 3 rows"):
        decomposition.row(3)


@pytest.mark.parametrize("kind", [list, torch.tensor, iter])
def test_suppressed_weights_are_zero_and_lose_their_certificate(decomposition, kind):
    suppressed = decomposition.suppress(kind([1, 6, 5]))
    expected = decomposition.to_dense()
    expected[:, [1, 5, 6]] = 0
    assert torch.equal(suppressed.to_dense(), expected)
    assert suppressed.l0.tolist() == [1, 0, 2]
    assert suppressed.gap.isnan().tolist() == [True, False, False]
    assert suppressed.converged.tolist() == [False, True, True]
    assert decomposition.l0.tolist() == [3, 0, 2]


def test_suppressing_nothing_or_nonsense(decomposition):
    assert torch.equal(decomposition.suppress([]).to_dense(), decomposition.to_dense())
    for index in (-1, 7):
        with pytest.raises(InputError, match=rf"concept index {index} is not in 0\.\.6"):
            decomposition.suppress([0, index])
