"""Attacks to train against: the formula restated slowly, the ball, and a network that is left alone."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from conceptry.models.explained.classifiers.architectures import Shape, build_network
from conceptry.models.training.classifiers import l2_attack

EPSILON, STEPS = 0.7, 6


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A small network with statistics of its own, in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(Shape("vgg", (1, 8, 8), 4, 4)).double().train()
    network(_pictures())
    return network


def _pictures() -> Tensor:
    return torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


TARGETS = torch.tensor([0, 1, 2, 3, 0])


def test_the_attack_is_the_formula_image_by_image(network: nn.Module):
    attacked = l2_attack(network, _pictures(), TARGETS, EPSILON, STEPS)
    network.eval()
    for picture, target, got in zip(_pictures(), TARGETS, attacked, strict=True):
        delta = torch.zeros_like(picture)
        for _ in range(STEPS):
            delta.requires_grad_()
            (g,) = torch.autograd.grad(functional.cross_entropy(network((picture + delta)[None]), target[None]), delta)
            delta = delta.detach() + 2.5 * EPSILON / STEPS * g / g.square().sum().sqrt()
            norm = delta.square().sum().sqrt()
            if norm > EPSILON:
                delta = delta * EPSILON / norm
        assert torch.allclose(got, picture + delta, atol=1e-6)
        assert (got - picture).norm() <= EPSILON + 1e-6
    network.train()


def test_the_strongest_attack_on_a_linear_model_is_found():
    w = torch.rand(16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def model(x: Tensor) -> Tensor:
        z = x.flatten(1) @ w
        return torch.stack([z, -z], dim=1)

    x = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    attacked = l2_attack(model, x, torch.tensor([0, 1]), EPSILON, STEPS).flatten(1)
    assert torch.allclose(attacked, torch.stack([-w, w]) / w.norm() * EPSILON, atol=1e-6)


def test_the_network_and_the_pictures_are_left_alone(network: nn.Module):
    state = {name: value.clone() for name, value in network.state_dict().items()}
    pictures = _pictures()
    l2_attack(network, pictures, TARGETS, EPSILON, STEPS)
    assert torch.equal(pictures, _pictures())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert network.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
