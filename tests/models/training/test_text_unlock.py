"""The map of a classifier's features into the space of texts: truth by construction, formulas, what is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from conceptry.models.errors import InputError
from conceptry.models.training.text_unlock import Learnt, TextUnlockTraining, learn_map

QUICK = TextUnlockTraining(steps=300, hidden=64)


def planted(n: int = 500, d: int = 16, classes: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, logits and S, where features are texts in a rotated space, beside one that never changes."""
    draw = torch.Generator().manual_seed(0)
    vectors = normalize(torch.randn(classes, d, generator=draw), dim=1)
    which = torch.randint(classes, (n,), generator=draw)
    t = normalize(vectors[which] + 0.1 * torch.randn(n, d, generator=draw), dim=1)
    rotation = torch.linalg.qr(torch.randn(d, d, generator=draw))[0]
    return torch.cat([t @ rotation, torch.full((n, 1), 3.0)], dim=1), 20 * t @ vectors.T, vectors


@pytest.fixture(scope="module")
def learnt() -> Learnt:
    return learn_map(*planted(), QUICK)


def test_a_rotated_space_of_texts_is_found(learnt: Learnt) -> None:
    assert learnt.agreement >= 0.97
    assert learnt.agreement_constant < 0.3
    assert (learnt.training, learnt.stopping, learnt.held_out) == (300, 100, 100)


def test_agreement_is_of_images_that_had_a_part_in_nothing(learnt: Learnt) -> None:
    features, logits, vectors = planted()
    held_out = torch.randperm(500, generator=torch.Generator().manual_seed(0))[:100]
    own = logits[held_out].argmax(dim=1).numpy()
    z = learnt.map(features[held_out]).double().numpy()
    nearest = (z @ vectors.double().numpy().T).argmax(axis=1)
    assert learnt.agreement == pytest.approx(np.mean(nearest == own))
    p = logits[held_out].double().softmax(dim=1).numpy()  # of eight classes, the ten best are all
    conse = (p @ vectors.double().numpy() @ vectors.double().numpy().T).argmax(axis=1)
    assert learnt.agreement_conse == pytest.approx(np.mean(conse == own))
    assert learnt.agreement_constant == pytest.approx(np.bincount(own).max() / 100)


def test_nothing_lies_outside_of_what_the_classes_span(learnt: Learnt) -> None:
    features, _, vectors = planted()
    z = learnt.map(features)
    inside = z @ torch.linalg.pinv(vectors) @ vectors
    assert torch.allclose(z, inside, atol=1e-4 * float(z.abs().max()))


def test_the_seed_decides_and_leaves_torch_as_it_was(learnt: Learnt) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    few = replace(QUICK, steps=30)
    first, second, other = (
        learn_map(*planted(), settings).map.state_dict()["0.weight"] for settings in (few, few, replace(few, seed=1))
    )
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_best_map_on_the_images_in_between_is_kept() -> None:
    seen: dict[int, dict[str, float]] = {}
    learnt = learn_map(*planted(), replace(QUICK, steps=110), lambda step, values: seen.update({step: values}))
    told = {step: values["stopping_agreement"] for step, values in seen.items() if "stopping_agreement" in values}
    assert list(told) == [25, 50, 75, 100, 110]
    assert told[learnt.step] == max(told.values())


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"steps": 0}, "steps must be a whole number from 1 to 100,000, got 0"),
        ({"hidden": True}, "hidden must be a whole number from 1 to 8,192, got True"),
    ],
)
def test_settings_are_checked(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        TextUnlockTraining(**given)
