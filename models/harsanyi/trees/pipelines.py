"""Columns of a pipeline: which feature behind its steps is made of which column before them.

Whatever is made of columns of one player alone belongs to that player, by whichever step. Steps that take several
players' columns must act on each column alone; `_COLUMNWISE` are scikit-learn's that do. Which of their features comes
of which column, the names say that they give to their features.
"""

import copy
import re
from typing import Any

import numpy as np
import pandas as pd
from sklearn import compose, feature_selection, impute, pipeline, preprocessing

from conceptry.models.errors import InputError

_COLUMNWISE = (
    preprocessing.Binarizer,
    preprocessing.KBinsDiscretizer,
    preprocessing.MaxAbsScaler,
    preprocessing.MinMaxScaler,
    preprocessing.OneHotEncoder,
    preprocessing.OrdinalEncoder,
    preprocessing.PowerTransformer,
    preprocessing.QuantileTransformer,
    preprocessing.RobustScaler,
    preprocessing.SplineTransformer,
    preprocessing.StandardScaler,
    preprocessing.TargetEncoder,
    preprocessing.PolynomialFeatures,  # whose names say what is mixed
    impute.MissingIndicator,
    impute.SimpleImputer,
    feature_selection.GenericUnivariateSelect,
    feature_selection.RFE,
    feature_selection.RFECV,
    feature_selection.SelectFdr,
    feature_selection.SelectFpr,
    feature_selection.SelectFromModel,
    feature_selection.SelectFwe,
    feature_selection.SelectKBest,
    feature_selection.SelectPercentile,
    feature_selection.SequentialFeatureSelector,
    feature_selection.VarianceThreshold,
)
_NUMBER = re.compile("\u27e8([0-9]+)\u27e9")


def feature_owners(step: Any, owner: np.ndarray, width: int) -> np.ndarray:
    """Owner of each of the `width` features that a fitted step makes, from the owner of each column that it takes.

    Raises InputError where a feature is made of columns of two owners.
    """
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return owner
    if isinstance(step, pipeline.Pipeline):
        for _, inner in step.steps:
            owner = feature_owners(inner, owner, _width(inner, owner))
        return owner
    if isinstance(step, compose.ColumnTransformer):
        return _of_parts(step, owner, width)
    if len(np.unique(owner)) == 1:
        return np.full(width, owner[0])
    if isinstance(step, pipeline.FeatureUnion):
        parts = [part for _, part in step.transformer_list if part != "drop"]
        return np.concatenate([feature_owners(part, owner, _width(part, owner)) for part in parts])
    if type(step) is preprocessing.FunctionTransformer and (step.func is None or isinstance(step.func, np.ufunc)):
        return owner
    if type(step) not in _COLUMNWISE:
        raise _mixing(step)
    return _by_names(step, owner)


def _width(step: Any, owner: np.ndarray) -> int:
    """Number of features of a step, where it depends on the step alone."""
    if step is None or isinstance(step, str):
        return len(owner)
    if isinstance(step, pipeline.Pipeline):
        return _width(step.steps[-1][1], owner) if step.steps else len(owner)
    if isinstance(step, compose.ColumnTransformer):
        return max((part.stop for part in step.output_indices_.values()), default=0)
    if type(step) is preprocessing.FunctionTransformer:
        return len(owner)
    try:
        return len(step.get_feature_names_out())
    except (AttributeError, ValueError):
        raise InputError(
            f"{type(step).__name__} does not say how many features it makes; expected a step with get_feature_names_out"
        ) from None


def _of_parts(step: compose.ColumnTransformer, owner: np.ndarray, width: int) -> np.ndarray:
    result = np.empty(width, owner.dtype)
    for name, part, columns in step.transformers_:
        place = step.output_indices_[name]
        if place.stop > place.start:
            result[place] = feature_owners(part, owner[_places(step, columns)], place.stop - place.start)
    return result


def _places(step: Any, columns: Any) -> np.ndarray:
    """Numbers of columns that are given by name, number, slice or mask."""
    every = pd.Series(np.arange(step.n_features_in_), index=getattr(step, "feature_names_in_", None))
    if isinstance(columns, slice):
        named = isinstance(columns.start, str) or isinstance(columns.stop, str)
        return (every.loc[columns] if named else every.iloc[columns]).to_numpy()
    listed = np.atleast_1d(np.asarray(columns, object if isinstance(columns, str) else None))
    if listed.dtype.kind in "OUT":
        return every.loc[list(listed)].to_numpy()
    return every.to_numpy()[listed]


def _by_names(step: Any, owner: np.ndarray) -> np.ndarray:
    """Owners by the names of features, where the columns are named by their numbers."""
    renamed = copy.copy(step)
    vars(renamed).pop("feature_names_in_", None)  # the only ones that it would accept
    names = renamed.get_feature_names_out([f"\u27e8{k}\u27e9" for k in range(len(owner))])
    result = []
    for name in names:
        found = {int(owner[int(number)]) for number in _NUMBER.findall(str(name))}
        if str(name) == "1" and isinstance(step, preprocessing.PolynomialFeatures):
            found = {int(owner[0])}  # anyone's: a constant is the same in sample and baseline
        if len(found) != 1:
            raise _mixing(step)
        result.append(found.pop())
    return np.array(result, owner.dtype)


def _mixing(step: Any) -> InputError:
    return InputError(
        f"the step {type(step).__name__} makes features of several players' columns, so that a player is no longer "
        "absent alone; put the columns that it takes into one group, apply it before the pipeline, or use the sampled "
        "engine"
    )
