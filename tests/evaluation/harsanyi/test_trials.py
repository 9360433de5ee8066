"""Trials of Harsanyi explanations: real ones score better than random ones of the same size, and on their own model."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from conceptry.evaluation.harness import evaluate, evaluation_of
from conceptry.evaluation.harsanyi import trials
from conceptry.evaluation.harsanyi.client import explain_samples
from conceptry.evaluation.harsanyi.data import load_samples
from conceptry.evaluation.isolation.client import InProcess, VersionProcess
from conceptry.evaluation.reports import Report
from conceptry.evaluation.scores import faithfulness as f
from conceptry.models.errors import ConceptryError
from conceptry.models.harsanyi.interactions.terms import Terms
from conceptry.registry import load, register


@pytest.fixture(scope="module")
def wine(store):
    return register("harsanyi", {"model": "zoo:wine"}, name="trials-harsanyi").version


@pytest.fixture(scope="module")
def data(wine):
    return load_samples("zoo:wine", wine.params, 6, 0)


@pytest.fixture(scope="module")
def predict(wine) -> InProcess:
    return InProcess(load(wine.uri))


@pytest.fixture(scope="module")
def explained(predict, data):
    return explain_samples(predict, data.samples)


def _scores(explained, terms_of, rewards_of) -> pd.DataFrame:
    return pd.DataFrame([trials.scores_of(e, terms_of(e), rewards_of(e)) for e in explained])


def _elsewhere(e) -> Terms:
    """The kept patterns with their players exchanged: as many, as large, of the wrong players."""
    kept, rng = trials.kept_terms(e), np.random.default_rng(0)
    moved: dict[tuple[int, ...], float] = {}
    for players, effect in kept.and_terms.items():
        while (other := tuple(sorted(rng.choice(e.n, len(players), replace=False).tolist()))) in moved:
            pass
        moved[other] = effect
    return Terms.of(e.n, moved)


def test_scores_are_those_of_all_subsets_one_by_one(explained) -> None:
    e = explained[0]
    terms, v = trials.kept_terms(e), e.table[0]
    found = trials.scores_of(e, terms, trials.rewards_of(None, e))
    shares = np.zeros(e.n)
    for players, effect in terms.and_terms.items():
        for player in players:
            shares[player] += effect / len(players)
    order = sorted(range(e.n), key=lambda k: (-shares[k] * np.sign(v[-1] - v[0]), k))

    def value(players) -> float:
        return v[sum(2 ** (e.n - 1 - k) for k in players)]

    values = [value(order[:k]) for k in range(e.n + 1)], [value(order[k:]) for k in range(e.n + 1)]
    shapley = [entry["value"] * np.sign(v[-1] - v[0]) for entry in e.answer["shapley"]]
    by_shapley = sorted(range(e.n), key=lambda k: (-shapley[k], k))
    others = [by_shapley, *(o.tolist() for o in f.random_orders(e.n, trials.RANDOM_ORDERS, e.sample.key))]
    every = [*values[0], *values[1]]
    every += [value(part) for o in others for k in range(e.n + 1) for part in (o[:k], o[k:])]
    unit, sign = max(every) - min(every), np.sign(v[-1] - v[0])
    lowest = min(every) if sign > 0 else max(every)
    areas = [sum(sign * ((a + b) / 2 - lowest) for a, b in pairwise(each)) / e.n / unit for each in values]
    assert (found["insertion_auc"], found["deletion_auc"]) == pytest.approx(areas)
    assert found["sufficiency_5"] == pytest.approx(sign * (v[-1] - value(order[:5])) / unit)
    assert found["comprehensiveness_5"] == pytest.approx(sign * (v[-1] - value(order[5:])) / unit)


def test_a_random_explanation_of_the_same_size_scores_worse(explained) -> None:
    ours = _scores(explained, trials.kept_terms, lambda e: trials.rewards_of(None, e)).mean()
    random = _scores(explained, _elsewhere, lambda e: trials.rewards_of(None, e)).mean()
    harness = evaluation_of("harsanyi")
    for name in ("r2_masks", "insertion_auc", "deletion_auc", "comprehensiveness_1", "sufficiency_5"):
        sign = 1 if harness.metrics[name].better == "higher" else -1
        assert sign * ours[name] > sign * random[name], name
    assert ours["insertion_random"] == pytest.approx(random["insertion_random"], abs=0.01)
    assert ours["insertion_random"] < ours["insertion_auc"]


def test_versions_are_asked_about_subsets(predict, explained) -> None:
    e = explained[1]
    masks = np.random.default_rng(0).random((40, e.n)) < 0.5
    e.__dict__["table"], table = None, e.table  # as an answer that holds no table
    try:
        asked = trials.rewards_of(predict, e)(masks)
    finally:
        e.__dict__["table"] = table
    np.testing.assert_allclose(asked, trials.rewards_of(predict, e)(masks), atol=1e-9)


def test_an_explanation_hangs_on_the_model(wine, data, explained) -> None:
    done = evaluate(wine.uri, data, groups=("robustness", "randomisation"))
    assert not done.report.notes
    found = done.report.metrics
    assert found["randomisation"] < 0.5
    assert 0 < found["sensitivity_max"] < 1
    assert 0 < found["stable_patterns"] <= 1
    table = done.report.tables["randomisation"]
    assert table["share"].tolist() == [0, 0.5, 1]
    assert table["cosine"].iloc[-1] < table["cosine"].iloc[0]
    # Explanations of the model are judged by another model: they say less of it.
    with VersionProcess(wine.uri, "cpu") as predict, predict.redrawn(1.0, seed=1) as other:
        others = [explain_samples(other, [e.sample], params={"target": e.answer["target"]})[0] for e in explained]
    own = _scores(explained, trials.kept_terms, lambda e: trials.rewards_of(None, e)).mean()
    by_other = {e.sample.key: trials.rewards_of(None, e) for e in others}
    foreign = _scores(explained, trials.kept_terms, lambda e: by_other[e.sample.key]).mean()
    assert own["r2_masks"] > foreign["r2_masks"]
    assert own["insertion_auc"] - own["insertion_random"] > foreign["insertion_auc"] - foreign["insertion_random"]
    assert own["deletion_random"] - own["deletion_auc"] > foreign["deletion_random"] - foreign["deletion_auc"]


def test_a_loaded_model_is_not_changed(predict, explained) -> None:
    with pytest.raises(ConceptryError, match="not changed"):
        trials.randomisation(predict, explained, Report(), lambda share: None)
