"""Scikit-learn estimators, called directly: predict_proba, decision_function or predict.

The estimator takes the fractions that the mean of a column of whole numbers has, which MLflow's schema refuses.

| outputs | calls | form |
|---|---|---|
| auto | predict_proba where there is one; predict of a regressor | probabilities; values |
| probabilities | predict_proba | probabilities |
| logits | decision_function | logits |
| values | predict | values |

skops files are read with a list of ours, not with the list that the file brings along. The types on it hold data
alone. A crafted tree can point outside its own arrays and crash the process (skops says why), it cannot run code.
"""

from collections.abc import Sequence
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
        self._method = getattr(estimator, _METHODS[description.form])
        # An estimator that was fitted on an array warns of the names of a frame.
        self._by_name = hasattr(estimator, "feature_names_in_") or not hasattr(estimator, "n_features_in_")

    def __call__(self, inputs: Any) -> np.ndarray:
        if self.modality == "text":
            samples = list(inputs)
            if names := getattr(self.estimator, "feature_names_in_", None):
                samples = pd.DataFrame({names[0]: samples})
        else:
            frame = typed_frame(inputs, self.columns, fractions=True)
            samples = frame if self._by_name else frame.to_numpy()
        return self.outputs(lambda: self._method(samples), len(inputs))


def read_skops(path: Path, name: str) -> Any:
    """The estimator of a skops file; InputError where it holds types that are not known to be harmless."""
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.load(path, trusted=list(TRUSTED))
    except UntrustedTypesFoundException:
        unknown = sorted(set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED))
        raise pickle_error(name, f"its skops file holds types that may run code ({', '.join(unknown)})") from None


def form_of(estimator: Any, outputs: str, name: str) -> str:
    """The form of the outputs, as the table above; InputError where the estimator has no such method."""
    from sklearn.base import is_classifier

    if outputs == "auto":
        if hasattr(estimator, "predict_proba"):
            return "probabilities"
        if is_classifier(estimator):
            raise InputError(
                f"{name}: {type(estimator).__name__} has no predict_proba; "
                "expected outputs=logits (its decision_function) or outputs=values (its predicted labels)"
            )
        outputs = "values"
    if not hasattr(estimator, _METHODS[outputs]):
        there = [form for form, method in _METHODS.items() if hasattr(estimator, method)]
        raise InputError(
            f"{name}: {type(estimator).__name__} has no {_METHODS[outputs]}, which gives {outputs}; "
            f"it offers {', '.join(there) or 'no outputs'}"
        )
    return outputs


def output_names(estimator: Any, form: str) -> Sequence[str]:
    """The classes of a classifier whose outputs are one for each; empty where there are none."""
    classes = getattr(estimator, "classes_", ())
    return () if form == "values" or isinstance(classes, list) else [str(label) for label in classes]


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
