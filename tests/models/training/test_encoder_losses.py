"""Each loss against a literal transcription in float64, and where it vanishes."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from conceptry.models.training import encoder as losses


def unit(n: int, d: int, seed: int) -> torch.Tensor:
    return normalize(torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


Y = torch.tensor([[1, 0, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1]], dtype=torch.float64)


def test_caption_loss():
    z, t, scale = unit(3, 4, 0), unit(3, 4, 1), 7.0
    similarity = [[scale * sum(z[i, k] * t[j, k] for k in range(4)) for j in range(3)] for i in range(3)]
    rows = sum(math.log(sum(math.exp(similarity[i][j]) for j in range(3))) - similarity[i][i] for i in range(3))
    columns = sum(math.log(sum(math.exp(similarity[j][i]) for j in range(3))) - similarity[i][i] for i in range(3))
    assert losses.caption_loss(z, t, torch.tensor(scale)).item() == pytest.approx(float(rows + columns) / 6)


def test_word_loss():
    v, c, scale, bias = unit(3, 4, 0), unit(5, 4, 1), 9.0, -2.0
    total = 0.0
    for i in range(3):
        for j in range(5):
            p = 1 / (1 + math.exp(-(scale * float(v[i] @ c[j]) + bias)))
            total -= math.log(p if Y[i, j] else 1 - p)
    loss = losses.word_loss(v, c, Y, torch.tensor(scale), torch.tensor(bias))
    assert loss.item() == pytest.approx(total / 3)


def test_sum_and_overlap_loss():
    v, c = unit(3, 4, 0), unit(5, 4, 1)
    cosines = []
    for i in range(3):
        sums = sum(c[j] for j in range(5) if Y[i, j])
        cosines.append(float(v[i] @ sums / torch.linalg.vector_norm(sums)))
    assert losses.sum_loss(v, c, Y).item() == pytest.approx(1 - sum(cosines) / 3)
    squares = sum(float(c[i] @ c[j]) ** 2 for i in range(5) for j in range(5) if i != j)
    assert losses.overlap_loss(c).item() == pytest.approx(squares / 5)


def test_they_vanish_where_images_are_sums_of_orthogonal_words():
    c = torch.eye(5, dtype=torch.float64)
    v = normalize(Y @ c, dim=-1)
    assert losses.sum_loss(v, c, Y).item() == pytest.approx(0, abs=1e-12)
    assert losses.overlap_loss(c).item() == pytest.approx(0, abs=1e-12)
    assert losses.word_loss(v, c, Y, torch.tensor(200.0), torch.tensor(-70.0)).item() == pytest.approx(0, abs=1e-12)


def test_centred_rows_have_unit_norm():
    z = unit(6, 4, 2)
    by_hand = torch.stack([row - sum(z) / 6 for row in z])
    assert torch.allclose(losses.centre(z), by_hand / torch.linalg.vector_norm(by_hand, dim=1, keepdim=True))
