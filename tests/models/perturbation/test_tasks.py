"""The four questions: what is delivered is what is judged, budgets are kept, rows do not know of each other."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.perturbation.explanation import Explanation
from conceptry.models.perturbation.settings import OPTIMIZER_NAMES, Settings
from conceptry.models.perturbation.solvers.representation import relative_distance, representation
from conceptry.models.perturbation.tasks import counterfactual, explain_error, invert, probe

FAST = Settings(steps=12)
CLASSES = list(range(10))


def others(n: int) -> list[int]:
    return [(i + 3) % 10 for i in range(n)]


def check_figures(network, e: Explanation) -> None:
    """All figures from the delivered pictures alone, slowly and by other code."""
    delivered = e.perturbed if not e.clipped else torch.from_numpy(read_back(network, e.perturbed))
    with torch.no_grad():
        p = network.from_pixels(delivered).softmax(1)
        before = network.from_pixels(e.start).softmax(1)
    torch.testing.assert_close(e.after, p, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(e.before, before, rtol=1e-5, atol=1e-6)
    delta = (delivered.double() - e.start.double()).numpy()
    np.testing.assert_allclose(e.l1, np.abs(delta).sum((1, 2, 3)), atol=1e-4)
    np.testing.assert_allclose(e.l2, np.sqrt((delta**2).sum((1, 2, 3))), atol=1e-4)
    height, width = delta.shape[2:]
    least = 1e-6 if e.clipped else 0.0  # a picture read back is the same to a rounding of float32
    expected = [(np.abs(row).max(0) > least).sum() / (height * width) for row in delta]
    np.testing.assert_allclose(e.changed, expected)


def read_back(network, pixels: Tensor) -> np.ndarray:
    """Through the pictures that a user would store and hand in again."""
    return network.to_pixels(network.to_images(pixels)).numpy()


@pytest.mark.parametrize("name", OPTIMIZER_NAMES)
@pytest.mark.parametrize("clip", [True, False])
def test_every_optimizer_reports_what_it_delivers(network, pictures, name: str, clip: bool) -> None:
    e = counterfactual(network, pictures, others(20), settings=dataclasses.replace(FAST, optimizer=name, clip=clip))
    check_figures(network, e)
    assert e.targets.tolist() == others(20)
    assert e.success.equal(e.after.argmax(1) == e.targets)
    torch.testing.assert_close(e.loss.exp().reciprocal().float(), e.after.gather(1, e.targets[:, None])[:, 0])
    radius = e.settings.radius(64)
    assert e.epsilon.tolist() == [radius] * 20
    norm = {"l1": e.l1, "l2": e.l2, "li": e.delta.abs().flatten(1).amax(1)}[name[:2]]
    # Rounding moves each of 64 pixels by half a level at most.
    assert bool((norm <= radius + (64 * 0.5 / 255 if clip else 1e-3)).all())
    assert e.gap.isnan().all() == name.endswith("projected")
    assert (e.q == (0.9 if name.startswith("l1q") else 0.0)).all()
    assert e.history.shape == (20, FAST.steps + 1)
    assert e.steps.tolist() == [FAST.steps] * 20


def test_without_clipping_pixels_leave_the_range_and_the_answer_says_so(network, pictures) -> None:
    e = counterfactual(network, pictures, others(20), settings=dataclasses.replace(FAST, clip=False, epsilon=40.0))
    assert not e.clipped
    assert float(e.perturbed.max()) > 1.5
    clipped = counterfactual(network, pictures, others(20), settings=dataclasses.replace(FAST, epsilon=40.0))
    assert (float(clipped.perturbed.min()), float(clipped.perturbed.max())) == (0, 1)


def test_probes_of_a_robust_network_reach_their_class_and_rows_are_independent(network) -> None:
    e = probe(network, CLASSES)
    check_figures(network, e)
    assert e.success.all()
    assert (e.sources == e.before.argmax(1)).all()
    again = probe(network, CLASSES)
    assert torch.equal(again.perturbed, e.perturbed)
    some = probe(network, ["7", "3"], rows=[7, 3])
    assert torch.equal(some.start, e.start[[7, 3]])
    assert (some.perturbed - e.perturbed[[7, 3]]).abs().max() <= 2 / 255  # sums of other batches round differently
    seeded = probe(network, CLASSES, settings=Settings(seed=1))
    assert not torch.equal(seeded.start, e.start)
    flat = probe(network, [1], settings=Settings(start="grey"))
    assert flat.start.unique().tolist() == pytest.approx([128 / 255])
    given = probe(network, [1], start=network.to_images(e.start[4:5]))
    assert torch.equal(given.start, e.start[4:5])


def test_counterfactuals_with_and_without_a_target_in_one_batch(network, pictures) -> None:
    targets = [None if i % 3 == 0 else (i + 1) % 10 for i in range(20)]
    sources = [i % 10 if i % 2 else None for i in range(20)]
    mixed = counterfactual(network, pictures, targets, sources)
    check_figures(network, mixed)
    assert mixed.targeted.tolist() == [target is not None for target in targets]
    away = ~mixed.targeted
    assert mixed.success[away].equal(mixed.targets[away] != mixed.sources[away])
    assert mixed.targets[away].equal(mixed.after.argmax(1)[away])
    assert mixed.targets[mixed.targeted].tolist() == [t for t in targets if t is not None]
    assert mixed.success.double().mean() > 0.9
    predicted = mixed.before.argmax(1).tolist()
    assert mixed.sources.tolist() == [p if s is None else s for s, p in zip(sources, predicted, strict=True)]
    alone = counterfactual(network, pictures[:1])
    assert (alone.perturbed - mixed.perturbed[:1]).abs().max() <= 2 / 255
    same = counterfactual(network, pictures[:2], predicted[:2])  # toward what it is already
    assert same.success.all()


@pytest.mark.parametrize("fraction", [1 / 64, 0.1, 0.25, 1.0])
def test_a_budget_of_pixels_is_kept_exactly(network, pictures, fraction: float) -> None:
    k = int(fraction * 64)
    e = counterfactual(network, pictures, others(20), settings=Settings(max_changed=fraction))
    check_figures(network, e)
    changed = (e.changed * 64).round().long()
    assert int(changed.max()) <= k
    if k <= 16:
        assert float((changed == k).double().mean()) > 0.5  # what may change does, where the gradient lets it
    with pytest.raises(InputError, match=r"max_changed 0.01 of 8 x 8 pixels .* a budget that cannot be met"):
        counterfactual(network, pictures, others(20), settings=Settings(max_changed=0.01))


def test_sure_pictures_stop_early(network, pictures) -> None:
    full = counterfactual(network, pictures, others(20))
    early = counterfactual(network, pictures, others(20), settings=Settings(confidence=0.6))
    p = early.after.gather(1, early.targets[:, None])[:, 0]
    stopped = early.steps < 45
    assert stopped.sum() > 10
    assert float(p[stopped].min()) > 0.55  # rounding to 8 bits may take a little away
    assert early.l1.mean() < full.l1.mean()
    assert early.history[stopped][:, -1].isnan().all()


def test_restarts_keep_the_best(network, pictures) -> None:
    for options in ({"optimizer": "linf_projected", "steps": 5}, {"dq": 0.05, "steps": 5}):
        one = counterfactual(network, pictures, others(20), settings=Settings(**options, clip=False))
        four = counterfactual(network, pictures, others(20), settings=Settings(**options, clip=False, restarts=4))
        assert bool((four.loss <= one.loss + 1e-6).all())
        assert bool((four.loss < one.loss - 1e-6).any())


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "linf_projected", "steps": 5},
        {"optimizer": "l2_projected", "steps": 5},
        {"dq": 0.09, "confidence": 0.4},  # the first run ends when all pictures are done
    ],
)
def test_restarts_of_a_picture_do_not_depend_on_the_others(network, pictures, options: dict) -> None:
    settings = Settings(**options, restarts=3)
    together = counterfactual(network, pictures, others(20), settings=settings)
    first = counterfactual(network, pictures, others(20), settings=dataclasses.replace(settings, restarts=1))
    moved = [row for row in range(20) if not torch.equal(together.perturbed[row], first.perturbed[row])]
    assert moved  # by a restart
    for row in moved[:5]:
        alone = counterfactual(network, pictures[row : row + 1], [others(20)[row]], settings=settings)
        assert (alone.perturbed[0] - together.perturbed[row]).abs().max() <= 2 / 255


def test_errors_are_explained_in_both_directions(network, pictures) -> None:
    wrong = others(20)
    truths = [i % 10 for i in range(20)]
    toward_truth, toward_wrong = explain_error(network, pictures, truths, wrong, settings=FAST)
    for e, wanted in ((toward_truth, truths), (toward_wrong, wrong)):
        check_figures(network, e)
        assert (e.targets.tolist(), e.sources.tolist()) == (wanted, wrong)
        assert torch.equal(e.start, toward_truth.start)
    misread = counterfactual(network, pictures[:6], wrong[:6])
    assert misread.success.all()
    first, second = explain_error(network, misread.perturbed, truths[:6], settings=FAST)
    assert second.targets.tolist() == first.sources.tolist() == wrong[:6]
    with pytest.raises(InputError, match=r"picture 0: the prediction is '3', which is the truth, so there is no error"):
        explain_error(network, misread.perturbed, wrong[:6])


def test_inversion_matches_the_layer(network, pictures) -> None:
    e = invert(network, pictures, settings=Settings(optimizer="l2_projected", epsilon=6.0))
    matched = network.to_pixels(pictures)
    with representation(network) as read, torch.no_grad():
        expected = relative_distance(read(e.perturbed), read(matched))
        start = relative_distance(read(e.start), read(matched))
    torch.testing.assert_close(e.loss.float(), expected)
    torch.testing.assert_close(e.history[:, 0].float(), start)
    assert float(e.loss.median()) < 0.3 * float(start.median())
    assert e.targets.equal(network.from_pixels(matched).argmax(1))
    assert float(e.success.double().mean()) > 0.9
    seeded = invert(network, pictures[:2], pictures[2:4], settings=FAST)
    torch.testing.assert_close(seeded.start, matched[2:4], atol=1e-6, rtol=0)
    itself = invert(network, pictures[:2], pictures[:2], settings=dataclasses.replace(FAST, use_best=True))
    assert itself.loss.tolist() == [0, 0]
    first = next(name for name, part in network.module.named_modules() if isinstance(part, nn.Conv2d))
    assert not torch.equal(invert(network, pictures[:1], layer=first, settings=FAST).loss, e.loss[:1])
    assert all(not part._forward_hooks for part in network.module.modules())


def test_what_cannot_be_asked(network, pictures) -> None:
    pixels = network.to_pixels(pictures)
    for call, sentence in (
        (lambda: counterfactual(network, pixels * 2), r"pixels must be within \[0, 1\], got 0 to 2"),
        (lambda: counterfactual(network, pixels.long()), "pixels must be floating-point of shape"),
        (lambda: counterfactual(network, pixels[0]), "pixels must be floating-point of shape"),
        (lambda: counterfactual(network, pictures, [1]), "classes must be one for each of 20 pictures, got 1"),
        (lambda: counterfactual(network, pictures.repeat(2, 1)), "takes pictures of 8 x 8 pixels, got 8 x 16"),
        (lambda: probe(network, ["ten"]), "has no class 'ten'"),
        (lambda: probe(network, []), "targets: expected at least one class, got none"),
        (lambda: probe(network, [1], start=pictures), "targets must be one for each of 20 pictures to start from, got"),
        (lambda: counterfactual(network, pictures[:0]), "expected at least one picture, got none"),
        (lambda: invert(network, pictures, layer="nowhere"), "has no layer 'nowhere'"),
        (lambda: invert(network, pictures, pictures[:3]), "seeds must be as large as the pictures"),
    ):
        with pytest.raises(InputError, match=sentence):
            call()


def test_a_network_that_takes_any_size_needs_a_picture(user_network, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = user_network(nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)))
    monkeypatch.setattr(model, "size", None)
    with pytest.raises(InputError, match="mine: takes pictures of any size, so it needs a picture to start from"):
        probe(model, ["yes"])
    e = probe(model, ["yes"], start=torch.full((1, 1, 9, 7), 0.5))
    assert e.perturbed.shape == (1, 1, 9, 7)


def test_progress_rises_to_the_end(network, pictures) -> None:
    for settings in (Settings(steps=4), Settings(steps=4, max_changed=0.2), Settings(steps=4, sparsest=True)):
        heard: list[float] = []
        counterfactual(network, pictures[:4], [1, None, 2, None], settings=settings, progress=heard.append)
        assert heard == sorted(heard)
        assert 0 < heard[0] < 0.5
        assert heard[-1] <= 1
        if not settings.sparsest:
            assert heard[-1] == pytest.approx(1)


@pytest.mark.parametrize("form", ["logits", "probabilities"])
def test_a_network_without_gradient_is_said_not_to_have_been_tried(user_network, form: str) -> None:
    class Saturated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            certain = torch.tensor([[1.0, 0.0]]).repeat(len(x), 1)
            return certain + (
                x.sum((1, 2, 3), keepdim=False)[:, None] * 0.0 if form == "probabilities" else 0 * x.sum()
            )

    picture = np.full((2, 4, 4, 3), 100, np.uint8)
    with pytest.warns(RuntimeWarning, match="mine: the gradient is 0 in every pixel for 2 of 2 images"):
        found = counterfactual(user_network(Saturated(), form), picture, ["yes", "yes"], settings=FAST)
    assert found.no_gradient.tolist() == [True, True]
    assert not found.success.any()


def test_a_network_with_gradient_was_tried(network, pictures) -> None:
    assert not counterfactual(network, pictures[:2], [5, 6], settings=FAST).no_gradient.any()
