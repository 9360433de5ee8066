"""What a version is asked with: values that are refused, radii that follow size and q, and requests that override."""

import dataclasses

import pytest

from conceptry.models.errors import InputError
from conceptry.models.perturbation.settings import OPTIMIZER_NAMES, Settings


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"mode": "ask"}, "mode must be one of probe, counterfactual, explain_error, invert, got 'ask'"),
        ({"optimizer": "adam"}, "optimizer must be one of l1q_frank_wolfe, .*, got 'adam'"),
        ({"start": "white"}, "start must be one of noise, grey, got 'white'"),
        ({"precision": "int8"}, "precision must be one of float32, bfloat16, float16"),
        ({"q": 1.0}, "q must be from 0 to below 1, got 1.0"),
        ({"q": float("nan")}, "q must be from 0 to below 1, got nan"),
        ({"dq": -0.1}, "dq must be from 0 to 1"),
        ({"epsilon": 0.0}, "epsilon must be a finite number above 0, got 0.0"),
        ({"lr": float("inf")}, "lr must be a finite number above 0, got inf"),
        ({"epsilon": 1e39}, r"epsilon must be from 1e-09 to 1e\+09, got 1e\+39"),
        ({"lr": 1e-300}, "lr must be from 1e-09 to"),
        ({"mode": "x" * 10**6}, r"got 'x{79}\.\.\. \(1,000,002 characters\)$"),
        (
            {"optimizer": "linf_projected", "epsilon": 8.0},
            r"epsilon 8 of linf_projected bounds nothing, since pixels lie in \[0, 1\]; .* 8 / 255 = 0.03137",
        ),
        ({"optimizer": "linf_frank_wolfe", "epsilon": 1.5}, "epsilon 1.5 of linf_frank_wolfe bounds nothing"),
        ({"steps": 0}, "steps must be 1 to 10,000, got 0"),
        ({"steps": 10_001}, "steps must be 1 to 10,000"),
        ({"restarts": 0}, "restarts must be at least 1"),
        ({"restarts": 2}, "takes the same steps from any start, so restarts need dq above 0"),
        ({"seed": -1}, "seed must be from 0"),
        ({"max_changed": 0.0}, "max_changed must be above 0 and at most 1"),
        ({"confidence": 1.5}, "confidence must be above 0 and at most 1"),
        ({"mode": "invert", "confidence": 0.9}, "confidence is of a class, and invert matches a layer"),
        ({"mode": "probe", "sparsest": True}, "sparsest searches a counterfactual, and mode is probe"),
        ({"optimizer": "l2_projected", "sparsest": True}, "searches over q, which l2_projected has not"),
        ({"max_changed": 0.1, "sparsest": True}, "sparsest finds the least fraction itself"),
    ],
)
def test_values_that_make_no_sense_are_refused(values: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Settings(**values)


def test_default_radii_follow_the_size_of_pictures_and_q() -> None:
    imagenet, small = 3 * 224 * 224, 256
    assert Settings(q=0.975).radius(imagenet) == pytest.approx(7760)  # as published
    assert Settings(q=0.9).radius(small) == pytest.approx(52.8, abs=0.05)
    assert Settings(q=0.9).radius(small, 0.5) == pytest.approx(5 * Settings(q=0.9).radius(small))
    assert Settings(q=0.999).radius(small) == pytest.approx(2.062, abs=1e-3)  # of the one entry that is moved
    for name, at_16, at_224 in (
        ("l1_frank_wolfe", 13.2, 7760),
        ("l2_frank_wolfe", 4, 97),
        ("l2_projected", 4, 97),
        ("linf_frank_wolfe", 0.25, 0.25),
        ("linf_projected", 0.25, 0.25),
    ):
        radii = [Settings(optimizer=name).radius(n) for n in (small, imagenet)]
        assert radii == pytest.approx([at_16, at_224], rel=5e-3)
    for name in OPTIMIZER_NAMES:
        assert Settings(optimizer=name, epsilon=0.7).radius(small) == 0.7


def test_a_ball_that_holds_every_picture_is_said_to_bound_nothing() -> None:
    for name, epsilon, least in (("l2_projected", 17.0, "16"), ("l1_frank_wolfe", 300.0, "256")):
        sentence = Settings(optimizer=name, epsilon=epsilon).unbounded(256)
        assert sentence.startswith(f"epsilon {epsilon:g} of {name} bounds nothing: ")
        assert f"are at most {least} apart" in sentence
    for settings in (Settings(optimizer="l2_projected"), Settings(optimizer="l2_projected", epsilon=17, clip=False)):
        assert settings.unbounded(256) == ""


def test_what_is_given_goes_before_what_was_registered() -> None:
    registered = Settings(q=0.8, dq=0.1, restarts=3, epsilon=9.0, lr=1.0, confidence=0.9, sparsest=True)
    assert registered.override({}) == registered
    assert registered.override({"q": None, "mode": "", "details": None}) == registered
    assert registered.override({"steps": 7}) == dataclasses.replace(registered, steps=7)
    probe = registered.override({"mode": "probe"})
    assert (probe.sparsest, probe.confidence, probe.epsilon) == (False, 0.9, 9.0)
    assert registered.override({"mode": "invert"}).confidence is None
    attack = registered.override({"optimizer": "l2_projected"})
    assert (attack.epsilon, attack.lr, attack.restarts, attack.sparsest) == (None, None, 1, False)
    assert registered.override({"optimizer": "l2_projected", "epsilon": 2.0}).epsilon == 2.0
    assert not registered.override({"max_changed": 0.5}).sparsest
    assert registered.override({"dq": 0.0}).restarts == 1  # which need draws to differ
    assert registered.override({"dq": 0.2}).restarts == 3
    assert Settings(optimizer="l2_projected", restarts=3).override({"dq": 0.0}).restarts == 3
    budget = Settings(max_changed=0.2)
    assert budget.override({"sparsest": True}).max_changed is None
    with pytest.raises(InputError, match="sparsest searches a counterfactual, and mode is probe"):
        budget.override({"sparsest": True, "mode": "probe"})
    with pytest.raises(InputError, match="leave max_changed out"):
        budget.override({"sparsest": True, "max_changed": 0.1})
