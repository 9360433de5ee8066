"""Which reader reads an estimator."""

import importlib
import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.trees.model import TreeModel, not_fitted

EXPECTED = (
    "expected decision trees, forests, extra trees, gradient or hist gradient boosting of scikit-learn, averages of "
    "them, pipelines that end in one, or a model of XGBoost, LightGBM or CatBoost"
)


def read(estimator: Any, output: str | None = None) -> TreeModel:
    """Read the trees of a fitted estimator, pipeline or booster once, for `tree_interactions` of many samples.

    Args:
        estimator: what `EXPECTED` says.
        output: "probability", "margin" or "value"; by default the one that is linear in the leaves.

    Raises:
        InputError: for other estimators, one that is not fitted, and an output that is not linear in the leaves.
    """
    library = _library(estimator)
    if library == "xgboost":
        from conceptry.models.harsanyi.trees.xgboost import read_xgboost

        return read_xgboost(estimator, output)
    if library == "lightgbm":
        from conceptry.models.harsanyi.trees.lightgbm import read_lightgbm

        return read_lightgbm(estimator, output)
    if library == "catboost":
        from conceptry.models.harsanyi.trees.catboost import read_catboost

        return read_catboost(estimator, output)
    if library == "sklearn":
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted

        from conceptry.models.harsanyi.trees.combined import combined_reader_of
        from conceptry.models.harsanyi.trees.sklearn import reader_of

        try:
            check_is_fitted(estimator)
        except (NotFittedError, TypeError):
            raise not_fitted(type(estimator).__name__) from None
        if reader := reader_of(estimator):
            return reader(estimator, output)
        if combine := combined_reader_of(estimator):
            return combine(estimator, output, read)
    raise InputError(f"there is no reader for the trees of {type(estimator).__name__}; {EXPECTED}")


def redraw(estimator: Any, share: float, seed: int) -> int:
    """Exchange what the leaves of the last `share` of all trees say, within each tree, in place, by the seed.

    The splits stay, and so does everything that a tree can say: where it says what is by chance. It is for trees what
    drawing layers anew is for networks (Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018). Returns how
    many trees were changed: none of an estimator that `leaf_values` of its library does not find any in.
    """
    found = [(part, library, library.leaf_values(part)) for part, library in _parts(estimator)]
    trees = [values for _, _, of_part in found for values in of_part]
    count = math.ceil(share * len(trees))
    rng = np.random.default_rng(seed)
    for values in trees[len(trees) - count :]:
        values[:] = rng.permutation(values)
    for part, library, of_part in found:
        if of_part:
            library.set_leaf_values(part, of_part)
    return count


def _parts(estimator: Any) -> Iterator[tuple[Any, ModuleType]]:
    """The estimators of trees that an estimator is, or is made of, each with the module that knows its leaves."""
    library = _library(estimator)
    if library == "sklearn":
        from conceptry.models.harsanyi.trees.combined import parts_of

        if parts := parts_of(estimator):
            for part in parts:
                yield from _parts(part)
            return
    if library:
        yield estimator, importlib.import_module(f"conceptry.models.harsanyi.trees.{library}")


def _library(estimator: Any) -> str:
    """The library that an estimator, or a class that it inherits from, is of."""
    known = ("xgboost", "lightgbm", "catboost", "sklearn")
    modules = [kind.__module__.partition(".")[0] for kind in type(estimator).__mro__]
    return next((module for module in modules if module in known), "")
