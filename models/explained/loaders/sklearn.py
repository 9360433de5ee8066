"""Scikit-learn estimators, called directly: predict_proba, decision_function or predict.

The estimator takes the fractions that the mean of a column of whole numbers has, which MLflow's schema refuses.

| outputs | calls | form |
|---|---|---|
| auto | predict_proba where there is one; predict of a regressor | probabilities; values |
| probabilities | predict_proba | probabilities |
| logits | decision_function | logits |
| values | predict | values |
| any but logits, of an outlier detector | decision_function, the score | values |
| any but logits, of labels that do not exclude each other | predict_proba, one probability for each label | values |

Labels are no quantity: they are explained as numbers only where `values` are asked of a classifier, with a note.

skops files are read with a list of ours, not with the list that the file brings along. The types on it hold data
alone. A crafted tree can point outside its own arrays and crash the process (skops says why), it cannot run code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conceptry.models.errors import InputError
from conceptry.models.explained.base import Description, ModelBase, Source
from conceptry.models.explained.pickles import pickle_error
from conceptry.models.explained.signature import Inputs
from conceptry.models.explained.tables import typed_frame

# Types of scikit-learn that skops does not trust by itself and that estimators in common use consist of.
TRUSTED = (
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.CompoundKernel",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.DotProduct",
    "sklearn.gaussian_process.kernels.Matern",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.gaussian_process.kernels.RationalQuadratic",
    "sklearn.gaussian_process.kernels.Sum",
    "sklearn.gaussian_process.kernels.WhiteKernel",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.metrics._dist_metrics.MinkowskiDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
)
_METHODS = {"probabilities": "predict_proba", "logits": "decision_function", "values": "predict"}


class SklearnModel(ModelBase):
    """An estimator seen as an explained model; thread-safe as far as the estimator's prediction is."""

    def __init__(self, description: Description, source: Source, estimator: Any) -> None:
        super().__init__(description, source)
        self.estimator = estimator
        self._method = getattr(estimator, description.method or _METHODS[description.form])
        # An estimator that was fitted on an array warns of the names of a frame; types of pandas need a frame.
        self._by_name = (
            hasattr(estimator, "feature_names_in_")
            or not hasattr(estimator, "n_features_in_")
            or any(column.dtype == "category" for column in self.columns)
        )

    def __call__(self, inputs: Any) -> np.ndarray:
        if self.modality == "text":
            samples = list(inputs)
            if names := getattr(self.estimator, "feature_names_in_", None):
                samples = pd.DataFrame({names[0]: samples})
        else:
            frame = typed_frame(inputs, self.columns, fractions=True)
            samples = frame if self._by_name else frame.to_numpy()
        return self.outputs(lambda: self._one_array(self._method(samples)), len(inputs))

    def _one_array(self, result: Any) -> Any:
        """What a method returned; probabilities of each label in a list of arrays as one array of those of 1."""
        if not isinstance(result, list):
            return result
        columns = []
        for own, classes in zip(result, self.estimator.classes_, strict=True):
            if len(classes) > 2:
                raise InputError(
                    f"{self.name}: predicts {len(result)} targets at once, one of them of {len(classes)} classes; a "
                    "model that can be explained has one target, or labels that are there or not: log one for each"
                )
            columns.append(own[:, -1] if len(classes) == 2 else own[:, 0] * float(bool(classes[0])))
        return np.stack(columns, axis=1)


def read_skops(path: Path, name: str) -> Any:
    """The estimator of a skops file; InputError where it holds types that are not known to be harmless."""
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.load(path, trusted=list(TRUSTED))
    except UntrustedTypesFoundException:
        unknown = sorted(set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED))
        raise pickle_error(name, f"its skops file holds types that may run code ({', '.join(unknown)})") from None


@dataclass(frozen=True)
class Asked:
    """What an estimator is asked: the method that is called, the form of its outputs, their names, and a note."""

    form: str
    method: str
    names: tuple[str, ...] = ()
    note: str = ""


def asked_of(estimator: Any, outputs: str, name: str) -> Asked:
    """What to ask an estimator for `outputs`, as the table above; InputError where it has no such method."""
    from sklearn.base import is_clusterer, is_outlier_detector

    kind, classes = type(_last(estimator)).__name__, getattr(estimator, "classes_", ())
    if outputs != "logits" and _is(is_outlier_detector, estimator) and hasattr(estimator, "decision_function"):
        note = (
            f"explained is the score of {kind}, its decision_function, below 0 for an outlier; not the labels 1 and -1"
        )
        return Asked("values", "decision_function", (), note)
    if _is_multilabel(estimator):
        method = "decision_function" if outputs == "logits" else "predict_proba"
        if not hasattr(estimator, method):
            raise InputError(f"{name}: {kind} predicts labels alone, 0 or 1 each, and has no {method} to explain")
        names = [f"label_{i}" for i in range(len(classes))] if isinstance(classes, list) else map(str, classes)
        what = "score" if outputs == "logits" else "probability"
        note = (
            f"labels do not exclude each other: each output is the {what} of one label, and reward output explains it"
        )
        return Asked("values", method, tuple(names), note)
    labels = _is_classifier(estimator)
    form = outputs
    if outputs == "auto":
        form = "probabilities" if hasattr(estimator, "predict_proba") else "values"
        if form == "values" and (labels or _is(is_clusterer, estimator)):
            scored = hasattr(estimator, "decision_function")
            way = "--outputs logits (its decision_function) or " if scored else ""
            raise InputError(
                f"{name}: {kind} has no predict_proba; expected {way}--outputs values "
                "(its predicted labels, as numbers)"
            )
    if not hasattr(estimator, _METHODS[form]):
        there = [form for form, method in _METHODS.items() if hasattr(estimator, method)]
        raise InputError(
            f"{name}: {kind} has no {_METHODS[form]}, which gives {form}; it offers {', '.join(there) or 'no outputs'}"
        )
    if form == "logits" and len(classes) > 2 and getattr(_last(estimator), "decision_function_shape", "") == "ovo":
        raise InputError(
            f"{name}: the decision_function of {kind} scores pairs of classes (decision_function_shape='ovo'), which "
            "are no classes; set decision_function_shape='ovr', which needs no new fit, and log it again"
        )
    note = ""
    if form == "values" and (labels or _is(is_clusterer, estimator)):
        note = "the predicted labels are explained as if their numbers were a quantity, as outputs values asks"
    return Asked(form, _METHODS[form], () if form == "values" else tuple(map(str, classes)), note)


def _last(estimator: Any) -> Any:
    """The estimator that predicts, within pipelines and searches."""
    while True:
        inner = getattr(estimator, "best_estimator_", None) or getattr(estimator, "steps", [(None, None)])[-1][1]
        if inner is None:
            return estimator
        estimator = inner


def _is(test: Callable[[Any], bool], estimator: Any) -> bool:
    try:
        return bool(test(estimator))
    except (AttributeError, TypeError):  # of an estimator that is scikit-learn's by its methods alone
        return False


def _is_classifier(estimator: Any) -> bool:
    from sklearn.base import is_classifier

    # CatBoost's regressors have classes too: none.
    return _is(is_classifier, estimator) or len(getattr(estimator, "classes_", ())) > 0


def _is_multilabel(estimator: Any) -> bool:
    """Whether a classifier predicts several labels, of which any can be there."""
    last = _last(estimator)
    binarizer = getattr(last, "_label_binarizer", None)
    return (
        isinstance(getattr(estimator, "classes_", None), list)
        or bool(getattr(last, "multilabel_", False))
        or getattr(binarizer, "y_type_", "") == "multilabel-indicator"
    )


def takes_text(estimator: Any) -> bool:
    """Whether the first step turns texts into features."""
    first = estimator.steps[0][1] if hasattr(estimator, "steps") else estimator
    return hasattr(first, "build_analyzer")


def fitted_inputs(estimator: Any) -> Inputs:
    """The inputs by what an estimator noted when it was fitted: names of columns, or their number."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None:
        return Inputs(dtypes=tuple((str(name), "") for name in names))
    if count := getattr(estimator, "n_features_in_", 0):
        return Inputs(shape=(int(count),), tensor="float64")
    return Inputs()
