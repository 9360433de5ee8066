"""The search for the sparsest counterfactual: it finds a planted pixel, and returns its best attempt."""

import pytest
import torch
from torch import nn

from conceptry.models.perturbation.settings import Settings
from conceptry.models.perturbation.solvers.sparsest import LADDER, ROUNDS, SLOTS, confidence_of
from conceptry.models.perturbation.tasks import counterfactual

FAST = Settings(steps=15, sparsest=True)


@pytest.fixture(scope="module")
def found(network, pictures):
    return counterfactual(network, pictures[:10], [(i + 3) % 10 for i in range(10)], settings=FAST)


def test_it_is_sparser_than_every_attempt_that_flips(found) -> None:
    assert found.success.all()
    for row, path in enumerate(found.path):
        assert len(path) == ROUNDS * SLOTS
        assert [point.round for point in path] == sorted(point.round for point in path)
        least = min(point.changed for point in path if point.success)
        assert float(found.changed[row]) == least
        chosen = [point for point in path if point.success and point.changed == least]
        assert (float(found.q[row]), float(found.epsilon[row])) in {(p.q, p.epsilon) for p in chosen}
        assert float(confidence_of(found)[row]) == max(p.confidence for p in chosen)
        assert tuple(point.q for point in path[:SLOTS]) == LADDER
        assert all(p.pixels is None or round(p.changed * 64) <= p.pixels for p in path)


def test_it_is_far_sparser_than_one_run(network, pictures, found) -> None:
    one = counterfactual(network, pictures[:10], [(i + 3) % 10 for i in range(10)])
    assert float(found.changed.mean()) < 0.5 * float(one.changed.mean())


def test_it_finds_the_one_pixel_that_decides(user_network) -> None:
    linear = nn.Linear(16, 2)
    weight = torch.full((2, 16), 0.1)
    weight[1, 6] = 6.0  # the others move the score as well, and only together
    linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(torch.tensor([2.0, 0.0]))
    model = user_network(nn.Sequential(nn.Flatten(), linear))
    e = counterfactual(model, torch.zeros(2, 1, 4, 4), ["yes", None], settings=FAST)
    assert e.success.all()
    assert (e.changed * 16).tolist() == [1, 1]
    assert e.delta.flatten(1).argmax(1).tolist() == [6, 6]


def test_what_cannot_be_flipped_is_the_most_confident_attempt(user_network) -> None:
    linear = nn.Linear(16, 2)
    weight = torch.zeros(2, 16)
    weight[1] = 0.01
    linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(torch.tensor([2.0, 0.0]))
    model = user_network(nn.Sequential(nn.Flatten(), linear))
    e = counterfactual(model, torch.zeros(1, 1, 4, 4), ["yes"], settings=FAST)
    assert not e.success.any()
    assert float(confidence_of(e)[0]) == max(point.confidence for point in e.path[0])


def test_a_confidence_has_to_be_reached(network, pictures, found) -> None:
    sure = counterfactual(
        network,
        pictures[:10],
        [(i + 3) % 10 for i in range(10)],
        settings=Settings(steps=15, sparsest=True, confidence=0.8),
    )
    possible = torch.tensor([any(point.success for point in path) for path in sure.path])
    assert possible.sum() >= 5
    assert all(p.confidence >= 0.79 for path in sure.path for p in path if p.success)
    assert float(confidence_of(sure)[possible].min()) >= 0.79 > float(confidence_of(found)[possible].max())
    assert float(sure.changed[possible].mean()) > float(found.changed[possible].mean())
