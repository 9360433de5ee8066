"""The other cure of a spurious feature: the last layer fitted anew on images where the feature does not help.

Kirichenko et al., "Last Layer Re-Training is Sufficient for Robustness to Spurious Correlations", ICLR 2023. What the
last linear layer reads stays as it is, for all units; a multinomial logistic regression takes the place of the layer.
It is fitted to the images that an edit is chosen on, with labels, so it has been told more than an edit by words.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.explained.hooks import forward_hooks
from conceptry.models.explained.protocol import PixelModel
from conceptry.models.milan.ablation import LabelledImages

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
FOLDS, BATCH = 5, 32


def refitted_accuracy(
    model: PixelModel, fit: Mapping[str, LabelledImages], report: Mapping[str, LabelledImages], seed: int
) -> dict[str, float]:
    """Accuracy on each part of `report` with the last linear layer fitted anew to the parts `fit`, of equal weight.

    Raises InputError for a network whose outputs are not those of a linear layer, and for too few images.
    """
    layer = last_linear(model)
    features = {name: _read_by(model, layer, part) for name, part in fit.items()}
    x = np.concatenate(list(features.values()))
    y = np.concatenate([part.labels for part in fit.values()])
    fewest = int(np.bincount(y)[np.unique(y)].min())
    if len(np.unique(y)) < 2 or fewest < 2:
        raise InputError("fitting the last layer anew needs two classes, and two images of each, to choose on")
    weights = np.concatenate([np.full(len(part.labels), 1 / len(part.labels)) for part in fit.values()])
    folds = StratifiedKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        {"logisticregression__C": STRENGTHS},
        cv=folds,
    )
    fitted: Any = search.fit(x, y, logisticregression__sample_weight=weights * len(y))
    return {
        name: float((fitted.predict(_read_by(model, layer, part)) == part.labels).mean())
        for name, part in report.items()
    }


def last_linear(model: PixelModel) -> nn.Linear:
    """The linear layer that puts out the classes. Raises InputError where there is none."""
    linear = [part for part in model.module.modules() if isinstance(part, nn.Linear)]
    if not linear or linear[-1].out_features != len(model.classes):
        raise InputError(f"{model.name}: its outputs are not those of a linear layer, which could be fitted anew")
    return linear[-1]


def _read_by(model: PixelModel, layer: nn.Linear, data: LabelledImages) -> np.ndarray:
    """What the layer reads of images, (n, features)."""
    read: list[Tensor] = []

    def keep(_name: str, inputs: Any, _output: Any) -> None:
        read.append(inputs[0].detach().flatten(1).cpu())

    with forward_hooks(model.module, {"last": layer}, keep), torch.inference_mode():
        for start in range(0, len(data.labels), BATCH):
            model.from_pixels(data.pixels[start : start + BATCH])
    return torch.cat(read).double().numpy()
