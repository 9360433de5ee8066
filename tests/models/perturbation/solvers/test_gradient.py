"""The solver against a loop that does what its docstring says, on small networks that are smooth enough to compare."""

import functools
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional

from conceptry.models.errors import InputError
from conceptry.models.perturbation import (
    L1FrankWolfe,
    L1qFrankWolfe,
    L2FrankWolfe,
    L2Projected,
    LinfFrankWolfe,
    LinfProjected,
    gradient_ascent,
    random_restart,
    solve,
)

OPTIONS = {
    L1qFrankWolfe: {"q": 0.8, "epsilon": 6.0},
    L1FrankWolfe: {"epsilon": 3.0},
    L2FrankWolfe: {"epsilon": 1.5},
    LinfFrankWolfe: {"epsilon": 0.2},
    L2Projected: {"epsilon": 1.5, "lr": 0.4},
    LinfProjected: {"epsilon": 0.2, "lr": 0.05},
}
BATCH, CLASSES = 5, 4


def network(seed=0):
    """A smooth classifier of (batch, 2, 6, 6) pictures, in training mode and with parameters that ask for gradients."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.Softplus(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(6 * 36, CLASSES),
    )


@pytest.fixture(scope="module")
def model():
    return network().eval()


@pytest.fixture(scope="module")
def data():
    return torch.rand(BATCH, 2, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def target():
    return torch.tensor([0, 1, 2, 3, 1])


def literal(model, data, target, optimizer, steps, targeted, use_best, start=None, pixel_range=None, **options):
    """(perturbed, losses, every iterate's losses), one image at a time."""
    perturbed, losses, histories = [], [], []
    for x, y in zip(data.split(1), target.split(1), strict=True):
        delta = (torch.zeros_like(x) if start is None else start.clone()).requires_grad_()
        mover = optimizer([delta], **options)
        iterates = []
        for t in range(steps + 1):
            loss = functional.cross_entropy(model(x + delta), y)
            iterates.append((float(loss.detach()), (x + delta).detach().clone()))
            if t < steps:
                mover.zero_grad()
                (loss if targeted else -loss).backward()
                mover.step()
                if pixel_range is not None:
                    with torch.no_grad():
                        delta.copy_((x + delta).clamp(*pixel_range) - x)
        chosen = iterates[-1]
        if use_best:
            chosen = min(iterates, key=lambda one: one[0] if targeted else -one[0])
        losses.append(chosen[0])
        perturbed.append(chosen[1])
        histories.append([one[0] for one in iterates])
    model.zero_grad()
    return torch.cat(perturbed), torch.tensor(losses), torch.tensor(histories).T


@pytest.mark.parametrize("use_best", [False, True])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("kind", OPTIONS)
def test_runs_are_those_of_the_literal_loop(model, data, target, kind, targeted, use_best):
    wanted, losses, history = literal(model, data, target, kind, 6, targeted, use_best, **OPTIONS[kind])
    solution = solve(
        model=model, data=data, target=target, optimizer=kind, steps=6, targeted=targeted, use_best=use_best,
        **OPTIONS[kind],
    )  # fmt: skip
    torch.testing.assert_close(solution.perturbed, wanted, rtol=0, atol=2e-5)
    torch.testing.assert_close(solution.losses, losses, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(solution.history, history, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(data + solution.delta, solution.perturbed)
    assert (solution.gap is None) == (kind in (L2Projected, LinfProjected))
    again, again_losses = gradient_ascent(
        model=model, data=data, target=target.tolist(), optimizer=kind, steps=6, targeted=targeted, use_best=use_best,
        **OPTIONS[kind],
    )  # fmt: skip
    assert torch.equal(again, solution.perturbed)
    assert torch.equal(again_losses, solution.losses)


def test_losses_gap_and_steps_belong_to_what_is_returned(model, data, target):
    common = {"model": model, "data": data, "target": target, "optimizer": L1qFrankWolfe, **OPTIONS[L1qFrankWolfe]}
    solution = solve(**common, steps=7, use_best=True, targeted=True)
    for i in range(BATCH):
        taken = int(solution.steps[i])
        assert solution.losses[i] == solution.history[taken, i] == solution.history[:, i].min()
        shorter = solve(**common, steps=taken, targeted=True)
        assert torch.equal(shorter.delta[i], solution.delta[i])
        assert shorter.gap is not None
        assert solution.gap is not None
        torch.testing.assert_close(shorter.gap[i], solution.gap[i], equal_nan=True)
    measured = functional.cross_entropy(model(solution.perturbed), target, reduction="none")
    torch.testing.assert_close(solution.losses, measured)


def test_passes_are_counted(model, data, target):
    calls = {"forward": 0, "backward": 0}

    def counting(x):
        calls["forward"] += 1
        if x.requires_grad:
            x.register_hook(lambda g: calls.update(backward=calls["backward"] + 1))
        return model(x)

    solve(model=counting, data=data, target=target, optimizer=L2FrankWolfe, steps=4, epsilon=1.0)
    assert calls == {"forward": 5, "backward": 4}


@pytest.mark.parametrize("optimizer", [L1qFrankWolfe, L2Projected])
def test_without_steps_the_start_is_returned(model, data, target, optimizer):
    start = torch.full_like(data, 0.25)
    solution = solve(
        model=model, data=data, target=target, optimizer=optimizer, steps=0, start=start, **OPTIONS[optimizer]
    )
    assert torch.equal(solution.perturbed, data + 0.25)
    assert solution.steps.tolist() == [0] * BATCH
    assert solution.history.shape == (1, BATCH)
    if optimizer is L1qFrankWolfe:
        assert solution.gap.isnan().all()


def test_pixels_stay_in_their_range_and_delta_in_the_ball(model, data, target):
    for kind in (L1qFrankWolfe, L2Projected, LinfFrankWolfe):
        options = OPTIONS[kind] | {"epsilon": OPTIONS[kind]["epsilon"] * 4}
        solution = solve(
            model=model, data=data, target=target, optimizer=kind, steps=6, targeted=True, pixel_range=(0, 1), **options
        )
        assert 0 <= float(solution.perturbed.min()) <= float(solution.perturbed.max()) <= 1
        wanted, *_ = literal(model, data, target, kind, 6, True, False, pixel_range=(0, 1), **options)
        torch.testing.assert_close(solution.perturbed, wanted, rtol=0, atol=2e-5)
        order = {L1qFrankWolfe: 1, L2Projected: 2, LinfFrankWolfe: float("inf")}[kind]
        size = torch.linalg.vector_norm(solution.delta.flatten(1), ord=order, dim=1)
        assert (size <= options["epsilon"] * (1 + 1e-5)).all()
    with pytest.raises(InputError, match=r"pixel_range is 0 to 0\.5, but data reaches from"):
        solve(model=model, data=data, target=target, optimizer=L2FrankWolfe, steps=1, epsilon=1.0, pixel_range=(0, 0.5))


@pytest.mark.parametrize("kind", OPTIONS)
def test_nothing_changes_outside_the_support(model, data, target, kind):
    support = torch.rand(BATCH, 1, 6, 6, generator=torch.Generator().manual_seed(2)) < 0.3
    start = torch.full_like(data, 0.1)
    solution = solve(
        model=model, data=data, target=target, optimizer=kind, steps=5, support=support, start=start, **OPTIONS[kind]
    )
    free = support.expand_as(data)
    assert not solution.delta[~free].any()
    assert solution.delta[free].any()


def test_l1q_keeps_its_k_within_the_support_or_all_that_is_free(model, data, target):
    common = {"model": model, "data": data, "target": target, "optimizer": L1qFrankWolfe, "steps": 1, "epsilon": 2.0}
    few = torch.zeros(6, 6, dtype=torch.bool)
    few[2, 1:4] = True  # 6 entries with both channels
    assert solve(**common, q=0.5, support=few).delta.flatten(1).count_nonzero(dim=1).tolist() == [6] * BATCH
    many = torch.ones(6, 6, dtype=torch.bool)
    many[0] = False
    assert solve(**common, q=0.9, support=many).delta.flatten(1).count_nonzero(dim=1).tolist() == [7] * BATCH


@pytest.mark.parametrize("use_best", [False, True])
@pytest.mark.parametrize("targeted", [False, True])
def test_an_image_is_done_at_its_first_iterate_that_is_sure_enough(model, data, target, targeted, use_best):
    common = {
        "model": model, "data": data, "target": target, "optimizer": L2FrankWolfe, "epsilon": 1.5,
        "targeted": targeted, "use_best": use_best,
    }  # fmt: skip
    iterates = [solve(**common | {"use_best": False}, steps=t) for t in range(9)]
    with torch.no_grad():
        right = [model(s.perturbed).softmax(dim=1)[torch.arange(BATCH), target] for s in iterates]
    sure = torch.stack([p if targeted else 1 - p for p in right])
    threshold = float(sure[:, 1:4].max(dim=0).values.median())
    solution = solve(**common, steps=8, confidence=threshold)
    reached = set()
    for i in range(BATCH):
        first = next((t for t in range(9) if sure[t, i] >= threshold), None)
        if first is None:
            losses = torch.stack([s.losses[i] for s in iterates])
            first = int(losses.argmin() if targeted else losses.argmax()) if use_best else 8
            assert not solution.history[:, i].isnan().any()
        else:
            reached.add(i)
            assert solution.history[first + 1 :, i].isnan().all()
        assert int(solution.steps[i]) == first
        torch.testing.assert_close(solution.perturbed[i], iterates[first].perturbed[i])
        torch.testing.assert_close(solution.losses[i], iterates[first].losses[i])
    assert reached
    # an image's answer does not depend on the rest of the batch
    for i in range(BATCH):
        alone = solve(**common | {"data": data[i : i + 1], "target": target[i : i + 1]}, steps=8, confidence=threshold)
        torch.testing.assert_close(alone.perturbed[0], solution.perturbed[i])
        assert alone.steps[0] == solution.steps[i]
        torch.testing.assert_close(alone.gap, solution.gap[i : i + 1], rtol=1e-4, atol=1e-6, equal_nan=True)


def test_a_class_of_little_probability_has_not_been_left_before_another_one_leads(data):
    torch.manual_seed(0)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(data[0].numel(), 50))
    with torch.no_grad():
        probabilities = flat(data).softmax(dim=1)
    assert probabilities.max() < 0.1  # so all others together have .9 from the start
    solution = solve(
        model=flat, data=data, target=probabilities.argmax(dim=1), optimizer=L2FrankWolfe, steps=20, epsilon=5.0,
        targeted=False, confidence=0.9,
    )  # fmt: skip
    with torch.no_grad():
        assert (flat(solution.perturbed).argmax(dim=1) != probabilities.argmax(dim=1)).all()
    assert 0 < int(solution.steps.min()) <= int(solution.steps.max()) < 20


def test_the_loop_ends_when_all_are_done(model, data, target):
    done = []
    solution = solve(
        model=model, data=data, target=target, optimizer=L2FrankWolfe, steps=50, epsilon=30.0,
        confidence=0.85, progress=lambda step, steps: done.append((step, steps)),
    )  # fmt: skip
    assert done == [(t, 50) for t in range(1, int(solution.steps.max()) + 1)]
    assert len(done) < 50
    assert solution.history.shape == (51, BATCH)


def test_any_criterion_of_one_number_an_image(model, data):
    goal = torch.tensor([0.5, 1, 2, 3, 4])

    def distance(outputs, target):
        return (outputs.double().sum(dim=1) - target).abs()

    solution = solve(
        model=lambda x: model(x), data=data, target=goal, optimizer=L2FrankWolfe, steps=8, targeted=True, epsilon=1.0,
        criterion=distance, use_best=True,
    )  # fmt: skip
    torch.testing.assert_close(solution.losses, distance(model(solution.perturbed), goal).detach())
    assert (solution.losses < distance(model(data), goal)).all()
    with pytest.raises(InputError, match=r"criterion must return one loss an image, shape \(5,\), got shape \(\)"):
        solve(
            model=model, data=data, target=goal, optimizer=L2FrankWolfe, steps=1, epsilon=1.0,
            criterion=lambda outputs, target: outputs.mean(),
        )  # fmt: skip


def test_two_runs_share_nothing_and_inputs_stay(model, data, target):
    start = torch.full_like(data, 0.05)
    before = (data.clone(), target.clone(), start.clone())
    common = {"model": model, "data": data, "target": target, "optimizer": L2Projected, "steps": 3, "start": start}
    first = solve(**common, **OPTIONS[L2Projected])
    second = solve(**common, **OPTIONS[L2Projected])
    assert torch.equal(first.delta, second.delta)
    assert first.delta.data_ptr() != second.delta.data_ptr() != start.data_ptr()
    assert not any(t.requires_grad for t in (first.perturbed, first.delta, first.losses, first.history))
    for was, now in zip(before, (data, target, start), strict=True):
        assert torch.equal(was, now)


def test_random_restart_keeps_the_best_run_of_each_image(model, data, target):
    def start(generator):
        return torch.randn(data.shape, generator=generator)

    for targeted in (False, True):
        common = {
            "model": model, "data": data, "target": target, "optimizer": L2Projected, "steps": 3, "start": start,
            "targeted": targeted, **OPTIONS[L2Projected],
        }  # fmt: skip
        runs = [solve(**common, seed=4 + r) for r in range(3)]
        losses = torch.stack([r.losses for r in runs])
        best = losses.argmin(dim=0) if targeted else losses.argmax(dim=0)
        assert len(set(best.tolist())) > 1
        done = []
        merged = random_restart(solve, 3)(
            **common, seed=4, progress=lambda step, steps, d=done: d.append((step, steps))
        )
        assert done == [(t, 9) for t in range(1, 10)]
        pair = random_restart(functools.partial(gradient_ascent, **common), 3)(seed=4)
        for i, r in enumerate(best.tolist()):
            assert torch.equal(merged.perturbed[i], runs[r].perturbed[i])
            assert torch.equal(merged.history[:, i], runs[r].history[:, i])
            assert torch.equal(pair[0][i], runs[r].perturbed[i])
        assert torch.equal(pair[1], merged.losses)
    with pytest.raises(InputError, match="repeats must be a whole number of at least 1, got 0"):
        random_restart(solve, 0)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_finds_nearly_the_same(model, data, target, precision):
    common = {"model": model, "data": data, "target": target, "steps": 10, "targeted": True}
    for kind in (L1qFrankWolfe, L2FrankWolfe):
        full = solve(**common, optimizer=kind, **OPTIONS[kind])
        half = solve(**common, optimizer=kind, precision=precision, **OPTIONS[kind])
        assert half.perturbed.dtype == torch.float32
        assert half.precision == precision
        torch.testing.assert_close(half.losses, full.losses, rtol=0.02, atol=0.02)


def test_a_compiled_model_is_the_one_that_runs(model, data, target, monkeypatch):
    compiled = []  # torch.compile itself takes half a minute for the smallest network
    monkeypatch.setattr(torch, "compile", lambda given: compiled.append(given) or (lambda x: given(x) * 2))
    common = {"data": data, "target": target, "steps": 3, "optimizer": L2FrankWolfe, "epsilon": 1.5}
    got = solve(model=model, **common, compile=True)
    assert compiled == [model]
    assert torch.equal(got.perturbed, solve(model=lambda x: model(x) * 2, **common).perturbed)


def test_any_torch_optimiser_and_any_shape(target):
    torch.manual_seed(0)
    for shape in [(), (3,), (2, 3), (2, 2, 2)]:
        data = torch.rand(BATCH, *shape)
        linear = nn.Linear(data[0].numel(), CLASSES)
        flat = nn.Sequential(nn.Unflatten(0, (BATCH, 1)), nn.Flatten(), linear)
        solution = solve(
            model=flat,
            data=data,
            target=target,
            optimizer=torch.optim.SGD,
            steps=3,
            targeted=True,
            use_best=True,
            lr=0.1,
        )
        assert solution.perturbed.shape == data.shape
        assert (solution.losses < solution.history[0]).all()
        assert solution.gap is None


def test_under_no_grad_and_inference_mode(model, data, target):
    common = {"model": model, "target": target, "optimizer": L1qFrankWolfe, "steps": 3, **OPTIONS[L1qFrankWolfe]}
    wanted = solve(**common, data=data).perturbed
    with torch.no_grad():
        assert torch.equal(solve(**common, data=data).perturbed, wanted)
    with torch.inference_mode():
        assert torch.equal(solve(**common, data=data.clone()).perturbed, wanted)


def test_threads_may_share_a_model_that_trains(data, target):
    shared = network()
    common = {"target": target, "optimizer": L1qFrankWolfe, "steps": 8, "targeted": True, **OPTIONS[L1qFrankWolfe]}
    batches = [data.roll(i, 0) for i in range(6)]
    wanted = [solve(model=network(), data=batch, **common).perturbed for batch in batches]
    got = [None] * len(batches)

    def work(i):
        got[i] = solve(model=shared, data=batches[i], **common).perturbed

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, theirs in zip(got, wanted, strict=True):
        assert torch.equal(mine, theirs)
    assert all(part.training for part in shared.modules())
    assert all(p.requires_grad and p.grad is None for p in shared.parameters())


BAD = [
    ({"model": 3}, "model must be a torch module or a function of pictures, got a int"),
    ({"data": torch.zeros(5, 2, 6, 6, dtype=torch.uint8)}, "data must be a tensor of real numbers.*torch.uint8"),
    ({"data": [1.0]}, "data must be a tensor of real numbers.*got a list"),
    ({"data": torch.zeros(0, 2, 6, 6)}, "at least one picture"),
    ({"data": torch.full((5, 2, 6, 6), torch.nan)}, "data must be finite"),
    ({"target": [0, 1, 2]}, r"integers of shape \(5,\), got torch.int64 of shape \(3,\)"),
    ({"target": torch.zeros(5)}, "target must hold one class an image.*torch.float32"),
    ({"target": "cat"}, "target must hold one class an image, got a str"),
    ({"target": [0, 1, 4, 0, 0]}, "classes from 0 to 3, got 4 for image 2"),
    ({"target": [0, -1, 0, 0, 0]}, "classes from 0 to 3, got -1 for image 1"),
    ({"optimizer": torch.optim.SGD([torch.zeros(1)], lr=1.0)}, "optimizer must be a class, or a function.*got SGD"),
    ({"steps": -1}, "steps must be a whole number of at least 0, got -1"),
    ({"steps": 2.0}, "steps must be a whole number of at least 0, got 2.0"),
    ({"precision": "int8"}, "precision must be one of float32, bfloat16, float16, got 'int8'"),
    ({"confidence": 1.5}, "confidence must be a probability above 0 and at most 1, got 1.5"),
    ({"support": torch.ones(6, 6)}, "support must be a boolean tensor, got torch.float32"),
    ({"support": torch.ones(7, 6, dtype=torch.bool)}, r"support must broadcast to .*\(5, 2, 6, 6\), got \(7, 6\)"),
    ({"start": torch.zeros(5)}, r"start must have the pictures' shape \(5, 2, 6, 6\), got \(5,\)"),
    ({"start": 0}, "start must be a tensor or a function of a generator, got a int"),
    ({"start": lambda generator: None}, r"start must have the pictures' shape \(5, 2, 6, 6\), got NoneType"),
    ({"pixel_range": (1, 0)}, r"pixel_range must be two finite numbers, the least first, got \(1, 0\)"),
    ({"pixel_range": 1}, "pixel_range must be two finite numbers, the least first, got 1"),
    ({"model": lambda x: x}, r"must return logits of shape \(5, classes\).*got \(5, 2, 6, 6\)"),
    ({"model": lambda x: [x]}, r"must return logits of shape \(5, classes\).*got list"),
    ({"model": lambda x: x.detach().flatten(1)}, "does not depend on the pictures"),
    ({"model": lambda x: (x.flatten(1) - 5).sqrt()}, "gradient must be finite, but that of image 0"),
    ({"epsilon": -1.0}, "epsilon must be a finite number above 0"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_arguments_are_named(model, data, target, change, message):
    good = {"model": model, "data": data, "target": target, "optimizer": L2FrankWolfe, "steps": 2, "epsilon": 1.0}
    with pytest.raises(InputError, match=message):
        solve(**good | change)


def test_a_model_that_works_in_place_gets_a_copy(model, data, target) -> None:
    def in_place(pictures):
        return model(pictures.sub_(0.5).mul_(2.0))

    arguments = {"data": data, "target": target, "optimizer": LinfProjected, "steps": 3, **OPTIONS[LinfProjected]}
    found = solve(model=in_place, **arguments, pixel_range=(0.0, 1.0))
    right = solve(model=lambda pictures: model((pictures - 0.5) * 2.0), **arguments, pixel_range=(0.0, 1.0))
    torch.testing.assert_close(found.perturbed, right.perturbed, rtol=0, atol=0)
    assert 0 <= float(found.perturbed.min()) <= float(found.perturbed.max()) <= 1


def test_a_gradient_of_zeros_is_told_from_a_search_that_failed(model, data, target) -> None:
    def dead_but_for_the_first(pictures):
        alive = (torch.arange(len(pictures)) == 0)[:, None]
        return torch.where(alive, model(pictures), model(pictures).relu() * 0)

    for repeats in (1, 2):
        found = random_restart(solve, repeats)(
            model=dead_but_for_the_first, data=data, target=target, optimizer=LinfProjected, steps=3,
            **OPTIONS[LinfProjected],
        )  # fmt: skip
        assert found.flat.tolist() == [False] + [True] * (BATCH - 1)
    assert not solve(
        model=model, data=data, target=target, optimizer=LinfProjected, steps=0, epsilon=0.2, lr=0.1
    ).flat.any()
