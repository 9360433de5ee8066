"""Trees of LightGBM, from the text that a booster writes, whose arrays its documentation names.

Everything is in double precision: a sample goes left where x <= t. `decision_type` says in bit 0 whether a node lists
categories (which go left), in bit 1 whether missing values go left, in bits 2 and 3 what is missing: nothing (NaN is
taken as 0), 0 and NaN, or NaN. Columns of categories of a table become their numbers in lists that the booster keeps.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.trees.ensemble import Ensemble
from conceptry.models.harsanyi.trees.model import (
    EXACT,
    MARGIN,
    VALUE,
    TreeModel,
    dense,
    not_fitted,
    outputs_of,
    the_output,
)
from conceptry.models.harsanyi.trees.sklearn import classes_of, giver
from conceptry.models.harsanyi.trees.tables import with_categories

_PLAIN = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "")
_CLASSIFYING = ("binary", "multiclass", "multiclassova")
_OWN_NAMES = re.compile(r"Column_\d+")


def read_lightgbm(estimator: Any, output: str | None) -> TreeModel:
    """Read a Booster, or an estimator of LightGBM's scikit-learn interface."""
    kind = type(estimator).__name__
    if hasattr(type(estimator), "booster_") and not estimator.__sklearn_is_fitted__():
        raise not_fitted(kind)
    booster = _booster(estimator)
    header, trees = _written(booster)
    if any(map(_is_linear, trees)):
        raise InputError(
            f"{kind} has linear functions in its leaves (linear_tree=True), which have no exact interactions from the "
            "trees alone; use the sampled engine"
        )
    n_outputs = int(header["num_tree_per_iteration"])
    factor = n_outputs / max(len(trees), 1) if "average_output" in header else 1.0
    columns, n = tuple(booster.feature_name()), booster.num_feature()
    named = not all(_OWN_NAMES.fullmatch(name) for name in columns)
    lists = booster.pandas_categorical or []
    infos = header["feature_infos"].split(" ")  # [least:greatest] of numbers, numbers of categories between colons
    listed = [k for k, info in enumerate(infos) if info != "none" and not info.startswith("[")]
    objective = header.get("objective", "")
    classes = classes_of(estimator)
    if booster is estimator and objective.split(" ")[0] in _CLASSIFYING:
        classes = tuple(range(max(n_outputs, 2)))
    linked = classes is not None or objective.split(" ")[0] not in _PLAIN or "sqrt" in objective.split(" ")

    def given(table: pd.DataFrame) -> Any:
        kept = any(isinstance(dtype, pd.CategoricalDtype) for dtype in table.dtypes)
        if lists and not kept and len(listed) == len(lists):  # a row that is no table has no columns of categories
            for k, known in zip(listed, lists, strict=True):
                table = with_categories(table, table.columns[k], known)
        return giver(named)(table)

    def encode(x: Any) -> np.ndarray:
        if not isinstance(x, pd.DataFrame):
            return np.asarray(dense(x), np.float64)
        remaining = iter(lists)
        numbers = []
        for _, column in x.items():
            if isinstance(column.dtype, pd.CategoricalDtype):
                codes = column.cat.set_categories(next(remaining)).cat.codes
                numbers.append(np.where(codes < 0, np.nan, codes))
            else:
                numbers.append(column.to_numpy(np.float64, na_value=np.nan))
        return np.stack(numbers, axis=1)

    return TreeModel(
        kind,
        columns,
        named,
        classes,
        the_output(kind, output, MARGIN if linked else VALUE),
        n_outputs,
        EXACT,
        lambda k: _sum(trees[k::n_outputs], n).scaled(factor),
        given,
        encode,
        lambda owner: owner,
        lambda x: outputs_of(estimator.predict(x, raw_score=linked)) * (factor if linked else 1.0),
        written=lambda name: name.replace(" ", "_"),
    )


def _entries(block: str) -> dict[str, str]:
    """The lines "name=value" of a block; a line without a value stands for itself."""
    return {name: value for name, _, value in (line.partition("=") for line in block.splitlines())}


def _sum(trees: Sequence[Mapping[str, str]], n_features: int) -> Ensemble:
    """The sum of trees. Inner nodes come first, those of all trees; the text has leaf k of a tree as child -1 - k."""
    n_leaves = np.array([int(tree["num_leaves"]) for tree in trees], np.int64)
    n_inner = n_leaves - 1
    inner, total = np.cumsum(n_inner) - n_inner, int(n_inner.sum())
    leaf = total + np.cumsum(n_leaves) - n_leaves

    def numbers(name: str, dtype: type, trees: Sequence[Mapping[str, str]] = trees) -> np.ndarray:
        return np.fromstring(" ".join(tree.get(name, "") for tree in trees), dtype, sep=" ")

    split = [tree for tree in trees if tree["num_leaves"] != "1"]  # what a tree of one leaf says of nodes is filler
    threshold, decision = numbers("threshold", np.float64, split), numbers("decision_type", np.int64, split)
    listed, what = (decision & 1) == 1, decision >> 2 & 3
    missing_left = np.where(what == 0, threshold >= 0, (decision & 2) > 0) & ~listed

    def with_leaves(of_inner: np.ndarray, of_leaf: Any = 0) -> np.ndarray:
        return np.append(of_inner, np.full(int(n_leaves.sum()), of_leaf, of_inner.dtype))

    def children(side: str) -> np.ndarray:
        child = numbers(f"{side}_child", np.int64, split)
        return with_leaves(
            np.where(child < 0, np.repeat(leaf, n_inner) - 1 - child, np.repeat(inner, n_inner) + child), -1
        )

    return Ensemble.of(
        with_leaves(numbers("split_feature", np.int64, split)),
        with_leaves(threshold),
        children("left"),
        children("right"),
        np.append(np.zeros(total), numbers("leaf_value", np.float64)),
        np.where(n_inner > 0, inner, leaf),
        base=0.0,
        n_features=n_features,
        missing_left=with_leaves(missing_left),
        zero_missing=with_leaves((what == 1) & ~listed),
        categories={k: v for tree, first in zip(trees, inner.tolist(), strict=True) for k, v in _listed(tree, first)},
    )


def _listed(tree: Mapping[str, str], first: int) -> Iterator[tuple[int, np.ndarray]]:
    """Nodes of a tree that list categories, numbered from `first` on, and what they list."""
    if tree.get("num_cat", "0") == "0":
        return
    words = np.array(tree["cat_threshold"].split(), np.uint32)
    bounds = np.array(tree["cat_boundaries"].split(), np.int64)
    for node, (kind, place) in enumerate(zip(tree["decision_type"].split(), tree["threshold"].split(), strict=True)):
        if int(kind) & 1:
            start, stop = bounds[int(float(place)) : int(float(place)) + 2]
            yield first + node, np.flatnonzero(np.unpackbits(words[start:stop].view(np.uint8), bitorder="little"))


def leaf_values(estimator: Any) -> list[np.ndarray]:
    """What the leaves of each tree say, (leaves,), in the order of training; none of trees with functions in them."""
    _, trees = _written(_booster(estimator))
    if any(map(_is_linear, trees)):
        return []
    return [np.array(tree["leaf_value"].split(" "), np.float64) for tree in trees]


def set_leaf_values(estimator: Any, values: Sequence[np.ndarray]) -> None:
    """Have the leaves say `values`, as `leaf_values` gives them."""
    booster = _booster(estimator)
    for tree, of_tree in enumerate(values):
        for leaf, value in enumerate(of_tree.tolist()):
            booster.set_leaf_output(tree, leaf, value)


def _booster(estimator: Any) -> Any:
    return estimator.booster_ if hasattr(type(estimator), "booster_") else estimator


def _written(booster: Any) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Header and trees of the text that a booster writes."""
    head, *blocks = booster.model_to_string().partition("\nend of trees")[0].split("\nTree=")
    return _entries(head), [_entries(block) for block in blocks]


def _is_linear(tree: Mapping[str, str]) -> bool:
    return tree.get("is_linear", "0") != "0"
