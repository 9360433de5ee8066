"""Every transform against its definition, image by image, and against rai-toolbox where that is installed."""

import copy
import importlib
import importlib.util
import warnings
from functools import partial

import pytest
import torch
from torch.optim import SGD, Adam

from conceptry.models.errors import InputError
from conceptry.models.perturbation import L1qFrankWolfe, original

needs_rival = pytest.mark.skipif(importlib.util.find_spec("rai_toolbox") is None, reason="rai-toolbox is not installed")
SHAPE = (3, 2, 4)
LR = 0.5


def literal_top(g, k):
    """The k entries of one image's gradient that are largest, the first ones of equal ones."""
    flat = g.flatten().tolist()
    kept = sorted(range(len(flat)), key=lambda i: (-abs(flat[i]), i))[:k]
    return torch.tensor([v if i in kept else 0.0 for i, v in enumerate(flat)]).view(g.shape)


def literal_l1q(g, k):
    signs = literal_top(g, k).sign()
    return signs / max(int(signs.abs().sum()), 1)


def clipped_to(norm):
    return lambda delta: delta * min(1.0, norm / (float(delta.norm()) + 1e-7))


# name, options, what becomes of one image's gradient, what becomes of delta after the step
CASES = {
    "L1NormedGradientOptim": ({}, lambda g: g / g.abs().sum(), None),
    "L2NormedGradientOptim": ({}, lambda g: g / g.norm(), None),
    "SignedGradientOptim": ({}, lambda g: g.sign(), None),
    "TopQGradientOptimizer": ({"q": 0.7}, lambda g: literal_top(g, 2), None),
    "L1qNormedGradientOptim": ({"q": 0.7}, lambda g: literal_l1q(g, 2), None),
    "ClampedGradientOptimizer": ({"clamp_min": -0.4}, lambda g: g.clamp(min=-0.4), None),
    "ClampedParameterOptimizer": ({"clamp_max": 0.1}, lambda g: g, lambda delta: delta.clamp(max=0.1)),
    "L2ProjectedOptim": ({"epsilon": 0.7}, lambda g: g / g.norm(), clipped_to(0.7)),
    "LinfProjectedOptim": ({"epsilon": 0.3}, lambda g: g.sign(), lambda delta: delta.clamp(-0.3, 0.3)),
}


def gradients(steps, shape=SHAPE):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for _ in range(steps)]


def run(make, gradients, options, start=None):
    """delta after as many steps as there are gradients."""
    delta = (torch.zeros(gradients[0].shape) if start is None else start.clone()).requires_grad_()
    optimizer = make([delta], **options)
    for g in gradients:
        delta.grad = g.clone()
        optimizer.step()
    return delta.detach(), optimizer


@pytest.mark.parametrize("name", CASES)
def test_a_step_is_what_its_definition_says(name) -> None:
    options, transform, project = CASES[name]
    got, _ = run(getattr(original, name), gradients(4), {"lr": LR, **options})
    for image in range(SHAPE[0]):
        delta = torch.zeros(SHAPE[1:])
        for g in gradients(4):
            delta = delta - LR * transform(g[image])
            delta = delta if project is None else project(delta)
        torch.testing.assert_close(got[image], delta, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("param_ndim", "rows"), [(None, 1), (2, 3), (-1, 3), (1, 6), (-2, 6), (0, 24), (-3, 24)])
def test_param_ndim_says_what_an_image_is(param_ndim, rows) -> None:
    (g,) = gradients(1)
    got, _ = run(original.L2NormedGradientOptim, [g], {"lr": 1.0, "param_ndim": param_ndim})
    images = g.reshape(rows, -1)
    torch.testing.assert_close(got.reshape(rows, -1), -images / images.norm(dim=1, keepdim=True))
    frank_wolfe, _ = run(original.L2FrankWolfe, [g], {"epsilon": 2.0, "param_ndim": param_ndim})
    torch.testing.assert_close(frank_wolfe, 2 * got)


def test_a_scale_a_bias_and_another_inner_step() -> None:
    steps = gradients(3)
    options = {"lr": 0.1, "grad_scale": 2.0, "grad_bias": 0.25}
    got, optimizer = run(original.SignedGradientOptim, steps, {"InnerOpt": Adam, **options})
    delta = torch.zeros(SHAPE, requires_grad=True)
    adam = Adam([delta], lr=0.1)
    for g in steps:
        delta.grad = 2 * g.sign() + 0.25
        adam.step()
    torch.testing.assert_close(got, delta.detach())
    assert optimizer.state is optimizer.inner_opt.state
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)


def test_a_frank_wolfe_optimiser_is_a_transform_with_the_frank_wolfe_step() -> None:
    steps = gradients(5)
    options = {"q": 0.7, "InnerOpt": original.FrankWolfe, "lmo_scaling_factor": 3.0, "lr": 1.5}
    got, _ = run(original.L1qNormedGradientOptim, steps, options)
    wanted, _ = run(L1qFrankWolfe, steps, {"q": 0.7, "epsilon": 3.0, "lr": 1.5})
    torch.testing.assert_close(got, wanted)


def test_transforms_in_a_row_and_further_groups() -> None:
    first, second = torch.ones(3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    chain = original.ChainedParamTransformingOptimizer(
        partial(original.TopQGradientOptimizer, q=0.33),
        partial(original.ClampedGradientOptimizer, clamp_max=2.8),
        params=[first],
        lr=1.0,
        param_ndim=None,
    )
    chain.add_param_group({"params": second, "param_ndim": 1, "q": 0.64})
    weights = torch.tensor([1.0, 2.0, 3.0])
    (weights * (first + second)).sum().backward()
    chain.step()
    assert first.grad is not None
    assert second.grad is not None
    torch.testing.assert_close(first.grad, torch.tensor([0.0, 2.8, 2.8]))  # gradients of 2, 4 and 6
    torch.testing.assert_close(second.grad, torch.tensor([[0.0, 0.0, 2.8]] * 2))
    torch.testing.assert_close(first.detach(), torch.tensor([1.0, -1.8, -1.8]))


def test_a_copy_and_a_stored_state_go_on_as_the_optimiser_would() -> None:
    steps = gradients(4)
    options = {"epsilon": 0.7, "InnerOpt": partial(SGD, momentum=0.9), "lr": LR}
    wanted, _ = run(original.L2ProjectedOptim, steps, options)
    halfway, optimizer = run(original.L2ProjectedOptim, steps[:2], options)
    delta = halfway.clone().requires_grad_()
    restored = original.L2ProjectedOptim([delta], **options)
    restored.load_state_dict(optimizer.state_dict())
    copied = copy.deepcopy(restored)
    (other,) = copied.param_groups[0]["params"]
    for moved, mover in ((delta, restored), (other, copied)):
        for g in steps[2:]:
            moved.grad = g.clone()
            mover.step()
        torch.testing.assert_close(moved.detach(), wanted)


def test_a_closure_is_called_before_the_transform() -> None:
    delta = torch.tensor([[3.0, 4.0]], requires_grad=True)
    optimizer = original.L2NormedGradientOptim([delta], lr=1.0)

    def closure():
        optimizer.zero_grad()
        loss = (delta**2).sum() / 2
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 12.5
    torch.testing.assert_close(delta.detach(), torch.tensor([[2.4, 3.2]]))


def test_a_transform_of_the_users_own() -> None:
    class Halved(original.ParamTransformingOptimizer):
        def _pre_step_transform_(self, param, optim_group):
            param.grad /= 2

    class Replaced(original.ParamTransformingOptimizer):
        def _pre_step_transform_(self, param, optim_group):
            param.grad = param.grad / 2

    (g,) = gradients(1)
    torch.testing.assert_close(run(Halved, [g], {"lr": 1.0})[0], -g / 2)
    with pytest.raises(InputError, match="Replaced: a transform must change the gradient in place"):
        run(Replaced, [g], {"lr": 1.0})


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("TopQGradientOptimizer", {"q": 1.5}, "q must be a number from 0 to 1, got 1.5"),
        ("ClampedGradientOptimizer", {}, "clamp_min and clamp_max must be one number or two"),
        ("ClampedParameterOptimizer", {"clamp_min": 1, "clamp_max": 0}, "the least first, got 1, 0"),
        ("L2ProjectedOptim", {"epsilon": 0.0}, "epsilon must be a finite number above 0, got 0.0"),
        ("L2NormedGradientOptim", {"div_by_zero_eps": -1.0}, "div_by_zero_eps must be a finite number of at least 0"),
        ("SignedGradientOptim", {"param_ndim": 4}, "param_ndim must be None or a whole number from -3 to 3 .* got 4"),
        ("SignedGradientOptim", {"grad_scale": "2"}, "grad_scale must be a finite number, got '2'"),
        ("L2FrankWolfe", {"epsilon": 1.0, "param_ndim": -4}, "param_ndim must be None or a whole number from -3 to 3"),
        ("FrankWolfe", {"lr": 2.0, "use_default_lr_schedule": False}, "lr must be a number from 0 to 1, got 2.0"),
    ],
)
def test_wrong_options_are_named(name, options, sentence) -> None:
    with pytest.raises(InputError, match=sentence):
        getattr(original, name)([torch.zeros(SHAPE, requires_grad=True)], **options)


def test_parameters_and_an_inner_optimiser_belong_together() -> None:
    delta = torch.zeros(SHAPE, requires_grad=True)
    with pytest.raises(InputError, match="params must be given where InnerOpt is a class"):
        original.SignedGradientOptim(None)
    with pytest.raises(InputError, match="InnerOpt is made already, so it takes no lr"):
        original.SignedGradientOptim(None, InnerOpt=SGD([delta], lr=1.0), lr=1.0)


@needs_rival
@pytest.mark.parametrize("param_ndim", [-1, None])
@pytest.mark.parametrize("name", [*CASES, "L1qFrankWolfe", "L2FrankWolfe", "LinfFrankWolfe"])
def test_steps_are_those_of_rai_toolbox_to_the_last_bit(name, param_ndim) -> None:
    options = {"param_ndim": param_ndim, **CASES.get(name, ({"epsilon": 2.0},))[0]}
    options |= {"q": 0.7} if name == "L1qFrankWolfe" else {}
    options |= {"lr": 1.0, "use_default_lr_schedule": True} if name.endswith("FrankWolfe") else {"lr": LR}
    theirs = getattr(importlib.import_module("rai_toolbox.optim"), name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TypedStorage is deprecated")  # it looks at storages the old way
        wanted, _ = run(theirs, gradients(5), options)
    got, _ = run(getattr(original, name), gradients(5), options)
    assert torch.equal(got, wanted)
