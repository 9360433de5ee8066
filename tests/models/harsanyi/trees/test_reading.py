"""Trees whose leaves are exchanged: what they say is still what is read of them."""

import copy

import numpy as np
import pytest
from sklearn import ensemble, tree
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from conceptry.models.harsanyi.trees import sklearn as leaves
from conceptry.models.harsanyi.trees.reading import redraw

FOREST = ensemble.RandomForestRegressor(5, random_state=0)


def _of(library: str, kind: str, **options):
    return getattr(pytest.importorskip(library), kind)(**options)


@pytest.mark.parametrize(
    ("make", "trees"),
    [
        (lambda: tree.DecisionTreeRegressor(random_state=0), 1),
        (lambda: FOREST, 5),
        (lambda: ensemble.HistGradientBoostingRegressor(max_iter=4, categorical_features=[5]), 4),
        (lambda: make_pipeline(SimpleImputer(), ensemble.GradientBoostingRegressor(n_estimators=4)), 4),
        (lambda: GridSearchCV(FOREST, {"max_depth": [4]}), 5),
        (lambda: ensemble.BaggingRegressor(FOREST, 2), 10),
        (lambda: ensemble.VotingRegressor([("a", FOREST), ("b", tree.DecisionTreeRegressor())]), 6),
        (lambda: _of("xgboost", "XGBRegressor", n_estimators=6, booster="dart", rate_drop=0.3, n_jobs=1), 6),
        (lambda: _of("lightgbm", "LGBMRegressor", n_estimators=6, min_child_samples=5, verbose=-1, n_jobs=1), 6),
        (lambda: _of("catboost", "CatBoostRegressor", n_estimators=6, silent=True, allow_writing_files=False), 6),
    ],
    ids=["tree", "forest", "hist", "pipeline", "search", "bagging", "voting", "xgboost", "lightgbm", "catboost"],
)
def test_leaves_are_exchanged_within_trees(explained, numbers, classes, make, trees):
    model = make().fit(numbers, classes + 0.5)
    before = model.predict(numbers)
    assert redraw(model, 1e-9, 0) == 1  # the last tree
    assert redraw(model, 1.0, 0) == trees
    after = model.predict(numbers)
    assert not np.allclose(after, before)
    single = "XGB" in type(model).__name__
    explained(model, model.predict, numbers[[0]], numbers[[1]], rtol=1e-5 if single else 1e-10)


def test_the_seed_says_how_and_the_share_which(numbers, classes):
    forest = ensemble.RandomForestClassifier(6, random_state=0).fit(np.nan_to_num(numbers), classes)
    one, same, other = (copy.deepcopy(forest) for _ in range(3))
    for changed, seed in ((one, 3), (same, 3), (other, 4)):
        assert redraw(changed, 0.5, seed) == 3
    whole, *drawn = (leaves.leaf_values(each) for each in (forest, one, same, other))
    for k, values in enumerate(whole):
        rows = [each[k] for each in drawn]
        np.testing.assert_array_equal(rows[0], rows[1])
        assert np.array_equal(rows[0], values) == (k < 3)
        shares, expected = (each.reshape(-1, 3).tolist() for each in (rows[2], values))
        assert sorted(shares) == sorted(expected)  # those of a leaf stay together


def test_what_has_no_trees_is_left_alone(numbers, classes):
    x = np.nan_to_num(numbers)
    assert redraw(LinearRegression().fit(x, classes), 1.0, 0) == 0
    assert redraw(make_pipeline(LinearRegression()).fit(x, classes), 1.0, 0) == 0
    assert redraw(np.ones(3), 1.0, 0) == 0
