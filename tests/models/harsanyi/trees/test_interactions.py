"""Terms of trees against a literal transcription of their derivation, and what is refused."""

import pickle
import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

from conceptry.models import harsanyi
from conceptry.models.errors import InputError
from conceptry.models.harsanyi.maskers.base import BACKGROUND
from conceptry.models.harsanyi.trees import interactions
from conceptry.models.harsanyi.trees.ensemble import Ensemble
from conceptry.models.harsanyi.trees.interactions import leaf_sums, terms_of, tree_interactions
from conceptry.models.harsanyi.trees.reading import read


def terms_by_definition(trees, base, x, b, owner):
    """trees: nested (feature, threshold, left, right), or the value of a leaf."""
    found = {(): base}

    def visit(node, present, absent):
        if not isinstance(node, tuple):
            for size in range(len(absent) + 1):
                for chosen in combinations(sorted(absent), size):
                    players = tuple(sorted(present | set(chosen)))
                    found[players] = found.get(players, 0.0) + (-1) ** size * node
            return
        feature, threshold, left, right = node
        player = owner[feature]
        x_child = left if x[feature] <= threshold else right
        b_child = left if b[feature] <= threshold else right
        if player == BACKGROUND or x_child is b_child or player in present:
            visit(x_child, present, absent)
        elif player in absent:
            visit(b_child, present, absent)
        else:
            visit(x_child, present | {player}, absent)
            visit(b_child, present, absent | {player})

    for tree in trees:
        visit(tree, frozenset(), frozenset())
    return found


def ensemble_of(trees, base, n_features):
    rows, roots = [], []

    def add(node):
        place = len(rows)
        if isinstance(node, tuple):
            rows.append(None)
            rows[place] = (node[0], node[1], add(node[2]), add(node[3]), 0.0)
        else:
            rows.append((0, 0.0, -1, -1, node))
        return place

    for tree in trees:
        roots.append(add(tree))
    feature, threshold, left, right, value = (np.array([row[k] for row in rows]) for k in range(5))
    return Ensemble.of(feature, threshold, left, right, value, np.array(roots), base=base, n_features=n_features)


def nested_trees(n):
    leaves = st.floats(-10, 10)
    splits = st.tuples(st.integers(0, n - 1), st.sampled_from([-1.0, 0.0, 1.0]))
    return st.recursive(
        leaves, lambda inner: st.tuples(splits, inner, inner).map(lambda t: (*t[0], t[1], t[2])), max_leaves=12
    )


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.data())
def test_terms_are_those_of_the_derivation(data):
    n = data.draw(st.integers(1, 5))
    trees = data.draw(st.lists(nested_trees(n), min_size=1, max_size=4))
    row = st.lists(st.sampled_from([-1.5, -0.5, 0.5, 1.5]), min_size=n, max_size=n).map(np.array)
    x, b = data.draw(row), data.draw(row)
    owner = np.array(data.draw(st.lists(st.integers(BACKGROUND, 2), min_size=n, max_size=n)))
    ensemble = ensemble_of(trees, 0.5, n)
    found, spreads = terms_of(ensemble, x, b[None], owner, 3)
    expected = terms_by_definition(trees, 0.5, x, b, owner)
    for players in expected.keys() | found.and_terms.keys():
        assert found.and_terms.get(players, 0.0) == pytest.approx(expected.get(players, 0.0), abs=1e-12)
    assert ensemble.predict(x[None])[0] == pytest.approx(sum(expected.values()), abs=1e-12)
    assert found.sizes.tolist() == sorted(found.sizes)
    assert found.sizes[0] == 0
    assert not spreads.any()
    leaves = leaf_sums(ensemble, x, b[None], owner, 3)
    shares = [sum(e / len(p) for p, e in expected.items() if player in p) for player in range(3)]
    np.testing.assert_allclose(leaves.shapley, shares, atol=1e-12)
    assert leaves.full == pytest.approx(sum(expected.values()), abs=1e-12)
    assert leaves.empty == pytest.approx(expected[()], abs=1e-12)
    assert leaves.scale == pytest.approx(ensemble.scale(np.stack([x, np.where(owner < 0, x, b)])), abs=1e-12)


def test_each_of_a_thousand_players_is_told_apart():
    n = 1000
    chain = 0.0
    for player in reversed(range(0, n, 100)):
        chain = (player, 0.0, chain, float(player + 1))
    trees = [chain, *((player, 0.0, 0.0, float(player)) for player in range(n))]
    found, _ = terms_of(ensemble_of(trees, 0.0, n), np.ones(n), np.zeros((1, n)), np.arange(n), n)
    expected = terms_by_definition(trees, 0.0, np.ones(n), np.zeros(n), np.arange(n))
    assert found.and_terms == pytest.approx({k: v for k, v in expected.items() if v or not k}, abs=1e-9)
    assert found.sizes.max() == 10
    leaves = leaf_sums(ensemble_of(trees, 0.0, n), np.ones(n), np.zeros((1, n)), np.arange(n), n)
    np.testing.assert_allclose(leaves.shapley, found.shapley_values(), atol=1e-9)
    assert leaves.most_absent == 9


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(3)
    x = generator.normal(size=(150, 6))
    return x, x[:, 0] * x[:, 1] + x[:, 2] - x[:, 5]


@pytest.fixture(scope="module")
def forest(data):
    return RandomForestRegressor(8, random_state=0).fit(*data)


def test_several_baselines_are_averaged(forest, data):
    x, baselines = data[0][0], data[0][1:6]
    found = tree_interactions(forest, x, baselines)
    each = [tree_interactions(forest, x, baseline).terms for baseline in baselines]
    values = {players: [one.get(players, 0.0) for one in each] for players in set().union(*each)}
    assert found.terms == pytest.approx({players: np.mean(effects) for players, effects in values.items()}, abs=1e-12)
    assert found.spread == pytest.approx({players: np.std(effects) for players, effects in values.items()}, abs=1e-9)
    assert found.baseline_value == pytest.approx(forest.predict(baselines).mean(), abs=1e-12)
    assert found.n_baselines == 5
    assert found.shapley_values().sum() == pytest.approx(found.value - found.baseline_value, abs=1e-12)


@pytest.mark.parametrize("rows", [1, 5])
def test_shapley_values_are_those_of_the_terms_which_are_written_down_when_asked_for(forest, data, monkeypatch, rows):
    found = tree_interactions(harsanyi.read_trees(forest), data[0][0], data[0][1 : 1 + rows])
    with monkeypatch.context() as patched:
        patched.setattr(interactions, "terms_of", None)
        values = found.shapley_values()
        copied = pickle.loads(pickle.dumps(found))
    np.testing.assert_allclose(values, found.sparse.shapley_values(), atol=1e-12)
    assert copied.terms == found.terms
    values[:] = 0.0
    assert found.shapley_values().any()


def test_columns_of_a_group_are_absent_together(forest, data):
    x, baseline = data[0][7], data[0][8]
    found = tree_interactions(forest, x, baseline, {"pair": ["x4", 0], "rest": [3, 5]})
    assert found.players == ("pair", "x1", "x2", "rest")
    masks = harsanyi.subset_masks(4)
    v = forest.predict(np.where(masks[:, [0, 1, 2, 3, 0, 3]], x, baseline))
    np.testing.assert_allclose(found.sparse.values(masks), v, atol=1e-12)
    assert tree_interactions(forest, x, baseline, [[0, 4], [3, 5]]).players == ("x0 + x4", "x1", "x2", "x3 + x5")


def test_one_reading_explains_many_samples(forest, data):
    model = read(forest)
    found = tree_interactions(model, data[0][3], data[0][4])
    assert found.terms == tree_interactions(forest, data[0][3], data[0][4]).terms
    assert model.ensemble(0) is model.ensemble(0)


def test_rows_come_in_every_form(data):
    table = pd.DataFrame(data[0], columns=list("abcdef"))
    forest = RandomForestRegressor(3, random_state=0).fit(table, data[1])
    expected = tree_interactions(forest, data[0][0], data[0][1])
    backwards = table[list("fedcba")]
    for sample, baseline in [
        (table.iloc[[0]], table.iloc[1:2]),
        (backwards.iloc[0], backwards.iloc[1].to_dict()),
        (data[0][:1].tolist(), [table.iloc[1].to_dict()]),
    ]:
        assert tree_interactions(forest, sample, baseline).terms == expected.terms
    assert expected.players == tuple("abcdef")


def test_the_target_is_chosen_by_label_or_number(data):
    labels = np.array(["low", "mid", "top"])[np.digitize(data[1], [-1, 1])]
    forest = RandomForestClassifier(5, random_state=0).fit(data[0], labels)
    found = tree_interactions(forest, data[0][0], data[0][1])
    assert found.target == forest.predict(data[0][:1])[0]
    assert found.output == "probability"
    assert tree_interactions(forest, data[0][0], data[0][1], target=2).target == "top"
    two = GradientBoostingClassifier(n_estimators=3).fit(data[0], data[1] > 0)
    against, towards = (tree_interactions(two, data[0][0], data[0][1], target=t) for t in (False, True))
    assert towards.terms == tree_interactions(two, data[0][0], data[0][1]).terms
    assert against.terms == {players: -effect for players, effect in towards.terms.items()}
    assert towards.output == "margin"


def test_too_many_terms_are_refused_before_they_are_made():
    n = 30
    chain = 2.0
    for player in range(n):
        chain = (player, 0.0, chain, 1.0)
    ensemble = ensemble_of([chain], 0.0, n)
    with pytest.raises(InputError, match=r"a leaf hangs on the absence of 30 players, and the limit is 24; group col"):
        terms_of(ensemble, np.ones(n), np.zeros((1, n)), np.arange(n), n)


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        ("MOST_STEPS", "the leaves have [0-9]+ terms, and the limit is 3; group columns"),
        ("MOST_TERMS", "there are more than 3 different terms, which is the limit; group columns"),
    ],
)
def test_limits_name_the_way_out(forest, data, monkeypatch, limit, sentence):
    monkeypatch.setattr(interactions, limit, 3)
    with pytest.raises(InputError, match=sentence):
        tree_interactions(forest, data[0][0], data[0][1])


def test_a_wrong_reading_is_refused_with_both_numbers(forest, data):
    import dataclasses

    model = read(forest)
    wrong = dataclasses.replace(model, trees=lambda k: model.trees(k).scaled(1 + 1e-8), _read={})
    with pytest.raises(InputError, match=r"the terms read from RandomForestRegressor give (\S+) for the sample"):
        tree_interactions(wrong, data[0][0], data[0][1])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"sample": [1.0, 2.0]},
            "the sample is no row of 6 values, one for each column of the estimator: shape (1,",
        ),
        ({"sample": np.zeros((2, 6))}, "the sample has 2 rows; expected one"),
        ({"baseline": np.zeros((0, 6))}, "the baseline has no row; expected one or more"),
        ({"baseline": {"x0": 1.0}}, "the baseline has 1 columns; expected the 6 of the estimator"),
        ({"sample": ["a"] * 6}, "RandomForestRegressor does not take the sample and the baseline: could not convert"),
        ({"players": {"a": ["x9"]}}, "player 'a': there is no column 'x9'; expected a name or a number below 6"),
        ({"players": [[0, 1], [1]]}, "'x1' (item 1) is in two groups"),
        ({"players": {"x0": [1, 2]}}, "two players are called 'x0'; expected different names"),
        ({"target": 1}, "target is 1, and RandomForestRegressor has no classes; leave the target out"),
        ({"output": "margin"}, "the margin of RandomForestRegressor is not a sum over its trees"),
        ({"output": "logit"}, "output is 'logit'; expected one of probability, margin, value"),
    ],
)
def test_bad_input_is_refused(forest, changes, sentence):
    given = {"sample": np.zeros(6), "baseline": np.ones(6)} | changes
    with pytest.raises(InputError, match=re.escape(sentence)):
        tree_interactions(forest, **given)


def test_what_has_no_trees_is_refused(data):
    with pytest.raises(InputError, match=r"there is no reader for the trees of LinearRegression; expected decision"):
        read(LinearRegression().fit(*data))
    with pytest.raises(InputError, match="DecisionTreeRegressor is not fitted; fit it first"):
        read(DecisionTreeRegressor())
    many = RandomForestRegressor(2).fit(data[0], data[0])
    with pytest.raises(InputError, match="RandomForestRegressor has 6 outputs; expected one: fit an estimator"):
        read(many)
