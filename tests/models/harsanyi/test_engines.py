"""Which engine explains what, and that all of them say the same of the same sample."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from conceptry import Harsanyi
from conceptry.models.errors import InputError
from conceptry.models.harsanyi.graph import AndOrGraph
from conceptry.models.harsanyi.interactions.record import Interactions
from conceptry.models.harsanyi.interactions.sparse import SparseInteractions
from conceptry.models.harsanyi.model import Harsanyi as Model
from conceptry.models.harsanyi.package import read_package

DIABETES, AMOUNT = load_diabetes(return_X_y=True, as_frame=True)
CANCER, MALIGN = load_breast_cancer(return_X_y=True, as_frame=True)
IRIS, KIND = load_iris(return_X_y=True, as_frame=True)
SMALL = {"max_iter": 12, "max_leaf_nodes": 6}


def explainer(estimator, rows, **options) -> Model:
    return Harsanyi(estimator, statistics=rows, **options)


def effects_of(record) -> dict[tuple[tuple[str, ...], str], float]:
    return {(tuple(p["players"]), p["kind"]): p["effect"] for p in record.patterns(record.strongest())}


@pytest.mark.parametrize(
    ("estimator", "rows", "target", "reward"),
    [
        (HistGradientBoostingRegressor(**SMALL), (DIABETES, AMOUNT), None, "output"),
        (RandomForestRegressor(4, max_depth=4, random_state=0), (DIABETES, AMOUNT), None, "output"),
        (HistGradientBoostingClassifier(**SMALL), (DIABETES, AMOUNT > 140), "0", "log_odds"),
        (HistGradientBoostingClassifier(**SMALL), (DIABETES, AMOUNT > 140), "1", "log_odds"),
        (RandomForestClassifier(4, max_depth=4, random_state=0), (DIABETES, AMOUNT > 140), "0", "probability"),
        (RandomForestClassifier(4, max_depth=3, random_state=0), (IRIS, KIND), "2", "probability"),
    ],
)
def test_trees_say_what_all_subsets_say(estimator, rows, target, reward):
    X, y = rows
    estimator.fit(X, y)
    by_trees, by_all = (explainer(estimator, X, reward=reward, engine=engine) for engine in ("trees", "exact"))
    assert explainer(estimator, X, reward=reward).engines.engine_of(X.shape[1]) == "trees"
    ours, all_subsets = by_trees.explain(X.iloc[7], target), by_all.explain(X.iloc[7], target)
    assert isinstance(ours, SparseInteractions)
    assert isinstance(all_subsets, Interactions)
    assert (ours.engine, ours.calls, all_subsets.calls) == ("trees", 2, 2 ** X.shape[1])
    scale = float(np.abs(all_subsets.v).max())
    found, expected = effects_of(ours), effects_of(all_subsets)
    for pattern in {*found, *expected}:
        assert found.get(pattern, 0.0) == pytest.approx(expected.get(pattern, 0.0), abs=1e-10 * scale)
    assert (ours.v_full, ours.v_empty) == pytest.approx((all_subsets.v_full, all_subsets.v_empty))
    np.testing.assert_allclose(ours.shapley, all_subsets.shapley, atol=1e-10 * scale)
    answer, other = ours.answers()[0], all_subsets.answers()[0]
    assert answer.keys() == other.keys()
    # All subsets of ten players are taken as masks, so what denoising keeps is the same to rounding.
    assert answer["explain_ratio"] == pytest.approx(other["explain_ratio"], abs=0.02)
    assert answer["square_error"] == pytest.approx(other["square_error"], abs=0.01)


def mixed_rows() -> pd.DataFrame:
    """Rows with numbers, whole numbers, gaps and words."""
    rng = np.random.default_rng(5)
    rows = DIABETES[["age", "bmi", "s5"]].iloc[:200].reset_index(drop=True)
    rows.loc[rng.random(len(rows)) < 0.2, "bmi"] = np.nan
    return rows.assign(visits=rng.integers(0, 9, len(rows)), clinic=rng.choice(["north", "south", "east"], len(rows)))


@pytest.mark.parametrize(
    "options", [{}, {"players": {"body": ["age", "bmi"]}, "background": "clinic"}, {"baseline": "sample:3"}]
)
def test_rows_together_are_explained_as_one_by_one_in_one_call_of_the_model(options, monkeypatch):
    rows = mixed_rows()
    words = ColumnTransformer([("words", OneHotEncoder(sparse_output=False), ["clinic"])], remainder="passthrough")
    model = make_pipeline(words, HistGradientBoostingClassifier(**SMALL)).fit(rows, AMOUNT[:200] > 140)
    explained = explainer(model, rows, **options)
    assert explained.engines.by_trees
    some = rows.iloc[[4, 0, 17, 60, 61]]
    alone = [explained.explain(row) for _, row in some.iterrows()]
    asked, ask = [], type(explained.model).__call__
    monkeypatch.setattr(type(explained.model), "__call__", lambda self, x: asked.append(len(x)) or ask(self, x))
    together = explained.explain(some)
    assert asked == [sum(record.calls for record in alone)]
    for ours, expected in zip(together, alone, strict=True):
        assert ours.answers() == expected.answers()
        assert ours.description == expected.description


def test_more_rows_than_a_batch_are_explained_batch_by_batch(monkeypatch):
    model = HistGradientBoostingRegressor(**SMALL).fit(DIABETES, AMOUNT)
    explained = explainer(model, DIABETES, batch_size=6)
    expected = [explained.explain(DIABETES.iloc[k]).answers() for k in range(8)]
    asked, ask = [], type(explained.model).__call__
    monkeypatch.setattr(type(explained.model), "__call__", lambda self, x: asked.append(len(x)) or ask(self, x))
    assert [record.answers() for record in explained.explain(DIABETES[:8])] == expected
    assert asked == [6, 6, 4]


def test_a_row_that_is_refused_among_others_is_named():
    rows = mixed_rows().drop(columns="clinic")
    explained = explainer(HistGradientBoostingRegressor(**SMALL).fit(rows, AMOUNT[:200]), rows)
    bad = [row.to_dict() for _, row in rows[:4].iterrows()]
    bad[2]["age"] = "old"
    with pytest.raises(InputError, match=r"row 2: column 'age'.*'old'"):
        explained.explain(bad)
    with pytest.raises(InputError, match=r"row 2: column 'bmi' is missing"):
        explained.explain([*bad[:2], {"age": 0.0}])
    ask = explained.model.outputs

    def refusing(call, n_rows):
        outputs = ask(call, n_rows)
        if (outputs == wrong).any():
            raise InputError("the model has had enough")
        return outputs

    wrong = explained.explain(rows[3:4])[0].v_full
    explained.model.outputs = refusing
    assert len(explained.explain(rows[:3])) == 3
    with pytest.raises(InputError, match="row 3: the model has had enough"):
        explained.explain(rows[:6])


def test_groups_background_and_the_empty_term_are_those_of_the_exact_engine():
    model = HistGradientBoostingRegressor(**SMALL).fit(DIABETES, AMOUNT)
    options = {
        "players": {"body": ["age", "sex", "bmi"], "serum": ["s1", "s2", "s3"]},
        "background": "bp",
        "subtract_empty": True,
    }
    ours, expected = (
        explainer(model, DIABETES, engine=engine, **options).explain(DIABETES.iloc[3]) for engine in ("trees", "exact")
    )
    assert ours.players == expected.players
    for pattern, effect in effects_of(expected).items():
        if abs(effect) > 1e-8:
            assert effects_of(ours)[pattern] == pytest.approx(effect)
    assert ours.v_empty == expected.v_empty == 0.0
    assert ours.v_full == pytest.approx(expected.v_full)


@pytest.mark.parametrize(
    ("estimator", "options", "reason"),
    [
        (LogisticRegression(max_iter=5000), {}, "there is no reader for the trees of LogisticRegression"),
        (
            RandomForestClassifier(3, max_depth=3),
            {"reward": "log_odds_eps"},
            "the log_odds_eps of its probabilities is not a sum over its trees, whose probability is",
        ),
        (
            HistGradientBoostingClassifier(max_iter=3),
            {"reward": "probability"},
            "the probability of its probabilities is not a sum over its trees, whose margin is",
        ),
        (
            GradientBoostingClassifier(loss="exponential", n_estimators=3),
            {},
            "the log_odds of its probabilities is not a sum over its trees",
        ),
        (HistGradientBoostingClassifier(max_iter=3), {"interactions": "and-or"}, "trees have AND interactions"),
    ],
)
def test_rewards_that_are_no_sum_over_trees(estimator, options, reason):
    estimator.fit(CANCER, MALIGN)
    with pytest.raises(InputError, match=f"engine trees cannot explain it: .*{reason}"):
        explainer(estimator, CANCER, engine="trees", **options)
    model = explainer(estimator, CANCER, **options)
    assert model.engines.trees is None
    assert model.engines.engine_of(13) == "exact"
    assert model.engines.engine_of(30) == "sampled"


def test_a_wide_table_is_sampled_and_says_how_good_that_is():
    model = LogisticRegression(max_iter=5000).fit(CANCER / CANCER.std(), MALIGN)
    record = explainer(model, CANCER / CANCER.std(), budget=512).explain((CANCER / CANCER.std()).iloc[0])
    assert isinstance(record, SparseInteractions)
    assert (record.engine, record.calls) == ("sampled", 512)
    # The log-odds of a linear model are linear: 30 single players, and nothing else.
    assert record.r2 > 0.999
    assert record.believable
    assert len(record.strongest()) == 30
    assert "R2 1.000 (1.000 to 1.000) on held-out subsets" in repr(record)
    answer = record.answers()[0]
    assert answer["r2_low"] <= answer["r2"] <= answer["r2_high"]


def test_a_game_without_structure_is_not_believed():
    bits = 2.0 ** np.arange(40)
    record = Model.of_tensor(lambda x: np.sin((x > 0) @ bits * 12.9898) * 43758.5 % 1.0, np.ones(40), budget=256)
    assert not record.believable
    assert "too low to be believed" in repr(record)
    assert "too low to be believed" in record._repr_html_()
    again = AndOrGraph.from_json(record.answers()[0]["graph"])
    assert again == record.graph()
    assert again.heading("Why").startswith("Why \N{EM DASH} R2 ")
    assert again.heading().endswith("too low to be believed")
    assert record.answers()[0]["believable"] is False


def test_details_of_a_sparse_answer_are_its_terms():
    record = Model.of_tensor(lambda x: x[:, 0] * x[:, 24] - x[:, 3], np.ones(25), details=True, budget=256)
    answer = record.answers()[0]
    terms = {tuple(players): effect for players, effect, kind in json.loads(answer["terms"]) if kind == "and"}
    assert terms[()] == pytest.approx(0.0, abs=1e-9)
    assert terms[0, 24] == pytest.approx(1.0)
    assert terms[3,] == pytest.approx(-1.0)
    assert (answer["rewards"], answer["interactions"]) == ([], [])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"engine": "fast"}, "engine must be one of auto, exact, trees, sampled, got 'fast'"),
        ({"budget": 100}, "budget must be 128 to 1,048,576, got 100"),
        ({"seed": -1}, "seed must be 0 to"),
        ({"min_r2": 1.5}, "min_r2 must be a number of at most 1, got 1.5"),
        ({"engine": "trees"}, "engine trees cannot explain it: it is no tree ensemble over a table"),
        ({"engine": "sampled", "baseline": "learned"}, "a learned baseline asks all subsets"),
    ],
)
def test_refused_settings(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Harsanyi("zoo:wine", **options)


def test_texts_have_no_trees():
    with pytest.raises(InputError, match="engine trees explains tree ensembles over a table; this is a text model"):
        Harsanyi("zoo:movie-reviews", engine="trees")


def test_a_model_that_answers_otherwise_than_its_trees_is_refused():
    class Rounded(HistGradientBoostingRegressor):
        def predict(self, X):
            return super().predict(X) + 0.5 * (np.asarray(X)[:, 2] > 0.1)

    model = Rounded(**SMALL).fit(DIABETES, AMOUNT)
    stout = DIABETES[DIABETES["bmi"] > 0.12].iloc[0]
    with pytest.raises(InputError, match=r"the terms read from Rounded add up to .* for the sample, and the output of"):
        explainer(model, DIABETES, engine="trees").explain(stout)


def test_confident_rows_are_explained_to_the_precision_of_their_probabilities():
    """At log-odds of 30 the probability of the other class is 1e-13, and its rounding is seen in the log-odds."""
    model = HistGradientBoostingClassifier(
        max_iter=200, learning_rate=1.0, max_leaf_nodes=4, early_stopping=False, min_samples_leaf=5
    ).fit(DIABETES, AMOUNT > 140)
    margins = np.abs(model.decision_function(DIABETES))
    assert 27 < margins.max() < 35
    record = explainer(model, DIABETES, engine="trees").explain(DIABETES.iloc[int(margins.argmax())])
    assert record.effects.sum() == pytest.approx(margins.max())


def test_a_long_text_is_explained_by_its_words():
    text = "not a bad film at all , but the plot is thin and the actors are so dull that i fell asleep before the end"
    record = Harsanyi("zoo:movie-reviews", budget=512).explain(text)
    assert isinstance(record, SparseInteractions)
    assert len(record.players) > 20
    assert record.r2 > 0.5
    assert pd.Series(record.shapley).abs().max() > 0


def test_engines_agree_over_several_rows_of_a_baseline():
    estimator = HistGradientBoostingClassifier(**SMALL).fit(DIABETES, AMOUNT > 140)
    rows = DIABETES.iloc[20:25]
    found = {
        engine: explainer(estimator, DIABETES, engine=engine, baseline=rows).explain(DIABETES.iloc[7])
        for engine in ("trees", "exact", "sampled")
    }
    singles = [
        explainer(estimator, DIABETES, engine="exact", baseline=row).explain(DIABETES.iloc[7])
        for row in rows.to_dict("records")
    ]
    effects = np.array([single.i_and for single in singles])
    exact = found["exact"]
    np.testing.assert_allclose(exact.i_and, effects.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(exact.spreads, effects.std(axis=0), atol=1e-12)
    by_players = {tuple(p["players"]): p for p in exact.patterns(exact.strongest())}
    for pattern in found["trees"].patterns():
        same = by_players[tuple(pattern["players"])]
        assert pattern["effect"] == pytest.approx(same["effect"], abs=1e-9)
        assert pattern["spread"] == pytest.approx(same["spread"], abs=1e-9)
    assert (found["trees"].calls, exact.calls) == (6, 5 * 2 ** DIABETES.shape[1])
    assert found["sampled"].calls % 5 == 0
    assert "spread" not in found["sampled"].patterns()[0]
    np.testing.assert_allclose(found["sampled"].shapley, exact.shapley, atol=0.02 * np.abs(exact.v).max())


def test_rows_of_a_baseline_are_read_and_drawn(tmp_path):
    estimator = HistGradientBoostingRegressor(**SMALL).fit(DIABETES, AMOUNT)
    DIABETES.iloc[:3].to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "rows.json").write_text(json.dumps(DIABETES.iloc[:3].to_dict("records")))
    as_csv, as_json = (
        explainer(estimator, DIABETES, baseline=f"rows:{tmp_path / f'rows.{s}'}") for s in ("csv", "json")
    )
    given = explainer(estimator, DIABETES, baseline=DIABETES.iloc[:3])
    assert as_csv.baseline_rows == as_json.baseline_rows == given.baseline_rows == DIABETES.iloc[:3].to_dict("records")
    drawn = [explainer(estimator, DIABETES, baseline="sample:4", seed=seed).baseline_rows for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(row in DIABETES.to_dict("records") for row in drawn[0])
    again = explainer(estimator, DIABETES, baseline="sample:4").to_package(tmp_path)
    assert again.params["baseline"] == "sample:4"
    assert read_package(tmp_path, torch.device("cpu")).baseline_rows == drawn[0]


@pytest.mark.parametrize(
    ("baseline", "sentence"),
    [
        ("rows", "baseline rows needs a file"),
        ("rows:missing.csv", "baseline rows:missing.csv: no such file"),
        ("sample:0", "expected sample:K with K from 1 to 1000"),
        ("sample:443", "the statistics have 442 rows"),
        (3, "got int"),
        ([], "a baseline has 1 to 1000 rows, got 0"),
        ([{"age": 1.0}, {"age": "x"}], "row 0 of the baseline"),
    ],
)
def test_baselines_that_are_no_rows(baseline, sentence):
    estimator = HistGradientBoostingRegressor(**SMALL).fit(DIABETES, AMOUNT)
    with pytest.raises(InputError, match=sentence):
        explainer(estimator, DIABETES, baseline=baseline).explain(DIABETES.iloc[0])


def test_a_named_model_has_no_rows_to_draw():
    with pytest.raises(InputError, match="draws rows of the statistics, and none are given"):
        Harsanyi("zoo:wine", baseline="sample:4")


def test_leaves_that_are_exchanged_are_seen_by_all_engines():
    boosted = HistGradientBoostingRegressor(**SMALL).fit(DIABETES, AMOUNT)
    by_trees, by_all = (explainer(boosted, DIABETES, engine=engine) for engine in ("trees", "exact"))
    before = effects_of(by_trees.explain(DIABETES.iloc[7]))
    assert by_trees.engines.redraw(1.0, 0) == 12
    by_all.engines.redraw(1e-9, 1)  # the same model: what was read of it before is forgotten
    by_trees.engines.redraw(1e-9, 2)
    found, expected = effects_of(by_trees.explain(DIABETES.iloc[7])), effects_of(by_all.explain(DIABETES.iloc[7]))
    for pattern in {*found, *expected}:
        assert found.get(pattern, 0.0) == pytest.approx(expected.get(pattern, 0.0), abs=1e-8)
    assert found != before
    assert explainer(LogisticRegression(max_iter=5000).fit(IRIS, KIND), IRIS).engines.redraw(1.0, 0) == 0
