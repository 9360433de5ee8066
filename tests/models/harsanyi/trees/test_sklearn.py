"""scikit-learn's trees against all subsets asked of the estimator itself."""

import numpy as np
import pytest
from sklearn import ensemble, tree
from sklearn.linear_model import LinearRegression

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.trees.reading import read

REGRESSORS = [
    tree.DecisionTreeRegressor(random_state=0),
    tree.DecisionTreeRegressor(max_leaf_nodes=2),
    tree.ExtraTreeRegressor(random_state=0),
    ensemble.RandomForestRegressor(7, random_state=0, criterion="poisson"),
    ensemble.ExtraTreesRegressor(7, random_state=0),
    ensemble.HistGradientBoostingRegressor(max_iter=7, categorical_features=[5]),
    ensemble.HistGradientBoostingRegressor(max_iter=30, early_stopping=True, n_iter_no_change=1, random_state=0),
]
CLASSIFIERS = [
    tree.DecisionTreeClassifier(random_state=0, class_weight="balanced"),
    tree.ExtraTreeClassifier(random_state=0),
    ensemble.RandomForestClassifier(7, random_state=0),
    ensemble.ExtraTreesClassifier(7, random_state=0, max_depth=5),
]


@pytest.mark.parametrize("estimator", REGRESSORS, ids=lambda e: type(e).__name__)
def test_values_of_regressors(explained, numbers, classes, estimator):
    estimator.fit(numbers, classes + 0.5, sample_weight=1 + classes)
    for sample in (0, 2, 4):
        found = explained(estimator, estimator.predict, numbers[[sample]], numbers[[sample + 1]])
        assert found.output == "value"


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=lambda e: type(e).__name__)
def test_probabilities_of_classifiers(explained, numbers, classes, estimator):
    estimator.fit(numbers, classes, sample_weight=1 + classes)
    for target in range(3):
        rows = numbers[[target]], numbers[[9]]
        explained(estimator, lambda x, k=target: estimator.predict_proba(x)[:, k], *rows, target=target)


@pytest.mark.parametrize("init", ["zero", None])
@pytest.mark.parametrize("loss", ["log_loss", "exponential", "squared_error", "quantile"])
def test_margins_of_gradient_boosting(explained, numbers, classes, loss, init):
    x = np.nan_to_num(numbers)
    if loss in ("squared_error", "quantile"):
        estimator = ensemble.GradientBoostingRegressor(n_estimators=7, loss=loss, init=init, subsample=0.7)
        explained(estimator.fit(x, classes), estimator.predict, x[[0]], x[[1]])
    else:
        estimator = ensemble.GradientBoostingClassifier(n_estimators=7, loss=loss, init=init)
        explained(estimator.fit(x, classes > 0), estimator.decision_function, x[[0]], x[[1]])


def test_margins_of_several_classes(explained, numbers, mixed, classes):
    x = np.nan_to_num(numbers)
    boosted = ensemble.GradientBoostingClassifier(n_estimators=9, n_iter_no_change=2).fit(x, classes)
    explained(boosted, lambda rows: boosted.decision_function(rows)[:, 2], x[[0]], x[[1]], target=2)
    hist = ensemble.HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype").fit(mixed, classes)
    for row in (0, 3):
        rows = mixed.iloc[[row]], mixed.iloc[[row + 1]]
        explained(hist, lambda table: hist.decision_function(table)[:, 1], *rows, target=1)


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
def test_a_logarithmic_link_explains_the_margin(explained, numbers, classes, loss):
    estimator = ensemble.HistGradientBoostingRegressor(max_iter=5, loss=loss).fit(numbers, classes + 1)
    found = explained(estimator, lambda x: np.log(estimator.predict(x)), numbers[[0]], numbers[[1]])
    assert found.output == "margin"


def test_values_unseen_in_training_go_where_the_estimator_sends_them(explained, numbers, classes):
    forest = ensemble.RandomForestRegressor(5, random_state=0).fit(np.nan_to_num(numbers), classes)
    explained(forest, forest.predict, numbers[[1]], numbers[[5]])
    hist = ensemble.HistGradientBoostingRegressor(max_iter=5, categorical_features=[5]).fit(
        numbers[:150], classes[:150]
    )
    odd = numbers[[7]].copy()
    odd[0, 5] = 77
    explained(hist, hist.predict, odd, numbers[[8]])


def test_thresholds_are_met_in_single_precision(explained):
    x = np.random.default_rng(0).normal(size=(60, 8))
    estimator = tree.DecisionTreeRegressor().fit(x, x.sum(axis=1))
    at = np.array([[estimator.tree_.threshold[0] * (1 + 1e-12)] * 8])
    explained(estimator, estimator.predict, at, x[[0]])


def test_a_start_that_is_no_constant_is_refused(numbers, classes):
    estimator = ensemble.GradientBoostingRegressor(n_estimators=2, init=LinearRegression())
    with pytest.raises(InputError, match="GradientBoostingRegressor starts from a LinearRegression, which is not one"):
        read(estimator.fit(np.nan_to_num(numbers), classes))
