"""Trees of scikit-learn's estimators.

Decision trees and forests compare samples in single precision with thresholds in double precision; what a leaf says is
the probability of each class, or the value. Gradient boosting adds up margins from a constant on. Hist gradient
boosting compares in double precision; its categorical columns become numbers, and come first.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn import ensemble, tree
from sklearn.dummy import DummyClassifier, DummyRegressor

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.trees.ensemble import NODE, Ensemble, stacked
from conceptry.models.harsanyi.trees.model import (
    EXACT,
    MARGIN,
    PROBABILITY,
    VALUE,
    TreeModel,
    dense,
    outputs_of,
    the_output,
)

_SINGLE_TREES = (tree.DecisionTreeClassifier, tree.DecisionTreeRegressor)  # extra trees are among them
_FORESTS = (
    ensemble.RandomForestClassifier,
    ensemble.RandomForestRegressor,
    ensemble.ExtraTreesClassifier,
    ensemble.ExtraTreesRegressor,
)
_BOOSTED = (ensemble.GradientBoostingClassifier, ensemble.GradientBoostingRegressor)
_HIST = (ensemble.HistGradientBoostingClassifier, ensemble.HistGradientBoostingRegressor)


def reader_of(estimator: Any) -> Callable[[Any, str | None], TreeModel] | None:
    """The reader of an estimator, None where it is none of the trees."""
    for kinds, reader in (
        (_SINGLE_TREES, _read_forest),
        (_FORESTS, _read_forest),
        (_BOOSTED, _read_boosted),
        (_HIST, _read_hist),
    ):
        if isinstance(estimator, kinds):
            return reader
    return None


def columns_of(estimator: Any) -> tuple[tuple[str, ...], bool]:
    """Names of the columns of an estimator, and whether they are its own."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return tuple(f"x{k}" for k in range(estimator.n_features_in_)), False
    return tuple(map(str, names)), True


def giver(named: bool) -> Callable[[pd.DataFrame], Any]:
    """Tables for estimators that were fitted to one, arrays for the others."""
    return (lambda table: table) if named else (lambda table: table.to_numpy())


def classes_of(estimator: Any) -> tuple[Any, ...] | None:
    """Classes of a classifier, as Python's own objects."""
    classes = getattr(estimator, "classes_", None)
    return None if classes is None else tuple(np.asarray(classes).tolist())


def _single(x: Any) -> np.ndarray:
    return np.asarray(dense(x), np.float32).astype(np.float64)


def _model(
    estimator: Any,
    output: str,
    n_outputs: int,
    of_output: Callable[[int], Ensemble],
    predict: Callable[[Any], Any],
    encode: Callable[[Any], np.ndarray] = _single,
    feature_owners: Callable[[np.ndarray], np.ndarray] = lambda owner: owner,
) -> TreeModel:
    columns, named = columns_of(estimator)
    return TreeModel(
        type(estimator).__name__,
        columns,
        named,
        classes_of(estimator),
        output,
        n_outputs,
        EXACT,
        of_output,
        giver(named),
        encode,
        feature_owners,
        lambda x: outputs_of(predict(x)),
    )


def _sum(fitted: Sequence[Any], values: Sequence[np.ndarray], base: float, n_features: int) -> Ensemble:
    """The sum of fitted trees whose nodes have `values`."""
    roots, _ = stacked([len(value) for value in values])
    nodes = np.zeros(sum(map(len, values)), NODE)
    nodes["word"] = -1
    for root, tree_, value in zip(roots.tolist(), fitted, values, strict=True):
        part, left = nodes[root : root + len(value)], tree_.children_left  # arrays of one tree fit into fast memory
        part["feature"], part["threshold"], part["value"] = tree_.feature, tree_.threshold, value
        part["left"], part["right"] = np.where(left < 0, -1, left + root), tree_.children_right + root
        part["missing_left"] = tree_.missing_go_to_left
    return Ensemble(nodes, np.empty(0, np.uint32), roots.astype(np.int32), float(base), n_features)


def _read_forest(estimator: Any, output: str | None) -> TreeModel:
    kind = type(estimator).__name__
    if estimator.n_outputs_ != 1:
        raise InputError(f"{kind} has {estimator.n_outputs_} outputs; expected one: fit an estimator for each output")
    trees = getattr(estimator, "estimators_", [estimator])
    classes = classes_of(estimator)

    def of_output(k: int) -> Ensemble:
        share = [fitted.tree_.value[:, 0, k] / len(trees) for fitted in trees]
        return _sum([fitted.tree_ for fitted in trees], share, 0.0, estimator.n_features_in_)

    if classes is None:
        return _model(estimator, the_output(kind, output, VALUE), 1, of_output, estimator.predict)
    output = the_output(kind, output, PROBABILITY)
    return _model(estimator, output, len(classes), of_output, estimator.predict_proba)


def _read_boosted(estimator: Any, output: str | None) -> TreeModel:
    kind = type(estimator).__name__
    init: Any = estimator.init_
    if init != "zero" and not isinstance(init, (DummyClassifier, DummyRegressor)):
        raise InputError(
            f"{kind} starts from a {type(init).__name__}, which is not one constant for all samples; expected "
            "init='zero' or the default, or use the sampled engine"
        )
    if (strategy := getattr(init, "strategy", "")) in ("stratified", "uniform"):
        raise InputError(
            f"{kind} starts from outputs drawn at random (strategy={strategy!r}), which are no constant; expected "
            "init='zero' or the default, or use the sampled engine"
        )
    stages = estimator.estimators_  # (stages, outputs)
    start = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), np.float32))[0]

    def of_output(k: int) -> Ensemble:
        rate = estimator.learning_rate
        trees = [fitted.tree_ for fitted in stages[:, k]]
        return _sum(trees, [rate * tree_.value[:, 0, 0] for tree_ in trees], start[k], estimator.n_features_in_)

    if classes_of(estimator) is None:
        return _model(estimator, the_output(kind, output, VALUE), 1, of_output, estimator.predict)
    output = the_output(kind, output, MARGIN)
    return _model(estimator, output, stages.shape[1], of_output, estimator.decision_function)


_LOGARITHMIC = ("poisson", "gamma")


def _read_hist(estimator: Any, output: str | None) -> TreeModel:
    kind = type(estimator).__name__
    stages: Sequence[Sequence[Any]] = estimator._predictors
    start = np.ravel(estimator._baseline_prediction)

    def of_output(k: int) -> Ensemble:
        return _hist_sum([stage[k] for stage in stages], start[k], estimator.n_features_in_)

    def encode(x: Any) -> np.ndarray:
        prepared = x if estimator._preprocessor is None else estimator._preprocessor.transform(x)
        return np.asarray(prepared, np.float64)

    def feature_owners(owner: np.ndarray) -> np.ndarray:
        categorical = estimator.is_categorical_
        if categorical is None:
            return owner
        return np.concatenate([owner[categorical], owner[~categorical]])  # the preprocessor takes them apart

    n_outputs = len(start)
    if classes_of(estimator) is not None:
        exact, predict = MARGIN, estimator.decision_function
    elif estimator.loss in _LOGARITHMIC:
        exact, predict = MARGIN, lambda x: np.log(estimator.predict(x))
    else:
        exact, predict = VALUE, estimator.predict
    output = the_output(kind, output, exact)
    return _model(estimator, output, n_outputs, of_output, predict, encode, feature_owners)


def _hist_sum(predictors: Sequence[Any], base: float, n_features: int) -> Ensemble:
    nodes = np.concatenate([predictor.nodes for predictor in predictors])
    roots, shift = stacked([len(predictor.nodes) for predictor in predictors])
    leaf = nodes["is_leaf"].astype(bool)
    categories = {}
    for node in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf):
        sets = predictors[int(np.searchsorted(roots, node, side="right")) - 1].raw_left_cat_bitsets
        bits = np.unpackbits(sets[nodes["bitset_idx"][node]].view(np.uint8), bitorder="little")
        categories[int(node)] = np.flatnonzero(bits)
    return Ensemble.of(
        nodes["feature_idx"],
        nodes["num_threshold"],
        np.where(leaf, -1, nodes["left"] + shift),
        nodes["right"] + shift,
        nodes["value"],
        roots,
        base=base,
        n_features=n_features,
        missing_left=nodes["missing_go_to_left"],
        categories=categories,
    )


def leaf_values(estimator: Any) -> list[np.ndarray]:
    """What the leaves of each tree say, (leaves, ...), in the order of training."""
    return [values[is_leaf] for values, is_leaf in _leaves(estimator)]


def set_leaf_values(estimator: Any, values: Sequence[np.ndarray]) -> None:
    """Have the leaves say `values`, as `leaf_values` gives them."""
    for (old, is_leaf), new in zip(_leaves(estimator), values, strict=True):
        old[is_leaf] = new


def _leaves(estimator: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """The values of the nodes of each tree, as a view, and which of them are leaves."""
    if reader_of(estimator) is None:
        return []
    if isinstance(estimator, _HIST):
        nodes = [predictor.nodes for stage in estimator._predictors for predictor in stage]
        return [(each["value"], each["is_leaf"].astype(bool)) for each in nodes]
    fitted = np.ravel(getattr(estimator, "estimators_", estimator))
    return [(each.tree_.value, each.tree_.children_left < 0) for each in fitted]
