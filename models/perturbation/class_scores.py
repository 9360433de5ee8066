"""A network's outputs as scores of classes, and classes by name or index.

| symbol | meaning | shape |
|---|---|---|
| x | pixels in [0, 1] | (batch, C, H, W) |
| z | logits: softmax(z) are the probabilities of the classes | (batch, k), k >= 2 |

A single logit s of the second class is z = (0, s), whose softmax is its sigmoid; probabilities p are z = log p.
"""

import numbers
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from conceptry.models.errors import InputError, closest, truncated_repr
from conceptry.models.explained.image_inputs import as_pixel_model
from conceptry.models.method import whole_number

_LISTED = 10
_ROUNDING = 1e-2  # by how much the sum of probabilities in half precision may miss 1


class ClassScores:
    """Pixels to logits of a model's classes, differentiable.

    Raises InputError for a model that is no differentiable classifier of pictures.
    """

    def __init__(self, model: Any) -> None:
        self.model = model = as_pixel_model(model)
        name = model.name
        if model.form == "values" or len(model.classes) < 2:
            raise InputError(
                f"{name}: puts out values, not classes; expected a classifier, whose outputs are named by "
                "--outputs logits or --outputs probabilities (outputs='logits' in Python)"
            )
        self.name, self.classes = name, model.classes
        self.device = next((p.device for p in model.module.parameters()), torch.device("cpu"))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels (batch, C, H, W) to logits (batch, k)."""
        outputs = self.model.from_pixels(pixels)
        if self.model.form == "logits":
            return functional.pad(outputs, (1, 0)) if outputs.shape[1] == 1 else outputs
        probabilities = torch.cat([1 - outputs, outputs], 1) if outputs.shape[1] == 1 else outputs
        return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Pixels (batch, C, H, W) to the probabilities of the classes (batch, k), float32, without a gradient."""
        with torch.no_grad():
            return self.probabilities_of(self(pixels))

    def probabilities_of(self, logits: Tensor) -> Tensor:
        """`probabilities` from logits (batch, k) that are there already."""
        logits = logits.float()
        if not torch.isfinite(logits).all():
            raise InputError(f"{self.name}: the network puts out NaN or infinite values for these pixels")
        if self.model.form == "probabilities" and (sums := logits.logsumexp(1).exp().sub(1).abs().max()) > _ROUNDING:
            raise InputError(
                f"{self.name}: the outputs for these pixels are no probabilities (their sum is off by {sums:.3g}); "
                "where they are logits, say so by --outputs logits (outputs='logits' in Python)"
            )
        return logits.softmax(1)

    def index_of(self, value: object) -> int:
        """The class of a name, or of an index as a number or as text; a name goes before an index.

        Raises InputError with the nearest names for a class that there is not.
        """
        text = _as_text(value)
        places = [i for i, name in enumerate(self.classes) if name == text]
        if len(places) > 1:
            raise InputError(
                f"{len(places)} classes are called {truncated_repr(text)}; give one of the indices {places}"
            )
        if places:
            return places[0]
        index = whole_number(text)
        if index is not None and index < len(self.classes):
            return index
        lower = {name.lower(): name for name in self.classes}
        near = [lower[name] for name in closest(text.lower(), lower)]
        names = ", ".join(map(repr, near or self.classes[:_LISTED]))
        raise InputError(
            f"{self.name} has no class {truncated_repr(text)}; {'near it' if near else 'there'} are {names}, "
            f"or an index from 0 to {len(self.classes) - 1}"
        )

    def indices_of(self, values: Any, rows: int, what: str) -> Tensor:
        """Classes of a batch, int64 (rows,): names and indices, or a tensor of indices; `what` names them in errors."""
        if isinstance(values, Tensor):
            if values.is_floating_point() or values.shape != (rows,):
                raise InputError(f"{what} must be whole numbers of shape ({rows},), got {values.dtype} {values.shape}")
            if rows and not 0 <= int(values.min()) <= int(values.max()) < len(self.classes):
                raise InputError(f"{what} must be from 0 to {len(self.classes) - 1}, got {values.tolist()}")
            return values.long()
        if len(values) != rows:
            raise InputError(f"{what} must be one for each of {rows} pictures, got {len(values)}")
        return torch.tensor([self.index_of(value) for value in values])


def _as_text(value: object) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    # Tables hold whole numbers as floats where another row of the column is empty.
    if isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_):
        number = cast(Any, value)  # of a protocol whose operators type checkers do not know
        if abs(number) < 2**63 and number == int(number):
            return str(int(number))
    raise InputError(f"expected the name or the index of a class, got {truncated_repr(value)}")
