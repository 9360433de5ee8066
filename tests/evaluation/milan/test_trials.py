"""Trials of descriptions against restatements, and against describers that say anything, or always the same."""

from dataclasses import replace

import numpy as np
import pytest

import colours
from conceptry.evaluation.harness import evaluation_of
from conceptry.evaluation.isolation.client import Answer, InProcess
from conceptry.evaluation.milan import data as units
from conceptry.evaluation.milan import trials
from conceptry.evaluation.milan.client import COLOURS, PLANTED, UnitCase, describe_cases
from conceptry.evaluation.milan.data import UnitData, redrawn_cases
from conceptry.evaluation.scores.robustness import noise_of
from conceptry.registry import load

EVALUATION = evaluation_of("milan")
GROUPS = ("robustness", "randomisation")


def quiet(what: str, share: float) -> None:
    assert 0 <= share <= 1


def case(key: str, colour: str) -> UnitCase:
    drawn = [colours.scene(colour, seed) for seed in range(4)]
    images, masks = (np.stack(parts) for parts in zip(*drawn, strict=True))
    return UnitCase(PLANTED, key, images=images, masks=masks, truth=frozenset({colour}))


class Saying(InProcess):
    """A version whose words are replaced: `say` makes a description of the one that it gives."""

    def __init__(self, model, say) -> None:
        super().__init__(model)
        self.say = say

    def __call__(self, rows, params=None) -> Answer:
        answer = super().__call__(rows, params)
        return Answer(answer.rows.assign(description=answer.rows["description"].map(self.say)), answer.seconds)


@pytest.fixture(scope="module")
def predict(milan_version) -> InProcess:
    return InProcess(load(milan_version.uri))


@pytest.fixture(scope="module")
def data() -> UnitData:
    """Units of three colours, of which a random network has two others, and the second as it is."""
    said = {"a": "red", "b": "green", "c": "blue"}
    redrawn = {key: case(key, colour) for key, colour in zip(said, ("green", "green", "red"), strict=True)}
    cases = [case(key, colour) for key, colour in said.items()]
    return UnitData("made", "0" * 64, cases, find_redrawn=lambda: redrawn)


def trial(predict, data, groups=GROUPS):
    return EVALUATION.evaluate(predict, data, quiet, groups)


def test_words_are_compared_under_noise_and_with_a_random_network(predict, data) -> None:
    report = trial(predict, data)
    found = report.samples.set_index("sample")
    assert found["randomisation"].tolist() == [0, 1, 0]
    assert found["randomisation_shuffled"].tolist() == [0, 0, 0]
    assert report.tables["randomisation"].values.tolist() == [
        ["a", "Red", "Green"], ["b", "Green", "Green"], ["c", "Blue", "Red"]
    ]  # fmt: skip
    assert found["sensitivity_max"].tolist() == [0, 0, 0]  # clear colours
    assert set(report.metrics) == {"sensitivity_max", "stable_words", "randomisation", "randomisation_shuffled"}
    assert set(report.metrics) <= set(EVALUATION.metrics)


def test_robustness_is_that_of_all_draws_one_by_one(predict, data, monkeypatch) -> None:
    monkeypatch.setattr(trials, "NOISE", 0.5)
    red = case("between red and green", "red")
    between = np.array([200, 199, 0], np.uint8)[:, None, None]
    is_red = (red.images == np.array([255, 0, 0])[:, None, None]).all(axis=1, keepdims=True)
    cases = [*data.cases, replace(red, images=np.where(is_red, between, red.images))]
    found = trial(predict, replace(data, cases=cases), ("robustness",)).samples.set_index("sample")
    changes = []
    for each in cases:
        said = []
        for draw in range(trials.DRAWS):
            noise = noise_of(each.key, draw).normal(scale=0.5 * 255, size=each.images.shape)
            pixels = np.clip(np.rint(each.images + noise), 0, 255).astype(np.uint8)
            said.append(describe_cases(predict, [replace(each, images=pixels)])[0].description)
        (own,) = {d.description for d in describe_cases(predict, [each])}
        changes.append(any(other != own for other in said))
        assert found.loc[each.key, "sensitivity_max"] == pytest.approx(np.sqrt(2) * changes[-1])
        assert found.loc[each.key, "stable_words"] == np.mean([other == own for other in said])
    assert changes == [False, False, False, True]


def test_describers_that_say_anything_or_always_the_same_are_found_out(predict, data) -> None:
    rng = np.random.default_rng(0)
    ours = trial(predict, data).metrics
    anything = trial(Saying(predict.model, lambda text: f"{rng.integers(1000)}"), data).metrics
    assert anything["sensitivity_max"] > ours["sensitivity_max"]
    assert anything["stable_words"] < ours["stable_words"]
    same = trial(Saying(predict.model, lambda text: "A picture"), data).metrics
    assert same["randomisation"] == same["randomisation_shuffled"] == pytest.approx(1)
    assert ours["randomisation"] < 0.5


def test_own_units_are_shown_again_with_noise_and_have_no_random_network(predict, milan_version) -> None:
    own = EVALUATION.load_data("units:own", milan_version.params, None, 0)
    report = trial(predict, own)
    assert report.metrics["stable_words"] == 1
    assert len(report.samples) == 6  # one of seven is inactive
    assert report.notes == [
        "randomisation is left out: no network of the units of units:own can be drawn anew and looked at again; "
        "expected zoo:emoji-units"
    ]


def test_planted_units_of_a_random_network_have_other_exemplars(monkeypatch) -> None:
    monkeypatch.setattr(units, "SCENES", 64)
    known = [UnitCase(PLANTED, f"planted {word}", truth=frozenset({word})) for word in ("dog", "red")]
    random = redrawn_cases(known, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "redrawn", lambda network, seed: network)
        trained = redrawn_cases(known, 0)
    assert set(random) == {"planted dog", "planted red"}
    for key, case_ in random.items():
        assert case_.images.shape == trained[key].images.shape
        assert not np.array_equal(case_.images, trained[key].images)
    assert redrawn_cases([UnitCase(COLOURS, "colour arithmetic red", truth=frozenset({"red"}))], 0) == {}
