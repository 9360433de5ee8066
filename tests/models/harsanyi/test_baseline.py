"""Learned baselines: the gradient against finite differences, known optima, bounds, batches, what stays as it is."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.baseline import _Game, sparsify
from conceptry.models.harsanyi.game import Reward, rewards_of
from conceptry.models.harsanyi.interactions.moebius import moebius
from conceptry.models.harsanyi.maskers.tensors import TensorMasker


def network(features: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Linear(features, 16),
            torch.nn.Tanh(),
            torch.nn.Linear(16, 16),
            torch.nn.Tanh(),
            torch.nn.Linear(16, 3),
        ).to(dtype)


def problem(seed: int, dtype: torch.dtype = torch.float64):
    """Rewards of a network of 7 features, and the sample, baseline and owner of 4 players with a background."""
    generator = torch.Generator().manual_seed(seed)
    model = network(7, seed, dtype)
    x = torch.randn(7, generator=generator, dtype=dtype) * 2
    baseline = torch.randn(7, generator=generator, dtype=dtype) * 0.3
    reward = Reward()
    return (lambda z: reward(3 * model(z), "logits", 1)), x, baseline, torch.tensor([0, 1, 1, -1, 2, 3, 0])


def literal_l1(forward, x, baseline, owner, n, subtract_empty=False) -> float:
    """The definition: all subsets, all subsets of each."""
    present = list(itertools.product([False, True], repeat=n))
    owners = owner.flatten().tolist()
    rows = [
        torch.stack(
            [a if k < 0 or s[k] else b for a, b, k in zip(x.flatten(), baseline.flatten(), owners, strict=True)]
        )
        for s in present
    ]
    v = [float(value) for value in forward(torch.stack(rows).reshape(-1, *x.shape)).detach()]
    if subtract_empty:
        v = [value - v[0] for value in v]
    total = 0.0
    for s in present:
        inner = [k for k, t in enumerate(present) if all(b or not a for a, b in zip(t, s, strict=True))]
        total += abs(sum((-1) ** (sum(s) - sum(present[k])) * v[k] for k in inner))
    return total


@pytest.mark.parametrize("subtract_empty", [False, True])
@pytest.mark.parametrize("batch_size", [4096, 5])
def test_gradient_is_that_of_finite_differences(batch_size, subtract_empty):
    forward, x, baseline, owner = problem(0)
    game = _Game(forward, x, owner, 4, batch_size, subtract_empty)
    l1, _, g = game.evaluate(baseline, gradient=True)
    assert l1 == pytest.approx(literal_l1(forward, x, baseline, owner, 4, subtract_empty), rel=1e-10)
    assert g is not None
    assert g[3] == 0  # the background
    step = 1e-6
    for k in range(7):
        shift = torch.zeros(7, dtype=torch.float64)
        shift[k] = step
        high, low = (literal_l1(forward, x, baseline + sign * shift, owner, 4, subtract_empty) for sign in (1, -1))
        assert g[k].item() == pytest.approx((high - low) / (2 * step), rel=1e-5, abs=1e-6)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), lr=st.floats(0.01, 3), subtract_empty=st.booleans())
def test_never_above_the_initial_one_and_within_bounds(seed, lr, subtract_empty):
    forward, x, baseline, owner = problem(seed)
    lower, upper = baseline - 0.4, baseline + 0.2
    result = sparsify(
        forward, x, baseline, owner, 4, lower=lower, upper=upper, steps=20, lr=lr, subtract_empty=subtract_empty
    )
    assert result.l1.shape == (21,)
    assert result.final_l1 == result.l1.min() == result.l1[result.best] <= result.initial_l1 == result.l1[0]
    assert (lower <= result.baseline).all()
    assert (result.baseline <= upper).all()
    assert result.baseline[3] == baseline[3]
    assert result.final_l1 == pytest.approx(
        literal_l1(forward, x, result.baseline, owner, 4, subtract_empty), rel=1e-10
    )
    i = moebius(result.v)
    assert np.abs(i[int(subtract_empty) :]).sum() == pytest.approx(result.final_l1, rel=1e-12)


def test_the_steps_are_as_stated():
    forward, x, baseline, owner = problem(3)
    scale = torch.linspace(0.5, 2, 7, dtype=torch.float64)
    b = baseline
    game = _Game(forward, x, owner, 4, 4096, False)
    expected = []
    for rate in [*np.geomspace(0.3, 0.03, 6), 0.0]:
        l1, _, g = game.evaluate(b, gradient=True)
        expected.append(l1)
        assert g is not None
        b = (b - rate * scale * g.sign()).clamp(-1.0, 1.0)
    result = sparsify(forward, x, baseline, owner, 4, lower=-1.0, upper=1.0, scale=scale, steps=6, lr=0.3)
    np.testing.assert_allclose(result.l1, expected, rtol=1e-12)


def test_a_product_is_learned_down_to_its_full_pattern():
    # v(S) = prod_S (x - c) prod_rest (b - c), so L = prod (|x - b| + |b - c|) >= prod |x - c| = |v(N)|: the optimum,
    # and only where every b is between c and x
    c = torch.tensor([0.3, -0.2, 0.1, 0.4, -0.5], dtype=torch.float64)
    x = c + torch.tensor([1.0, -1.5, 0.8, -2.0, 1.2], dtype=torch.float64)
    start = c - 0.7 * (x - c).sign()
    result = sparsify(lambda z: (z - c).prod(1), x, start, torch.arange(5), 5, lower=-2.0, upper=2.0)
    assert result.initial_l1 > 20 * (x - c).abs().prod()
    assert result.final_l1 == pytest.approx((x - c).abs().prod().item(), rel=1e-9)
    between = (result.baseline - c) * (result.baseline - x)
    assert (between <= 1e-9).all()
    # at b = c itself the full pattern is all there is
    _, v, _ = _Game(lambda z: (z - c).prod(1), x, torch.arange(5), 5, 4096, False).evaluate(c, gradient=False)
    assert moebius(v).abs().gt(1e-12).nonzero().flatten().tolist() == [31]


def test_the_best_iterate_is_kept_where_steps_overshoot():
    target = 0.25  # L = |b - target| + 1 + ||x - target| - |b - target||, which a long step makes large
    result = sparsify(
        lambda z: (z[:, 0] - target).abs() + 1, torch.tensor([0.5]), torch.tensor([-0.1]), torch.tensor([0]), 1,
        lower=-50.0, upper=50.0, steps=4, lr=40.0,
    )  # fmt: skip
    assert result.l1[1:].min() > result.l1[0]
    assert result.best == 0
    assert result.baseline.item() == pytest.approx(-0.1)
    assert result.v.tolist() == pytest.approx([1.35, 1.25])


@pytest.mark.parametrize("batch_size", [1, 3, 16, 17])
def test_batches_change_nothing(batch_size):
    forward, x, baseline, owner = problem(5)
    seen = []

    def recorded(z):
        seen.append(len(z))
        return forward(z)

    whole = sparsify(forward, x, baseline, owner, 4, lower=-1.0, upper=1.0, steps=10)
    parts = sparsify(recorded, x, baseline, owner, 4, lower=-1.0, upper=1.0, steps=10, batch_size=batch_size)
    np.testing.assert_allclose(parts.l1, whole.l1, rtol=1e-9)
    np.testing.assert_allclose(parts.v, whole.v, rtol=1e-9)
    torch.testing.assert_close(parts.baseline, whole.baseline)
    assert max(seen) <= batch_size
    assert sum(seen) == 16 * (11 if batch_size >= 16 else 21)  # in batches, a second pass for each step


def test_features_of_any_shape_and_progress():
    generator = torch.Generator().manual_seed(0)
    x, baseline = torch.randn(3, 4, generator=generator), torch.zeros(3, 4)
    owner = torch.arange(3)[:, None].expand(3, 4)
    model = network(12, dtype=torch.float32)
    heard = []
    result = sparsify(
        lambda z: model(z.flatten(1))[:, 0], x, baseline, owner, 3,
        lower=-0.5, upper=torch.full((3, 4), 0.5), steps=5, progress=lambda *told: heard.append(told),
    )  # fmt: skip
    assert result.baseline.shape == (3, 4)
    assert result.baseline.dtype == torch.float32
    assert result.v.dtype == np.float64
    assert result.final_l1 < result.initial_l1
    assert heard == [("sparsify", k / 5) for k in range(1, 6)]


def test_the_rewards_are_those_of_the_game_with_that_baseline():
    forward, x, baseline, owner = problem(6, torch.float32)

    class Model:
        form = "values"

        def __call__(self, inputs):
            raise AssertionError("tensors go to forward")

        def forward(self, z):
            return forward(z)[:, None]

    result = sparsify(forward, x, baseline, owner, 4, lower=-1.0, upper=1.0, steps=10)
    v = rewards_of(Model(), TensorMasker(x, result.baseline, owner, "abcd"), Reward("output"), 0)
    assert np.array_equal(v, result.v)  # masking is exact, so to the bit


def test_model_and_arguments_stay_as_they_are_and_equal_calls_give_equal_results():
    model = network(4, dtype=torch.float32)
    model[0].bias.requires_grad_(False)
    model.train()
    x, baseline = torch.ones(4), torch.zeros(4).requires_grad_()

    def learn(x=x, baseline=baseline):
        return sparsify(lambda z: model(z)[:, 0], x, baseline, torch.arange(4), 4, lower=-1.0, upper=1.0, steps=5)

    result = learn()
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True, True, True]
    assert all(p.grad is None for p in model.parameters())
    assert baseline.grad is None
    assert not baseline.any()
    assert not result.baseline.requires_grad
    with torch.inference_mode():
        again = learn(x.clone(), baseline.clone())
    with torch.no_grad():
        third = learn()
    for other in (again, third):
        assert torch.equal(result.baseline, other.baseline)
        assert np.array_equal(result.l1, other.l1)


@pytest.mark.parametrize(
    "forward",
    [
        lambda z: torch.from_numpy(z.detach().numpy().sum(1)),
        lambda z: torch.from_numpy(z.numpy().sum(1)),
        lambda z: z.detach().sum(1) * torch.ones((), requires_grad=True),
    ],
)
@pytest.mark.parametrize("batch_size", [2, 100])
def test_a_model_without_gradients_is_refused(forward, batch_size):
    with pytest.raises(InputError, match=r"needs a differentiable \(torch\) model.*: mean, median, mode"):
        sparsify(
            forward, torch.ones(3), torch.zeros(3), torch.arange(3), 3, lower=-1.0, upper=1.0, batch_size=batch_size
        )


def test_other_errors_of_a_model_are_its_own():
    def forward(z):
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        sparsify(forward, torch.ones(3), torch.zeros(3), torch.arange(3), 3, lower=-1.0, upper=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "number of players must be 1 to 20, got 0"),
        ({"n": 21}, "number of players must be 1 to 20, got 21; group players"),
        ({"n": 2}, r"owner must hold each of the players 0 to 1, .* got \[0, 1, 2\]"),
        ({"baseline": torch.zeros(2)}, r"must have one shape, got \(3,\), \(2,\) and \(3,\)"),
        ({"baseline": torch.full((3,), torch.nan)}, "baseline: 3 of 3 are NaN or infinite"),
        ({"lower": 0.5}, "the initial baseline is out of its bounds in 3 of 3 features"),
        ({"upper": torch.tensor([1.0, -1.0, 1.0])}, "out of its bounds in 1 of 3 features"),
        ({"upper": torch.ones(4)}, r"upper must be a number or of the shape \(3,\) of the features, got \(4,\)"),
        ({"scale": 0.0}, "scale must be finite and above 0 in every feature, got 0.0"),
        ({"steps": 0}, "steps and batch_size must be at least 1, got 0 and 4096"),
        ({"batch_size": 0}, "steps and batch_size must be at least 1, got 50 and 0"),
        ({"lr": -1.0}, "lr must be a finite number above 0, got -1.0"),
        ({"forward": lambda z: z}, r"forward must return rewards \(8,\), got shape \(8, 3\)"),
        ({"forward": lambda z: z.sum(1) / 0}, "NaN or infinite rewards for 8 of 8 masked inputs"),
        ({"forward": lambda z: z.sum(1).sqrt()}, "the gradient .* is NaN or infinite"),
    ],
)
def test_refusals(change, message):
    arguments = {
        "forward": lambda z: z.sum(1),
        "x": torch.ones(3),
        "baseline": torch.zeros(3),
        "owner": torch.arange(3),
        "n": 3,
        "lower": -1.0,
        "upper": 1.0,
    }
    with pytest.raises(InputError, match=message):
        sparsify(**arguments | change)
