"""The benchmark of scores beside Quantus: what is scored, and that values are the same where it is installed."""

import numpy as np
import pytest
import torch
from torch import nn

from conceptry.evaluation.benchmarks import faithfulness as b
from conceptry.models.errors import InputError


@pytest.fixture(scope="module")
def case() -> b.Case:
    return b.in_double(b.load_case(2, 3))


def test_pixels_are_flipped_one_by_one(case: b.Case) -> None:
    found = b.ours(case, b.FLIPPING)[b.FLIPPING]
    assert found.shape == (2, 256)
    for sample, e in enumerate(case.e):
        picture = case.x[sample].clone()
        curve = []
        for pixel in sorted(range(256), key=lambda k: -e.ravel()[k]):
            picture.view(-1)[pixel] = 0
            curve.append(float(case.network(picture[None])[0, case.y[sample]]))
        np.testing.assert_allclose(found[sample], curve, rtol=1e-9)


def test_attributions_are_gradients(case: b.Case) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x, y = torch.ones(3, 1, 2, 2), torch.tensor([0, 2, 1])
    e, logits = b.gradients(network, x, y)
    np.testing.assert_allclose(e.reshape(3, 4), network[1].weight[y].detach().numpy())
    np.testing.assert_allclose(logits, network(x).detach().numpy())
    assert case.e.dtype == np.float64
    assert case.e.shape == case.x.shape == (2, 1, 16, 16)


@pytest.mark.skipif(not b.RIVAL_THERE, reason="Quantus is not installed")
@pytest.mark.filterwarnings("ignore")
def test_values_are_those_of_quantus(case: b.Case) -> None:
    differences = b.differences_of(case)
    assert set(differences) == set(b.METRICS)
    assert max(differences.values()) < 1e-9


def test_without_quantus_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(b, "RIVAL_THERE", False)
    with pytest.raises(InputError, match=r"Quantus, which is not installed; pip install 'conceptry\[benchmark\]'"):
        b.run(quick=True)
