"""Trees of LightGBM, from the text that a booster writes, whose arrays its documentation names.

Everything is in double precision: a sample goes left where x <= t. `decision_type` says in bit 0 whether a node lists
categories (which go left), in bit 1 whether missing values go left, in bits 2 and 3 what is missing: nothing (NaN is
taken as 0), 0 and NaN, or NaN. Columns of categories of a table become their numbers in the lists that the booster keeps.
"""

import re
from typing import Any

import numpy as np
import pandas as pd

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.trees.ensemble import Ensemble, Tree
from conceptry.models.harsanyi.trees.model import EXACT, MARGIN, VALUE, TreeModel, dense, not_fitted, outputs_of, the_output
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
    booster = estimator.booster_ if hasattr(type(estimator), "booster_") else estimator
    head, *blocks = booster.model_to_string().partition("\nend of trees")[0].split("\nTree=")
    header = _entries(head)
    trees = [_tree(kind, _entries(block)) for block in blocks]
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
        lambda k: Ensemble.of(trees[k::n_outputs], 0.0, n).scaled(factor),
        given,
        encode,
        lambda owner: owner,
        lambda x: factor * outputs_of(estimator.predict(x, raw_score=True)) if linked else outputs_of(estimator.predict(x)),
    )


def _entries(block: str) -> dict[str, str]:
    """The lines "name=value" of a block; a line without a value stands for itself."""
    return {name: value for name, _, value in (line.partition("=") for line in block.splitlines())}


def _tree(kind: str, entries: dict[str, str]) -> Tree:
    """A tree, its inner nodes first, as they are numbered there; a leaf is written as -1 - its number."""
    if int(entries.get("is_linear", 0)):
        raise InputError(
            f"{kind} has linear functions in its leaves (linear_tree=True), which have no exact interactions from the "
            "trees alone; use the sampled engine"
        )

    def numbers(name: str, dtype: type) -> np.ndarray:
        return np.array(entries.get(name, "").split(), dtype)

    values = numbers("leaf_value", np.float64)
    n_inner = len(values) - 1
    decision = numbers("decision_type", np.int64)[:n_inner]
    threshold = numbers("threshold", np.float64)[:n_inner]
    left, right = (numbers(f"{side}_child", np.int64)[:n_inner] for side in ("left", "right"))
    listed, what = (decision & 1) == 1, decision >> 2 & 3
    missing_left = np.where(what == 0, threshold >= 0, (decision & 2) > 0) & ~listed
    words, bounds = numbers("cat_threshold", np.uint32), numbers("cat_boundaries", np.int64)
    categories = {}
    for node in np.flatnonzero(listed):
        place = int(threshold[node])
        bits = words[bounds[place] : bounds[place + 1]].view(np.uint8)
        categories[int(node)] = np.flatnonzero(np.unpackbits(bits, bitorder="little"))

    def with_leaves(inner: np.ndarray, leaf: Any) -> np.ndarray:
        return np.append(inner, np.full(len(values), leaf, inner.dtype))

    def child(side: np.ndarray) -> np.ndarray:
        return with_leaves(np.where(side < 0, n_inner - 1 - side, side), -1)

    if not n_inner:
        left = right = what = np.empty(0, np.int64)
    return Tree(
        with_leaves(numbers("split_feature", np.int64)[:n_inner], 0),
        with_leaves(threshold, 0.0),
        child(left),
        child(right),
        np.append(np.zeros(n_inner), values),
        with_leaves(missing_left, False),
        with_leaves((what == 1) & ~listed, False),
        categories,
    )
