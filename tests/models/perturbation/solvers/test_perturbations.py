"""Perturbations of a form of their own: universal ones, and draws that are uniform in norm balls."""

import importlib
import importlib.util
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from conceptry.models.errors import InputError
from conceptry.models.perturbation import AdditivePerturbation, L2FrankWolfe, gradient_ascent, original, random_restart

BATCH, CLASSES, SHAPE = 6, 4, (2, 5, 5)
ORDERS = {
    "uniform_like_l1_n_ball_": 1,
    "uniform_like_l2_n_ball_": 2,
    "uniform_like_linf_n_ball_": torch.inf,
}
needs_rival = pytest.mark.skipif(importlib.util.find_spec("rai_toolbox") is None, reason="rai-toolbox is not installed")


@pytest.fixture(scope="module")
def common():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(50, 16), nn.Softplus(), nn.Linear(16, CLASSES))
    data = torch.rand(BATCH, *SHAPE, generator=torch.Generator().manual_seed(1))
    return {"model": model, "data": data, "target": torch.arange(BATCH) % CLASSES}


def literal(common, epsilon, steps, targeted):
    """One delta for all pictures by L2 Frank-Wolfe on the mean loss: (perturbed, losses, delta)."""
    delta = torch.zeros(SHAPE, requires_grad=True)
    for t in range(steps):
        losses = functional.cross_entropy(common["model"](common["data"] + delta), common["target"], reduction="none")
        (g,) = torch.autograd.grad(losses.mean() * (1 if targeted else -1), delta)
        a = 2 / (2 + t)
        delta = ((1 - a) * delta - a * epsilon * g / g.norm()).detach().requires_grad_()
    perturbed = (common["data"] + delta).detach()
    losses = functional.cross_entropy(common["model"](perturbed), common["target"], reduction="none")
    return perturbed, losses.detach(), delta.detach()


@pytest.mark.parametrize("targeted", [False, True])
def test_one_perturbation_for_all_pictures(common, targeted) -> None:
    perturbed, losses = gradient_ascent(
        **common, optimizer=L2FrankWolfe, steps=6, targeted=targeted, epsilon=1.5, param_ndim=None,
        perturbation_model=partial(AdditivePerturbation, delta_ndim=-1), reduction_fn=torch.mean,
    )  # fmt: skip
    wanted, wanted_losses, delta = literal(common, 1.5, 6, targeted)
    torch.testing.assert_close(perturbed, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses, wanted_losses, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(perturbed - common["data"], delta.expand_as(perturbed), rtol=0, atol=1e-5)
    with torch.no_grad():
        before = functional.cross_entropy(common["model"](common["data"]), common["target"])
    assert (losses.mean() < before) == targeted


def test_a_model_and_an_optimiser_that_are_made_already(common) -> None:
    shared = AdditivePerturbation(common["data"], delta_ndim=-1)
    options = {"steps": 4, "perturbation_model": shared, "reduction_fn": torch.mean}
    perturbed, _ = gradient_ascent(
        **common, optimizer=L2FrankWolfe([shared.delta], epsilon=1.5, param_ndim=None), **options
    )
    torch.testing.assert_close(perturbed, common["data"] + shared.delta.detach())
    assert shared.delta.requires_grad
    assert shared.delta.grad is None
    # It goes on from where it is: a second optimiser of the same kind forgets it in its first step.
    again, _ = gradient_ascent(**common, optimizer=torch.optim.SGD, lr=0.0, **options)
    torch.testing.assert_close(again, perturbed)


def test_the_best_iterate_of_each_picture_is_one_of_those_that_all_share(common) -> None:
    options = {
        "optimizer": torch.optim.SGD, "lr": 4.0, "reduction_fn": torch.mean, "use_best": True,
        "perturbation_model": partial(AdditivePerturbation, delta_ndim=-1),
    }  # fmt: skip
    iterates = [gradient_ascent(**common, **options | {"use_best": False}, steps=t) for t in range(9)]
    losses = torch.stack([found[1] for found in iterates])
    best = losses.argmax(0)
    assert len(set(best.tolist())) > 1
    perturbed, got = gradient_ascent(**common, **options, steps=8)
    assert torch.equal(got, losses.max(0).values)
    for i, t in enumerate(best.tolist()):
        assert torch.equal(perturbed[i], iterates[t][0][i])


def test_any_module_may_perturb(common) -> None:
    class Gain(nn.Module):
        def __init__(self, data):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(len(data), 1, 1, 1))

        def forward(self, data):
            return data * self.gain

    model = Gain(common["data"])
    perturbed, _ = gradient_ascent(**common, perturbation_model=model, optimizer=torch.optim.SGD, lr=0.5, steps=3)
    torch.testing.assert_close(perturbed, common["data"] * model.gain.detach())
    assert (model.gain != 1).all()
    low = gradient_ascent(
        **common, perturbation_model=Gain, optimizer=torch.optim.SGD, lr=0.5, steps=3, precision="float16"
    )[0]
    torch.testing.assert_close(low, perturbed, rtol=0.05, atol=0.05)


def test_restarts_from_the_balls_keep_the_best_of_each_picture() -> None:
    def losses(outputs, target):
        seen.append(outputs.detach().clone())
        return (outputs - target).abs()

    seen: list[torch.Tensor] = []
    start = partial(
        AdditivePerturbation, init_fn=original.uniform_like_l1_n_ball_, generator=torch.Generator().manual_seed(0)
    )
    perturbed, best = random_restart(gradient_ascent, 3)(
        perturbation_model=start, data=[-1.0, 2.0], target=0.0, model=lambda data: data, criterion=losses,
        optimizer=torch.optim.SGD, lr=0.1, steps=1,
    )  # fmt: skip
    ends = torch.stack(seen[1::2]).abs()
    assert len(ends) == 3
    assert torch.equal(best, ends.max(0).values)
    assert torch.equal(perturbed.abs(), best)


def test_restarts_take_a_solver_with_arguments_by_position() -> None:
    generator = torch.Generator().manual_seed(0)

    def solver(data, lr):
        return gradient_ascent(
            data=data, target=0.0, model=lambda x: x, criterion=lambda x, y: (x - y).abs(), lr=lr, steps=1,
            optimizer=torch.optim.SGD,
            perturbation_model=partial(
                AdditivePerturbation, init_fn=original.uniform_like_linf_n_ball_, generator=generator
            ),
        )  # fmt: skip

    alone = [solver([-1.0, 2.0], 0.1) for _ in range(3)]
    generator.manual_seed(0)
    _, losses = random_restart(solver, 3)([-1.0, 2.0], 0.1)
    assert torch.equal(losses, torch.stack([loss for _, loss in alone]).max(0).values)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"perturbation_modle": 1}, "gradient_ascent has no argument 'perturbation_modle', and L2FrankWolfe no such "
         "option; expected one such as perturbation_model"),
        ({"perturbation_model": 3}, "perturbation_model must be a torch module of pictures, or make one .* got int"),
        ({"perturbation_model": nn.Flatten()}, "perturbation_model has no parameter that asks for a gradient"),
        ({"perturbation_model": nn.Linear(5, 3)}, r"perturbation_model must return the pictures' shape \(6, 2, 5, 5\)"),
        ({"perturbation_model": AdditivePerturbation, "pixel_range": (0, 1)}, "pixel_range is of a delta for each"),
        ({"reduction_fn": torch.abs}, r"reduction_fn must return one number for all losses, got shape \(6,\)"),
        ({"reduction_fn": "mean"}, r"reduction_fn must be a function of \(batch,\) losses, got a str"),
        ({"data": [[1.0], [1.0, 2.0]]}, "data must be a tensor, or numbers in lists of one length, got another list"),
        ({"param_ndim": 7}, "param_ndim must be None or a whole number from -4 to 4 .* got 7"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(common, change, sentence) -> None:
    with pytest.raises(InputError, match=sentence):
        gradient_ascent(**common | {"optimizer": L2FrankWolfe, "steps": 1, "epsilon": 1.0} | change)


def test_unknown_keywords_are_those_of_the_call(common) -> None:
    for optimizer in (torch.optim.SGD, original.L2ProjectedOptim, partial(L2FrankWolfe, epsilon=1.0)):
        with pytest.raises(InputError, match=r"gradient_ascent has no argument 'epsilom', and .* no such option"):
            gradient_ascent(**common, optimizer=optimizer, steps=1, epsilom=2.0)
    options = {"epsilon": 1.0, "lr": 0.1, "momentum": 0.9}
    gradient_ascent(**common, optimizer=original.L2ProjectedOptim, steps=1, **options)


def test_an_optimiser_that_is_made_needs_its_parameters_to_be_there(common) -> None:
    shared = AdditivePerturbation(common["data"])
    made = L2FrankWolfe([shared.delta], epsilon=1.0)
    with pytest.raises(InputError, match="L2FrankWolfe made already; that needs a perturbation_model made already"):
        gradient_ascent(**common, optimizer=made, steps=1)
    with pytest.raises(InputError, match="L2FrankWolfe made already; that needs a perturbation_model made already"):
        gradient_ascent(**common, optimizer=made, perturbation_model=AdditivePerturbation, steps=1)
    with pytest.raises(InputError, match="epsilon is an option of an optimiser to be made, and L2FrankWolfe is made"):
        gradient_ascent(**common, optimizer=made, perturbation_model=shared, steps=1, epsilon=1.0)


@pytest.mark.parametrize("name", ORDERS)
def test_draws_fill_their_ball_evenly(name) -> None:
    x = torch.empty(20_000, 3)
    getattr(original, name)(x, epsilon=2.0, generator=torch.Generator().manual_seed(0))
    norms = torch.linalg.vector_norm(x, ord=ORDERS[name], dim=1)
    assert norms.max() <= 2 * (1 + 1e-6)
    for share in (0.25, 0.5, 0.75):  # the ball of radius r holds (r / epsilon)^3 of the draws
        assert float((norms <= 2 * share).float().mean()) == pytest.approx(share**3, abs=0.012)
    assert (x > 0).float().mean(0).tolist() == pytest.approx([0.5] * 3, abs=0.012)


@pytest.mark.parametrize("name", ["uniform_like_l1_n_ball_", "uniform_like_l2_n_ball_"])
def test_one_draw_for_the_whole_tensor_is_one_point_of_the_ball(name) -> None:
    norms = []
    for param_ndim in (None, 2):
        x = torch.empty(2, 3)
        getattr(original, name)(x, param_ndim=param_ndim, generator=torch.Generator().manual_seed(0))
        norms.append(float(torch.linalg.vector_norm(x, ord=ORDERS[name])))
    assert norms[0] == norms[1] <= 1
    torch.manual_seed(0)
    first, second = torch.empty(4, 3), torch.empty(4, 3)
    getattr(original, name)(first)  # torch's own generator where none is given
    torch.manual_seed(0)
    getattr(original, name)(second)
    assert torch.equal(first, second)
    with pytest.raises(InputError, match="epsilon must be a finite number above 0, got 0"):
        getattr(original, name)(x, epsilon=0)


def test_shapes_of_an_additive_perturbation() -> None:
    assert AdditivePerturbation((4, 3, 2)).delta.shape == (4, 3, 2)
    data = torch.zeros(4, 3, 2, dtype=torch.float64)
    for delta_ndim, shape in ((-1, (3, 2)), (1, (2,)), (None, (4, 3, 2)), (0, ()), (-3, ())):
        made = AdditivePerturbation(data, delta_ndim=delta_ndim)
        assert made.delta.shape == shape
        assert made.delta.dtype == torch.float64
        assert made(data).shape == data.shape
    assert AdditivePerturbation(data, dtype=torch.float32).delta.dtype == torch.float32
    with pytest.raises(InputError, match="delta_ndim must be from -3 to 3, got 4"):
        AdditivePerturbation(data, delta_ndim=4)
    with pytest.raises(InputError, match="generator is of an init_fn, and none is given"):
        AdditivePerturbation(data, generator=None)


@needs_rival
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("use_best", [False, True])
@pytest.mark.parametrize("name", ["L2FrankWolfe", "L1qFrankWolfe", "L2ProjectedOptim"])
def test_universal_perturbations_are_those_of_rai_toolbox_to_the_last_bit(common, name, use_best, targeted) -> None:
    theirs, optim = (importlib.import_module(f"rai_toolbox.{part}") for part in ("perturbations", "optim"))
    options = {
        "epsilon": 1.5, "lr": 0.4, "steps": 6, "param_ndim": None, "reduction_fn": torch.mean,
        "use_best": use_best, "targeted": targeted, **({"q": 0.8} if name == "L1qFrankWolfe" else {}),
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TypedStorage is deprecated")  # it looks at storages the old way
        wanted = theirs.gradient_ascent(
            **common, **options, optimizer=getattr(optim, name),
            perturbation_model=partial(theirs.AdditivePerturbation, delta_ndim=-1),
        )  # fmt: skip
    got = gradient_ascent(
        **common, **options, optimizer=getattr(original, name),
        perturbation_model=partial(AdditivePerturbation, delta_ndim=-1),
    )  # fmt: skip
    assert torch.equal(got[0], wanted[0])
    assert torch.equal(got[1], wanted[1])


@needs_rival
@pytest.mark.parametrize("name", ORDERS)
def test_draws_are_those_of_rai_toolbox(name) -> None:
    theirs = getattr(importlib.import_module("rai_toolbox.perturbations"), name)
    drawn = []
    for draw in (theirs, getattr(original, name)):
        x = torch.zeros(3, 2, 4)
        draw(x, epsilon=2.0, generator=torch.Generator().manual_seed(5))
        drawn.append(x)
    torch.testing.assert_close(drawn[0], drawn[1], rtol=1e-6, atol=1e-7)
