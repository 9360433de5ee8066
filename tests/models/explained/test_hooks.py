"""A model is given back as it was found, whatever happened in between."""

import pytest
import torch
from torch import nn

from conceptry.models.errors import InputError
from conceptry.models.explained.hooks import tracked
from conceptry.models.perturbation import L2FrankWolfe, gradient_ascent, untouched


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model[4].weight.grad = torch.ones(3, 6)
    model[2].register_forward_hook(lambda module, args, output: None)
    return model


def snapshot(model):
    """What a run must not change; tensors by identity and by value."""
    return (
        [part.training for part in model.modules()],
        [(p.requires_grad, id(p.grad), None if p.grad is None else p.grad.tolist()) for p in model.parameters()],
        [(name, tensor.tolist()) for name, tensor in model.state_dict().items()],
        [(list(part._forward_hooks), list(part._forward_pre_hooks)) for part in model.modules()],
    )


def run(model, **changes):
    arguments = {"data": torch.rand(2, 4), "target": [0, 2], "optimizer": L2FrankWolfe, "steps": 3, "epsilon": 1.0}
    return gradient_ascent(model=model, **arguments | changes)


def test_after_a_run(model):
    before = snapshot(model)
    run(model)
    assert snapshot(model) == before


class Breaks(nn.Module):
    """A part that fails at its n-th call."""

    def __init__(self, n):
        super().__init__()
        self.left = n

    def forward(self, x):
        self.left -= 1
        if not self.left:
            raise RuntimeError("out of order")
        return x


@pytest.mark.parametrize("n", [1, 2, 4])
def test_after_an_error_of_the_model(model, n):
    model.append(Breaks(n))
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="out of order"):
        run(model)
    assert snapshot(model) == before


def test_after_bad_arguments(model):
    before = snapshot(model)
    for changes in ({"target": [0, 9]}, {"criterion": lambda outputs, target: outputs}, {"epsilon": 0}):
        with pytest.raises(InputError):
            run(model, **changes)
    assert snapshot(model) == before


def test_hooks_left_behind_are_taken_away(model):
    before = snapshot(model)
    with untouched(model):
        model[4].register_forward_hook(lambda module, args, output: output * 2)
        model[0].register_forward_pre_hook(lambda module, args: None)
        next(iter(model[2]._forward_hooks))
        model[2]._forward_hooks.clear()
    assert snapshot(model) == before


def test_the_block_sees_evaluation_mode_and_frozen_parameters_also_when_nested(model):
    before = snapshot(model)
    with untouched(model):
        with untouched(model):
            pass
        assert not any(part.training for part in model.modules())
        assert not any(p.requires_grad for p in model.parameters())
    assert snapshot(model) == before


def test_a_function_that_names_its_module(model):
    class Scores:
        module = model

        def __call__(self, x):
            assert not model.training
            return model(x)

    before = snapshot(model)
    run(Scores())
    assert snapshot(model) == before


def test_other_functions_are_left_to_themselves_and_their_parameters_get_no_gradient(model):
    before = snapshot(model.eval())
    run(lambda x: model(x))
    assert snapshot(model) == before


def test_tensors_of_inference_mode_are_copied_for_gradients() -> None:
    with torch.inference_mode():
        made = torch.ones(2)
    assert not tracked(made).is_inference()
    assert tracked(plain := torch.ones(2)) is plain
    assert tracked([1]) == [1]
