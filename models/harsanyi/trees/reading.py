"""Which reader reads an estimator."""

from typing import Any

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.trees.model import TreeModel

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
        InputError: for other estimators, for one that is not fitted, and for an output that is not linear in the leaves.
    """
    library = _library(estimator)
    if library == "sklearn":
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted

        from conceptry.models.harsanyi.trees.sklearn import reader_of

        try:
            check_is_fitted(estimator)
        except (NotFittedError, TypeError):
            raise InputError(f"{type(estimator).__name__} is not fitted; fit it first") from None
        if reader := reader_of(estimator):
            return reader(estimator, output)
    raise InputError(f"there is no reader for the trees of {type(estimator).__name__}; {EXPECTED}")


def _library(estimator: Any) -> str:
    """The library that an estimator, or a class that it inherits from, is of."""
    known = ("xgboost", "lightgbm", "catboost", "sklearn")
    modules = [kind.__module__.partition(".")[0] for kind in type(estimator).__mro__]
    return next((module for module in modules if module in known), "")
