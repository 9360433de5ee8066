"""Boosters of MLflow's own flavours as estimators, so that probabilities or margins are explained, never labels.

| logged | seen as |
|---|---|
| an estimator (LGBMClassifier, XGBClassifier, CatBoostClassifier and their regressors) | itself |
| lightgbm.Booster, xgboost.Booster or catboost.CatBoost of a classification | predict_proba and decision_function |
| such a booster of anything else | predict |

What a native booster was trained for it says by its objective. One of a single margin speaks of class 1.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conceptry.models.errors import InputError

BOOSTERS = ("lightgbm", "xgboost", "catboost")
_BINARY = ("binary", "cross_entropy", "xentropy", "binary:logistic", "binary:logitraw", "reg:logistic", "Logloss")
_MULTICLASS = ("multiclass", "softmax", "multi:softprob", "multi:softmax", "MultiClass")

Margins = Callable[[pd.DataFrame], np.ndarray]


class BoosterRegressor:
    """A native booster whose predictions are values."""

    def __init__(self, booster: Any, predict: Margins, names: list[str]) -> None:
        self.native_booster, self.predict = booster, predict
        if names:
            self.feature_names_in_ = np.array(names, dtype=object)


class BoosterClassifier:
    """A native booster of classes 0 to k - 1, by its margins: (rows,) of class 1, or (rows, k)."""

    def __init__(self, booster: Any, margins: Margins, names: list[str]) -> None:
        self.native_booster, self.decision_function = booster, margins
        if names:
            self.feature_names_in_ = np.array(names, dtype=object)

    def predict_proba(self, rows: pd.DataFrame) -> np.ndarray:
        """(rows, k): the sigmoid of the one margin for class 1, or the softmax of the k margins."""
        margins = np.asarray(self.decision_function(rows), dtype=np.float64)
        margins = np.stack([np.zeros_like(margins), margins], 1) if margins.ndim == 1 else margins
        odds = np.exp(margins - margins.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)


def load_booster(folder: Path, flavour: str, name: str) -> Any:
    """The estimator in a folder that MLflow's flavour of that name wrote."""
    import importlib

    loaded = importlib.import_module(f"mlflow.{flavour}").load_model(str(folder))
    if type(loaded).__name__ == "CatBoost":
        return _of_catboost(loaded, name)
    if type(loaded).__name__ != "Booster":
        return loaded
    return (_of_lightgbm if flavour == "lightgbm" else _of_xgboost)(loaded, name)


def _of_lightgbm(booster: Any, name: str) -> Any:
    # "binary sigmoid:1", "multiclass num_class:3", "regression"
    objective = str(booster.dump_model(num_iteration=1).get("objective", "")).partition(" ")[0]
    return _seen(
        booster, objective, lambda rows: booster.predict(rows, raw_score=True), booster.predict,
        booster.feature_name(), name,
    )  # fmt: skip


def _of_xgboost(booster: Any, name: str) -> Any:
    from xgboost import DMatrix  # type: ignore[import-not-found]  # the user's own, where such a model is loaded

    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]

    def predict(rows: pd.DataFrame, margin: bool = False) -> np.ndarray:
        return booster.predict(DMatrix(rows, enable_categorical=True), output_margin=margin)

    return _seen(booster, objective, lambda rows: predict(rows, True), predict, booster.feature_names or [], name)


def _of_catboost(model: Any, name: str) -> Any:
    objective = str(model.get_all_params().get("loss_function", "")).partition(":")[0]
    return _seen(
        model,
        objective,
        lambda rows: model.predict(rows, prediction_type="RawFormulaVal"),
        model.predict,
        list(model.feature_names_ or []),
        name,
    )


def _seen(booster: Any, objective: str, margins: Margins, predict: Margins, names: list[str], name: str) -> Any:
    """A native booster by its objective, with the names of its columns."""
    if all(str(each).removeprefix("Column_").isdigit() for each in names):  # given by the library: an array was fitted
        names = []
    if objective in (*_BINARY, *_MULTICLASS):
        return BoosterClassifier(booster, margins, names)
    if "class" in objective.lower() or objective.startswith(("multi", "binary", "Multi", "Cross")):
        raise InputError(
            f"{name}: the objective {objective} is of a classifier that is not known here; log it as an estimator with "
            "predict_proba, such as LGBMClassifier, XGBClassifier or CatBoostClassifier"
        )
    return BoosterRegressor(booster, predict, names)
