"""What a method asks of the model that it explains.

A user's own object needs only what `ExplainedModel` lists, and then works with the library alone. Registration takes
the name of a model, and `load_explained` makes a `PackagedModel` of it, which can also be written to a folder and be
read back. Models whose outputs can be differentiated offer `DifferentiableModel` besides, and torch networks over
pictures `PixelModel`.

| modality | inputs of one call | players |
|---|---|---|
| table | DataFrame with the columns of `columns`, one row a sample | columns |
| text | list of texts | words |
| image | uint8 (batch, height, width, 3), RGB | segments |
| points | float (batch, points, 3) | clusters of points |
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:  # options name what is here, and `--help` imports no torch
    import numpy as np
    from torch import Tensor, nn

MODALITIES = ("table", "text", "image", "points")
FORMS = ("logits", "probabilities", "values")
IMAGENET = "imagenet"  # the one preprocessing that has a name


@dataclass(frozen=True)
class Column:
    """One column of a table: what baselines and checks of rows need to know of it, taken from background rows.

    kind: "numeric", with mean, median, std, minimum and maximum (else None), or "categorical", with the categories
    that occur (else empty). mode: the most frequent value, for both kinds. dtype: what the model wants in this column:
    "float64", "float32", "int64", "int32", "bool", "str" or "category" (pandas' own type). gaps: whether the model
    takes empty cells here.
    """

    name: str
    kind: Literal["numeric", "categorical"]
    mean: float | None = None
    median: float | None = None
    std: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[Any, ...] = ()
    mode: Any = None
    dtype: str = "float64"
    gaps: bool = False


@runtime_checkable
class ExplainedModel(Protocol):
    """A model seen from outside: inputs go in, a row of numbers for each comes out. Calls must be thread-safe.

    name: as given by the user, `zoo:wine`. modality: one of MODALITIES. form: what the outputs are, one of FORMS.
    classes: names of the outputs; `("target",)` for a regressor; two names where a binary model has one output column,
    a single logit or probability of the second. columns: of a table, else empty.
    """

    @property
    def name(self) -> str: ...
    @property
    def modality(self) -> str: ...
    @property
    def form(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def columns(self) -> tuple[Column, ...]: ...

    def __call__(self, inputs: Any, /) -> np.ndarray:
        """Inputs of the modality (see above) to outputs (batch, n_outputs), float64."""
        ...


@runtime_checkable
class DifferentiableModel(ExplainedModel, Protocol):
    """A torch network: outputs that can be differentiated in a continuous space of features."""

    def encode(self, inputs: Any, /) -> Tensor:
        """Inputs to features (batch, *features), float32, on the model's device.

        Standardised columns (k,), embeddings (length, d), or pixels (3, height, width) in [0, 1].
        """
        ...

    def forward(self, x: Tensor, /) -> Tensor:
        """Features (batch, *features) to outputs (batch, n_outputs), differentiable in x."""
        ...

    def feature_owner(self, inputs: Any, /) -> Tensor:
        """int64 (*features): the column or token position of each feature; -1 everywhere for images."""
        ...


@runtime_checkable
class PixelModel(DifferentiableModel, Protocol):
    """A torch network over pictures, seen from the pixels that it reads: all its preprocessing but the normalisation
    is done before them, the normalisation belongs to `from_pixels`.

    channels: C of those pixels, 1 or 3. size: their height and width; None where the network takes any. resizes:
    whether its published preprocessing brings pictures of any size to `size`. module: the network alone, for hooks on
    its layers; shared by all calls, in evaluation mode, with parameters that take no gradients.
    """

    @property
    def channels(self) -> int: ...
    @property
    def size(self) -> tuple[int, int] | None: ...
    @property
    def resizes(self) -> bool: ...
    @property
    def module(self) -> nn.Module: ...

    def to_pixels(self, images: np.ndarray, /) -> Tensor:
        """Pictures uint8 (n, H, W, 3) to what the network sees of them: float32 (n, C, h, w) in [0, 1], no gradient.

        Pictures of `size` are taken as they are; others are resized and cropped where the model `resizes`, else
        refused by an InputError that names both sizes.
        """
        ...

    def from_pixels(self, x: Tensor, /) -> Tensor:
        """Pixels (n, C, h, w) of `size` to outputs (n, n_outputs), differentiable in x; nothing is resized."""
        ...

    def to_images(self, x: Tensor, /) -> np.ndarray:
        """Pixels (n, C, h, w) to uint8 (n, h, w, 3), clipped to [0, 1] and rounded; one channel is repeated."""
        ...


@runtime_checkable
class PackagedModel(ExplainedModel, Protocol):
    """An explained model that conceptry can put into a version, with its files."""

    @property
    def lineage(self) -> dict[str, str]:
        """Tags that say where the model came from: `explained_model`, `explained_sha256` and what its store knows."""
        ...

    @property
    def requirements(self) -> tuple[str, ...]:
        """The distributions that serving it needs, such as "scikit-learn", beside those of the method itself."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what a user should know of how the model is called; mostly empty."""
        ...

    def save(self, directory: Path) -> None:
        """Write a folder, which must not exist, from which `read_explained` makes the same model."""
        ...
