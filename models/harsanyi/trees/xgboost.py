"""Trees of XGBoost, from the JSON that a booster writes.

Everything is in single precision there: a sample goes left where x < t, which is x <= the number before t. Missing
values go the default way; categories that a node lists go right. The base score is kept before the link.
"""

import json
import math
import re
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pandas as pd

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.trees.ensemble import Ensemble, stacked
from conceptry.models.harsanyi.trees.model import MARGIN, SINGLE, VALUE, TreeModel, not_fitted, outputs_of, the_output
from conceptry.models.harsanyi.trees.sklearn import classes_of, giver
from conceptry.models.harsanyi.trees.tables import with_categories

_LOGISTIC = ("binary:logistic", "binary:logitraw", "reg:logistic")
_LOGARITHMIC = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft")
_UNREAD = re.compile(rb'"(?:base_weights|loss_changes|parents|sum_hessian)":\[[^\]]*\],')  # half of what is written
_MARGINS = ("binary:", "multi:")  # objectives of classifiers


def read_xgboost(estimator: Any, output: str | None) -> TreeModel:
    """Read a Booster, or an estimator of XGBoost's scikit-learn interface."""
    kind = type(estimator).__name__
    if hasattr(estimator, "get_booster") and not estimator.__sklearn_is_fitted__():
        raise not_fitted(kind)
    booster = _booster(estimator)
    learner = json.loads(_UNREAD.sub(b"", bytes(booster.save_raw("json"))))["learner"]
    trees, info, weights, categories = _trees(kind, learner, _last_iteration(estimator))
    objective, n = learner["objective"]["name"], int(learner["learner_model_param"]["num_feature"])
    n_outputs = max(int(learner["learner_model_param"]["num_class"]), 1)
    if int(learner["learner_model_param"].get("num_target", 1)) > 1 or any(info[info >= n_outputs]):
        raise InputError(f"{kind} has several outputs; expected one: fit an estimator for each output")
    bases = _bases(learner, objective, n_outputs)
    names = booster.feature_names
    columns = tuple(names or (f"f{k}" for k in range(n)))
    missing = getattr(estimator, "missing", None)
    categorical = [k for k, known in enumerate(categories) if known is not None]

    classes = classes_of(estimator)
    if booster is estimator and objective.startswith(_MARGINS):
        classes = tuple(range(max(n_outputs, 2)))
    linked = classes is not None or objective in (*_LOGISTIC, *_LOGARITHMIC)

    def of_output(k: int) -> Ensemble:
        chosen = [t for t in range(len(trees)) if info[t] == k]
        return _sum([trees[t] for t in chosen], [weights[t] for t in chosen], bases[k], n)

    def encode(x: Any) -> np.ndarray:
        rows = _numbers(x, categories)
        if missing is not None and missing == missing:
            rows = np.where(rows == missing, np.nan, rows)
        return rows.astype(np.float32).astype(np.float64)

    def given(table: pd.DataFrame) -> Any:
        for k in categorical:
            if not isinstance(table.dtypes.iloc[k], pd.CategoricalDtype):
                table = with_categories(table, table.columns[k], categories[k])
        return giver(names is not None)(table)

    def predict(x: Any) -> np.ndarray:
        if booster is not estimator:
            return outputs_of(estimator.predict(x, output_margin=linked))
        from xgboost import DMatrix  # type: ignore[import-not-found,attr-defined]  # of the extra

        return outputs_of(booster.predict(DMatrix(x, enable_categorical=True), output_margin=linked))

    return TreeModel(
        kind,
        columns,
        names is not None,
        classes,
        the_output(kind, output, MARGIN if linked else VALUE),
        n_outputs,
        SINGLE,
        of_output,
        given,
        encode,
        lambda owner: owner,
        predict,
    )


def _last_iteration(estimator: Any) -> int | None:
    """The round that predictions of the estimator end with, None for the last; a Booster's own use all."""
    if not hasattr(estimator, "get_booster"):
        return None
    try:
        return int(estimator.best_iteration)
    except AttributeError:  # no early stopping
        return None


def _trees(kind: str, learner: dict, last: int | None) -> tuple[list[dict], np.ndarray, list[float], list[Any]]:
    """Trees, the output and the weight of each, and the categories of each column, None where it has none."""
    booster = learner["gradient_booster"]
    if booster["name"] == "gblinear":
        raise InputError(f"{kind} is linear (booster='gblinear') and has no trees; use the sampled engine")
    dropped = booster.get("weight_drop")
    model = (booster["gbtree"] if dropped is not None else booster)["model"]
    trees, info = model["trees"], np.array(model["tree_info"], np.int64)
    if any(map(_has_vectors, trees)):
        raise InputError(
            f"{kind} has a vector in each leaf (multi_strategy='multi_output_tree'), which cannot be read; fit it with "
            "multi_strategy='one_output_per_tree', or use the sampled engine"
        )
    end = len(trees) if last is None else model["iteration_indptr"][last + 1]
    weights = [1.0] * len(trees) if dropped is None else [float(w) for w in dropped]
    encodings = model.get("cats", {}).get("enc") or []
    n = int(learner["learner_model_param"]["num_feature"])
    categories = [_categories(encoding) for encoding in encodings] or [None] * n
    return trees[:end], info[:end], weights[:end], categories


def _categories(encoding: dict) -> list[Any] | None:
    """The categories of a column: texts as their bytes, one after another, or numbers."""
    values, offsets = encoding["values"], encoding.get("offsets")
    if not values:
        return None
    if offsets is None:
        return values
    content = bytes(value % 256 for value in values)
    return [content[a:b].decode() for a, b in pairwise(offsets)]


def _bases(learner: dict, objective: str, n_outputs: int) -> list[float]:
    """The base score of each output, behind the link."""
    text = learner["learner_model_param"]["base_score"]
    scores = [float(score) for score in text.strip("[]").split(",")]
    if objective in _LOGISTIC:
        scores = [math.log(score / (1 - score)) for score in scores]
    elif objective in _LOGARITHMIC:
        scores = [math.log(score) for score in scores]
    return scores * n_outputs if len(scores) == 1 else scores


def _sum(trees: Sequence[dict], weights: Sequence[float], base: float, n_features: int) -> Ensemble:
    """The weighted sum of trees."""
    sizes = [len(tree["left_children"]) for tree in trees]
    roots, shift = stacked(sizes)

    def nodes(name: str, dtype: type) -> np.ndarray:
        return np.fromiter(chain.from_iterable(tree[name] for tree in trees), dtype, sum(sizes))

    left, condition = nodes("left_children", np.int64), nodes("split_conditions", np.float32)
    categories = {}
    for root, tree in zip(roots.tolist(), trees, strict=True):
        places = zip(tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True)
        categories |= {root + node: np.array(tree["categories"][k : k + size]) for node, k, size in places}
    return Ensemble.of(
        nodes("split_indices", np.int64),
        np.nextafter(condition, np.float32(-np.inf)),
        np.where(left < 0, -1, left + shift),
        nodes("right_children", np.int64) + shift,
        condition.astype(np.float64) * np.repeat(weights, sizes),
        roots,
        base=base,
        n_features=n_features,
        missing_left=nodes("default_left", np.int64),
        categories=categories,
        listed_left=False,
    )


def _numbers(x: Any, categories: Sequence[list[Any] | None]) -> np.ndarray:
    """Samples as XGBoost takes them: what a sparse matrix leaves out is missing, categories are numbers."""
    if hasattr(x, "tocoo"):
        entries = x.tocoo()
        rows = np.full(x.shape, np.nan)
        rows[entries.row, entries.col] = entries.data
        return rows
    if not isinstance(x, pd.DataFrame):
        return np.asarray(x, np.float64)
    columns = []
    for (_, column), known in zip(x.items(), categories, strict=True):
        if isinstance(column.dtype, pd.CategoricalDtype):
            codes = column.cat.codes if known is None else column.cat.set_categories(known).cat.codes
            columns.append(np.where(codes < 0, np.nan, codes))
        else:
            columns.append(column.to_numpy(np.float64, na_value=np.nan))
    return np.stack(columns, axis=1)


def leaf_values(estimator: Any) -> list[np.ndarray]:
    """What the leaves of each tree say, (leaves,), in the order of training; none of trees with vectors in them."""
    return [
        condition[is_leaf] for condition, is_leaf in map(_conditions, _scalar_trees(estimator, _written(estimator)))
    ]


def set_leaf_values(estimator: Any, values: Sequence[np.ndarray]) -> None:
    """Have the leaves say `values`, as `leaf_values` gives them."""
    written = _written(estimator)
    for tree, new in zip(_scalar_trees(estimator, written), values, strict=True):
        condition, is_leaf = _conditions(tree)
        condition[is_leaf] = new
        tree["split_conditions"] = condition.tolist()
    _booster(estimator).load_model(bytearray(json.dumps(written).encode()))


def _booster(estimator: Any) -> Any:
    return estimator.get_booster() if hasattr(estimator, "get_booster") else estimator


def _written(estimator: Any) -> dict:
    return json.loads(bytes(_booster(estimator).save_raw("json")))


def _scalar_trees(estimator: Any, written: dict) -> list[dict]:
    """The trees that predictions end with, where each leaf is a number."""
    booster = written["learner"]["gradient_booster"]
    if booster["name"] == "gblinear":
        return []
    model, last = booster.get("gbtree", booster)["model"], _last_iteration(estimator)
    trees = model["trees"] if last is None else model["trees"][: model["iteration_indptr"][last + 1]]
    return [] if any(map(_has_vectors, trees)) else trees


def _has_vectors(tree: dict) -> bool:
    return int(tree["tree_param"]["size_leaf_vector"]) > 1


def _conditions(tree: dict) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds of a tree's nodes, which of leaves are their values, and which are leaves."""
    return np.array(tree["split_conditions"]), np.array(tree["left_children"]) < 0
