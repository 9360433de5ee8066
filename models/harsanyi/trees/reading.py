"""Which reader reads an estimator."""

from typing import Any

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.trees.model import TreeModel, not_fitted

EXPECTED = (
    "expected decision trees, forests, extra trees, gradient or hist gradient boosting of scikit-learn, averages of "
    "them, pipelines that end in one, or a model of XGBoost, LightGBM or CatBoost"
)


def read(estimator: Any, output: str | None = None) -> TreeModel:
    """Read the trees of a fitted estimator, pipeline or booster.

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


def _library(estimator: Any) -> str:
    """The library that an estimator, or a class that it inherits from, is of."""
    known = ("xgboost", "lightgbm", "catboost", "sklearn")
    modules = [kind.__module__.partition(".")[0] for kind in type(estimator).__mro__]
    return next((module for module in modules if module in known), "")
