"""Averages of estimators, and searches, against all subsets."""

import numpy as np
import pytest
from sklearn import ensemble, tree
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.trees.reading import read

LABELS = np.array(["low", "mid", "top"])


@pytest.mark.parametrize("options", [{}, {"max_features": 0.6, "bootstrap_features": True}])
def test_bagging(explained, numbers, classes, options):
    part = make_pipeline(SimpleImputer(keep_empty_features=True), tree.DecisionTreeClassifier())
    few = ensemble.BaggingClassifier(part, 6, max_samples=4, random_state=1, **options)
    few.fit(numbers, LABELS[classes])
    assert any(len(part.classes_) < 3 for part in few.estimators_)  # of samples that lack a class
    for k, label in enumerate(LABELS):
        rows = numbers[[k]], numbers[[k + 1]]
        explained(few, lambda x, k=k: few.predict_proba(x)[:, k], *rows, target=str(label))
    regressor = ensemble.BaggingRegressor(ensemble.HistGradientBoostingRegressor(max_iter=3), 3, **options)
    regressor.fit(numbers, classes)
    explained(regressor, regressor.predict, numbers[[0]], numbers[[1]])


def test_voting(explained, numbers, classes):
    forest = ensemble.RandomForestClassifier(4, random_state=0)
    filled = make_pipeline(SimpleImputer(), ensemble.ExtraTreesClassifier(4, random_state=0))
    soft = ensemble.VotingClassifier([("a", forest), ("b", filled)], voting="soft", weights=[1, 2])
    soft.fit(numbers, LABELS[classes])
    explained(soft, lambda x: soft.predict_proba(x)[:, 2], numbers[[0]], numbers[[1]], target="top")
    parts = [("a", ensemble.RandomForestRegressor(4)), ("b", ensemble.HistGradientBoostingRegressor(max_iter=3))]
    mean = ensemble.VotingRegressor(parts).fit(numbers, classes)
    explained(mean, mean.predict, numbers[[0]], numbers[[1]])


def test_a_search_is_its_best_estimator(explained, numbers, classes):
    search = GridSearchCV(tree.DecisionTreeRegressor(), {"max_depth": [2, 3]}, cv=2).fit(numbers, classes)
    explained(search, search.predict, numbers[[0]], numbers[[1]])


def test_what_is_no_sum_over_trees_is_refused(numbers, classes):
    hist = ("a", ensemble.HistGradientBoostingClassifier(max_iter=2))
    soft = ensemble.VotingClassifier([hist], voting="soft").fit(numbers, classes)
    with pytest.raises(InputError, match="VotingClassifier averages the probability of HistGradientBoostingClassifier"):
        read(soft)
    hard = ensemble.VotingClassifier([("a", tree.DecisionTreeClassifier())]).fit(numbers, classes)
    with pytest.raises(InputError, match=r"VotingClassifier counts votes \(voting='hard'\), which are not sums"):
        read(hard)
    stacked = ensemble.StackingRegressor([("a", tree.DecisionTreeRegressor())], cv=2).fit(numbers, classes)
    with pytest.raises(InputError, match="there is no reader for the trees of StackingRegressor; expected decision"):
        read(stacked)
