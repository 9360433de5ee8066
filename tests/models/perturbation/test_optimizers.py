"""Every optimiser against its definition, executed literally, image by image and in float64."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptry.models.errors import InputError
from conceptry.models.perturbation import (
    L1FrankWolfe,
    L1qFrankWolfe,
    L2FrankWolfe,
    L2Projected,
    LinfFrankWolfe,
    LinfProjected,
)
from conceptry.models.perturbation.optimizers import frank_wolfe, oracles
from conceptry.models.perturbation.optimizers.oracles import kept_entries, l1q_direction

FRANK_WOLFE = {
    L1qFrankWolfe: {"q": 0.7, "epsilon": 3.0},
    L1FrankWolfe: {"epsilon": 2.0},
    L2FrankWolfe: {"epsilon": 1.5},
    LinfFrankWolfe: {"epsilon": 0.3},
}
PROJECTED = {L2Projected: {"epsilon": 0.7, "lr": 0.3}, LinfProjected: {"epsilon": 0.3, "lr": 0.11}}
EVERY = FRANK_WOLFE | PROJECTED
NORM = {
    L1qFrankWolfe: 1,
    L1FrankWolfe: 1,
    L2FrankWolfe: 2,
    L2Projected: 2,
    LinfFrankWolfe: math.inf,
    LinfProjected: math.inf,
}
SHAPES = [(6,), (4, 7), (3, 2, 5), (3, 2, 4, 4), (2, 1, 2, 3, 2)]


def literal_vertex(kind, g, epsilon, k):
    """s for one image, a list of floats; what `kind` walks towards."""
    entries = range(len(g))
    if kind in (L1qFrankWolfe, L1FrankWolfe):
        kept = sorted(entries, key=lambda i: (-abs(g[i]), i))[: k if kind is L1qFrankWolfe else 1]
        kept = [i for i in kept if g[i] != 0]
        return [-epsilon * math.copysign(1, g[i]) / len(kept) if i in kept else 0.0 for i in entries]
    if kind is L2FrankWolfe:
        norm = math.sqrt(sum(v * v for v in g))
        return [-epsilon * v / norm if norm else 0.0 for v in g]
    return [-epsilon * float(np.sign(v)) for v in g]


def literal(kind, start, gradients, *, epsilon, q=None, lr=2.0, schedule=True):
    """(delta, gap of the last step) of one image as flat float64 arrays; `gradients` one for each step."""
    delta, gap = [float(v) for v in start], math.nan
    for t, g in enumerate(gradients):
        g = [float(v) for v in g]
        if kind is L2Projected:
            norm = math.sqrt(sum(v * v for v in g))
            delta = [d - lr * v / norm if norm else d for d, v in zip(delta, g, strict=True)]
            size = math.sqrt(sum(d * d for d in delta))
            delta = [d * epsilon / (size + 1e-7) if size > epsilon else d for d in delta]
        elif kind is LinfProjected:
            delta = [d - lr * float(np.sign(v)) for d, v in zip(delta, g, strict=True)]
            delta = [min(max(d, -epsilon), epsilon) for d in delta]
        else:
            s = literal_vertex(kind, g, epsilon, None if q is None else round((1 - q) * len(g)))
            gap = sum(v * (d - w) for v, d, w in zip(g, delta, s, strict=True))
            a = lr / (lr + t) if schedule else lr
            delta = [(1 - a) * d + a * w for d, w in zip(delta, s, strict=True)]
    return np.array(delta), gap


def gradients_of(shape, steps=5, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(steps)]


def run(kind, start, gradients, **options):
    """(delta, optimizer) after one step for each gradient."""
    delta = start.clone().requires_grad_()
    optimizer = kind([delta], **options)
    for gradient in gradients:
        delta.grad = gradient.clone()
        optimizer.step()
    return delta.detach(), optimizer, delta


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", EVERY)
def test_steps_are_those_of_the_definition_on_any_shape(kind, shape):
    gradients = gradients_of(shape)
    start = gradients_of(shape, 1, seed=1)[0] * 0.1
    got, optimizer, parameter = run(kind, start, gradients, **EVERY[kind])
    assert got.shape == shape
    for i in range(shape[0]):
        wanted, gap = literal(kind, start[i].reshape(-1), [g[i].reshape(-1) for g in gradients], **EVERY[kind])
        np.testing.assert_allclose(got[i].reshape(-1).numpy(), wanted, rtol=1e-5, atol=1e-6)
        if kind in FRANK_WOLFE:
            assert float(optimizer.gap(parameter)[i]) == pytest.approx(gap, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("options", [{"lr": 1.0}, {"lr": 0.4, "schedule": False}, {"lr": 7.5}])
@pytest.mark.parametrize("kind", FRANK_WOLFE)
def test_step_sizes_follow_lr_and_the_schedule(kind, options):
    gradients = gradients_of((2, 9), dtype=torch.float64)
    start = torch.full((2, 9), 0.05, dtype=torch.float64)
    got, *_ = run(kind, start, gradients, **FRANK_WOLFE[kind], **options)
    for i in range(2):
        wanted, _ = literal(kind, start[i], [g[i] for g in gradients], **FRANK_WOLFE[kind], **options)
        np.testing.assert_allclose(got[i].numpy(), wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", EVERY)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-12, 1.0, 1e12]), zeros=st.booleans())
@settings(max_examples=15, deadline=None)
def test_iterates_are_in_the_ball(kind, seed, scale, zeros):
    gradients = [g * scale for g in gradients_of((3, 2, 4, 4), 6, seed)]
    for g in gradients[: 6 if zeros else 0]:
        g[seed % 3] = 0
    delta = torch.zeros(3, 2, 4, 4).requires_grad_()
    optimizer = kind([delta], **EVERY[kind])
    for g in gradients:
        delta.grad = g
        optimizer.step()
        size = torch.linalg.vector_norm(delta.detach().flatten(1), ord=NORM[kind], dim=1)
        assert (size <= EVERY[kind]["epsilon"] * (1 + 1e-5)).all()


@pytest.mark.parametrize("kind", FRANK_WOLFE)
def test_the_first_step_forgets_the_start_bit_for_bit(kind):
    gradients = gradients_of((3, 2, 4, 4), 4)
    from_zero, *_ = run(kind, torch.zeros(3, 2, 4, 4), gradients, **FRANK_WOLFE[kind])
    from_afar, *_ = run(kind, torch.full((3, 2, 4, 4), 1e30), gradients, **FRANK_WOLFE[kind])
    assert torch.equal(from_zero, from_afar)


@pytest.mark.parametrize("kind", EVERY)
def test_images_do_not_know_of_each_other(kind):
    gradients = gradients_of((5, 1, 6, 6))
    order = torch.tensor([3, 0, 4, 2, 1])
    together, *_ = run(kind, torch.zeros(5, 1, 6, 6), gradients, **EVERY[kind])
    permuted, *_ = run(kind, torch.zeros(5, 1, 6, 6), [g[order] for g in gradients], **EVERY[kind])
    assert torch.equal(permuted, together[order])
    alone, *_ = run(kind, torch.zeros(1, 1, 6, 6), [g[2:3] for g in gradients], **EVERY[kind])
    torch.testing.assert_close(alone, together[2:3])


@pytest.mark.parametrize("kind", EVERY)
def test_the_scale_of_a_gradient_does_not_matter(kind):
    gradients = gradients_of((3, 8))
    one, *_ = run(kind, torch.zeros(3, 8), gradients, **EVERY[kind])
    large, *_ = run(kind, torch.zeros(3, 8), [g * 1024 for g in gradients], **EVERY[kind])
    torch.testing.assert_close(one, large)


def test_k_is_rounded_half_to_even_on_the_float64_product():
    for entries in (1, 5, 10, 64, 256, 150528):
        for q in (0.0, 0.1, 0.25, 0.5, 0.7, 0.9, 0.95, 0.975, 1.0):
            k = round((1 - q) * entries)
            assert kept_entries(q, entries) == k
            assert kept_entries(torch.tensor([q], dtype=torch.float64), entries).tolist() == [[k]]
    assert [kept_entries(0.5, n) for n in (1, 3, 5, 7)] == [0, 2, 2, 4]


@pytest.fixture(params=["on the CPU", "as on an accelerator"])
def device_rules(request, monkeypatch):
    """Both ways to choose the entries, on the CPU's tensors."""
    if request.param == "as on an accelerator":
        monkeypatch.setattr(oracles, "on_cpu", lambda tensor: False)


@pytest.mark.usefixtures("device_rules")
def test_exactly_k_entries_are_kept_the_first_of_equal_ones():
    g = torch.tensor([[2.0, -1, 1, 3, -1, 1], [1, 1, 1, 1, 1, 1], [0, 0, 5, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    signs, weight = l1q_direction(g, 3)
    assert signs.tolist() == [[1, -1, 0, 1, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0] * 6]
    assert weight[:3, 0].tolist() == pytest.approx([1 / 3, 1 / 3, 1])
    signs, _ = l1q_direction(g, torch.tensor([[1], [4], [6], [0]]))
    assert signs.tolist() == [[0, 0, 0, 1, 0, 0], [1, 1, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0], [0] * 6]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_ties_are_decided_as_by_a_stable_sort(values, k):
    k = min(k, len(values))
    kept = sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))[:k]
    wanted = [np.sign(v) if i in kept else 0 for i, v in enumerate(values)]
    for on_cpu in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(oracles, "on_cpu", lambda tensor, on_cpu=on_cpu: on_cpu)
            for each in (k, torch.tensor([[k]])):
                signs, _ = l1q_direction(torch.tensor([values], dtype=torch.float32), each)
                assert signs[0].tolist() == wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ties", [False, True])
def test_the_kernel_and_the_tensors_agree_to_the_last_bit(dtype, ties, monkeypatch):
    gradients = gradients_of((4, 3, 5, 5), 12, dtype=dtype)
    if ties:
        gradients = [g.round() for g in gradients]  # many zeros and many equal entries
        gradients[3][1] = 0
    per_image = {"q": torch.tensor([0.9, 0.0, 1.0, 0.5]), "epsilon": torch.tensor([1.0, 3.0, 2.0, 0.1])}
    cases = [(L1FrankWolfe, {"epsilon": 1.7}), (L1qFrankWolfe, {"q": 0.8, "epsilon": 3.3, "dq": 0.2})]
    for kind, options in [*cases, (L1qFrankWolfe, per_image), (L1qFrankWolfe, per_image | {"epsilon": 2.1})]:
        found = []
        for on_cpu in (True, False):
            for module in (oracles, frank_wolfe):
                monkeypatch.setattr(module, "on_cpu", lambda tensor, on_cpu=on_cpu: on_cpu)
            delta, optimizer, parameter = run(kind, torch.zeros(4, 3, 5, 5, dtype=dtype), gradients, **options)
            found.append((delta, optimizer.gap(parameter)))
        assert torch.equal(found[0][0], found[1][0])
        torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-4)


def test_epsilon_and_q_may_differ_by_image():
    gradients = gradients_of((3, 1, 5, 5))
    epsilon, q = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.9, 0.2, 0.6], dtype=torch.float64)
    together, *_ = run(L1qFrankWolfe, torch.zeros(3, 1, 5, 5), gradients, q=q, epsilon=epsilon)
    for i in range(3):
        one = [g[i : i + 1] for g in gradients]
        alone, *_ = run(L1qFrankWolfe, torch.zeros(1, 1, 5, 5), one, q=float(q[i]), epsilon=float(epsilon[i]))
        torch.testing.assert_close(alone, together[i : i + 1])
    for kind in (L2FrankWolfe, LinfFrankWolfe, L1FrankWolfe, L2Projected, LinfProjected):
        options = EVERY[kind] | {"epsilon": epsilon}
        delta, *_ = run(kind, torch.zeros(3, 1, 5, 5), gradients * 3, **options)
        size = torch.linalg.vector_norm(delta.flatten(1), ord=NORM[kind], dim=1)
        assert (size <= epsilon * (1 + 1e-5)).all()
        assert size[1] > 1 if kind in PROJECTED else size[1] > size[2]


def test_dq_draws_one_q_a_step_for_the_whole_batch():
    generator, repeat = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    delta = torch.zeros(4, 200).requires_grad_()
    optimizer = L1qFrankWolfe([delta], q=0.8, epsilon=1.0, dq=0.3, lr=1.0, schedule=False, generator=generator)
    counts = []
    for gradient in gradients_of((4, 200), 40):
        delta.grad = gradient
        optimizer.step()  # a = 1: delta is the vertex
        q = 0.8 + 0.3 * (2 * float(torch.rand((), dtype=torch.float64, generator=repeat)) - 1)
        kept = delta.detach().count_nonzero(dim=1).tolist()
        assert kept == [round((1 - min(q, 1.0)) * 200)] * 4
        counts.append(kept[0])
    assert min(counts) == 0  # clamped to q = 1
    assert 85 < max(counts) <= 100


def test_draws_do_not_touch_the_global_generator_and_are_seeded():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    gradients = gradients_of((2, 50))
    options = {"q": 0.5, "epsilon": 1.0, "dq": 0.4}
    first, *_ = run(L1qFrankWolfe, torch.zeros(2, 50), gradients, **options)
    second, *_ = run(L1qFrankWolfe, torch.zeros(2, 50), gradients, **options)
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("way", ["state_dict", "file", "pickle", "deepcopy"])
@pytest.mark.parametrize("kind", EVERY)
def test_resuming_gives_the_same_bits(kind, way, tmp_path):
    options = EVERY[kind] | ({"dq": 0.2} if kind is L1qFrankWolfe else {})
    gradients = gradients_of((3, 40), 9)
    wanted, *_ = run(kind, torch.zeros(3, 40), gradients, **options)
    _, optimizer, delta = run(kind, torch.zeros(3, 40), gradients[:4], **options)
    if way in ("pickle", "deepcopy"):
        resumed = pickle.loads(pickle.dumps(optimizer)) if way == "pickle" else copy.deepcopy(optimizer)
        (delta,) = resumed.param_groups[0]["params"]
    else:
        state = optimizer.state_dict()
        if way == "file":
            torch.save(state, tmp_path / "state.pt")
            state = torch.load(tmp_path / "state.pt", weights_only=True)
        delta = delta.detach().clone().requires_grad_()
        resumed = kind([delta], **options)
        resumed.load_state_dict(state)
    for gradient in gradients[4:]:
        delta.grad = gradient
        resumed.step()
    assert torch.equal(delta.detach(), wanted)


@pytest.mark.parametrize("kind", FRANK_WOLFE)
def test_the_gap_vanishes_at_a_known_optimum(kind):
    """min ||delta - c||^2 over the ball, for c inside and outside: the gap bounds what is missing, and tends to 0."""
    inside = torch.full((1, 6), 0.02, dtype=torch.float64)
    outside = torch.tensor([[4.0, -3, 2.5, -2, 1.5, -1]], dtype=torch.float64)
    centre = torch.cat([inside, outside])
    delta = torch.zeros(2, 6, dtype=torch.float64).requires_grad_()
    optimizer = kind([delta], **FRANK_WOLFE[kind])
    gaps, values = [], []
    for _ in range(2000):
        value = ((delta - centre) ** 2).sum(dim=1)
        (delta.grad,) = torch.autograd.grad(value.sum(), delta)
        optimizer.step()
        gaps.append(optimizer.gap(delta))
        values.append(value.detach())
    gaps, values = torch.stack(gaps), torch.stack(values)
    assert (gaps >= -1e-12).all()
    assert (values - values.min(dim=0).values <= gaps + 1e-12).all()
    assert (gaps.min(dim=0).values < 2e-2).all()


def test_groups_have_options_of_their_own_and_parameters_without_gradient_stay():
    a, b, c = (torch.zeros(2, 4, requires_grad=True) for _ in range(3))
    optimizer = L2FrankWolfe([{"params": [a], "epsilon": 5.0}, {"params": [b, c]}], epsilon=1.0)
    a.grad, b.grad = torch.ones(2, 4), torch.ones(2, 4)
    assert optimizer.step(lambda: 7) == 7
    assert float(a.detach()[0].norm()) == pytest.approx(5)
    assert float(b.detach()[0].norm()) == pytest.approx(1)
    assert not c.detach().any()
    with pytest.raises(InputError, match="no Frank-Wolfe gap before the first step"):
        optimizer.gap(c)


def test_memory_that_is_not_contiguous_and_lower_precision():
    gradients = gradients_of((2, 3, 4, 4))
    wanted, *_ = run(L1qFrankWolfe, torch.zeros(2, 3, 4, 4), gradients, q=0.7, epsilon=3.0)
    channels_last = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    got, *_ = run(L1qFrankWolfe, channels_last, gradients, q=0.7, epsilon=3.0)
    assert torch.equal(got, wanted)
    half = [g.bfloat16() for g in gradients]
    got, *_ = run(L2FrankWolfe, torch.zeros(2, 3, 4, 4, dtype=torch.bfloat16), half, epsilon=3.0)
    wanted, *_ = run(L2FrankWolfe, torch.zeros(2, 3, 4, 4), [g.float() for g in half], epsilon=3.0)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), wanted, rtol=0.02, atol=0.02)


def test_empty_batches_are_left_alone():
    delta, *_ = run(LinfFrankWolfe, torch.zeros(0, 3), [torch.zeros(0, 3)], epsilon=1.0)
    assert delta.shape == (0, 3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", EVERY)
def test_a_gradient_that_is_no_number_is_refused(kind, value):
    gradient = torch.ones(3, 5)
    gradient[1, 2:4] = value
    with pytest.raises(InputError, match=r"gradient must be finite, but that of image 1 .* in 2 of 5 entries"):
        run(kind, torch.zeros(3, 5), [gradient], **EVERY[kind])


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (L2FrankWolfe, {"epsilon": 0.0}, "epsilon must be a finite number above 0, or a tensor.*got 0.0"),
        (L2FrankWolfe, {"epsilon": math.inf}, "epsilon must be a finite number above 0.*got inf"),
        (L2FrankWolfe, {"epsilon": True}, "epsilon must be a finite number above 0.*got True"),
        (
            L2FrankWolfe,
            {"epsilon": torch.ones(3)},
            r"one for each image, of shape \(2,\), got .*\(3,\)",
        ),
        (L2FrankWolfe, {"epsilon": torch.tensor([1.0, -1])}, "epsilon of image 1 must be a finite.*got -1.0"),
        (L2FrankWolfe, {"epsilon": 1.0, "lr": -1.0}, "lr must be a finite number above 0, got -1.0"),
        (L1FrankWolfe, {"epsilon": 1.0, "schedule": False}, "lr is the step size where schedule is off.*got 2.0"),
        (L1qFrankWolfe, {"epsilon": 1.0, "q": 1.5}, "q must be a number from 0 to 1.*got 1.5"),
        (L1qFrankWolfe, {"epsilon": 1.0, "q": 0.5, "dq": "x"}, "dq must be a number from 0 to 1, got 'x'"),
        (L2Projected, {"epsilon": 1.0, "lr": math.nan}, "lr must be a finite number above 0, got nan"),
        (LinfProjected, {"epsilon": -2, "lr": 0.1}, "epsilon must be a finite number above 0.*got -2"),
    ],
)
def test_options_are_checked(kind, options, message):
    with pytest.raises(InputError, match=message):
        kind([torch.zeros(2, 4, requires_grad=True)], **options)


@pytest.mark.parametrize("parameter", [torch.tensor(1.0), torch.zeros(2, 2, dtype=torch.complex64)])
def test_a_perturbation_has_a_batch_of_real_numbers(parameter):
    with pytest.raises(InputError, match="tensor of real numbers with the batch as its first dimension"):
        L2FrankWolfe([parameter.requires_grad_()], epsilon=1.0)
