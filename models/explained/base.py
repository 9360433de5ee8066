"""What every kind of explained model says of itself, its outputs as checked numbers, and `explained.json`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import pandas as pd

from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.explained.protocol import FORMS, Column
from conceptry.models.explained.tables import columns_from_json, columns_to_json, reason_of
from conceptry.models.manifest import write_json

if TYPE_CHECKING:  # options, of which a model needs none
    from conceptry.models.explained.source import OwnPreparation

EXPLAINED = "explained.json"
OUTPUTS = ("auto", *FORMS)
PROBABILITIES_NOTE = (
    "the outputs are taken as logits, but on an example they are as probabilities are (in [0, 1], those of several "
    "classes with the sum 1): where they are, softmax would be taken twice; say so by --outputs probabilities "
    "(outputs='probabilities' in Python)"
)


@dataclass(frozen=True)
class Description:
    """The plain attributes of `PackagedModel`; see there. n_outputs: 1 where two classes share a single number.

    method: of an estimator that is called, where it is not the usual one of the form. certain: whether probabilities
    were exactly 0 or 1 on an example, so that log-odds are infinite.
    """

    name: str
    modality: str
    form: str = "values"
    classes: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    notes: tuple[str, ...] = ()
    lineage: tuple[tuple[str, str], ...] = ()
    n_outputs: int = 0
    method: str = ""
    certain: bool = False

    def with_classes(self, classes: Sequence[str] | None) -> "Description":
        """This description with other names of the outputs. Raises InputError for another number, or equal ones."""
        if classes is None:
            return self
        if len(classes) != len(self.classes) or len(set(classes)) < len(classes):
            count = len(self.classes)
            raise InputError(f"{self.name}: expected {count} different names in classes, got {list(classes)}")
        return replace(self, classes=tuple(map(str, classes)))

    def with_outputs(self, form: str, outputs: np.ndarray, names: Sequence[str] = ()) -> "Description":
        """This description of a model whose outputs on an example are `outputs` (batch, k), read as `form`.

        names: of the outputs where the model knows them. A note says so where logits look like probabilities.
        Raises InputError where the outputs cannot be that form.
        """
        check_form(outputs, form, self.name)
        k = outputs.shape[1]
        single = k == 1 and form != "values"
        certain = form == "probabilities" and bool(((outputs <= 0) | (outputs >= 1)).any())
        if form == "values" and k == 1:
            classes = ("target",)
        elif len(names) == (2 if single else k):
            classes = tuple(map(str, names))
        else:
            stem = "output" if form == "values" else "class"
            classes = tuple(f"{stem}_{i}" for i in range(2 if single else k))
        notes = (
            (*self.notes, PROBABILITIES_NOTE) if form == "logits" and look_like_probabilities(outputs) else self.notes
        )
        return replace(self, form=form, classes=classes, n_outputs=k, notes=notes, certain=certain)


class Source(Protocol):
    """The files of an explained model. kind: what `read_explained` chooses the reader by."""

    @property
    def kind(self) -> str: ...
    @property
    def requirements(self) -> tuple[str, ...]: ...

    def write(self, directory: Path) -> dict[str, Any]:
        """Copy the files into an empty folder; returns what the reader needs besides, as JSON values."""
        ...


class ModelBase(ABC):
    """Base of the explained models: the attributes of `PackagedModel` from a description, `save` from a source.

    own_preparation: what the user has said of a network over images, see `OwnPreparation`; None where nothing.
    """

    own_preparation: "OwnPreparation | None" = None

    def __init__(self, description: Description, source: Source) -> None:
        self.description = description
        self.source = source
        self.name = description.name
        self.modality = description.modality
        self.form = description.form
        self.classes = description.classes
        self.columns = description.columns
        self.notes = description.notes
        self.certain = description.certain

    @abstractmethod
    def __call__(self, inputs: Any, /) -> np.ndarray:
        """Inputs of the modality to outputs (batch, n_outputs), float64."""

    @property
    def requirements(self) -> tuple[str, ...]:
        return self.source.requirements

    @property
    def lineage(self) -> dict[str, str]:
        return dict(self.description.lineage)

    def outputs(self, call: Callable[[], Any], rows: int) -> np.ndarray:
        """The numbers (rows, n_outputs), float64, that `call` returns; InputError where it fails or gives others."""
        try:
            result = call()
        except ConceptryError:
            raise
        except Exception as error:  # whatever a user's model raises
            raise InputError(f"{self.name}: the model failed on {rows} samples: {reason_of(error)}") from None
        numbers = as_numbers(result, rows, self.name)
        if self.classes and numbers.shape[1] != self.description.n_outputs:
            raise InputError(
                f"{self.name}: the model gave {numbers.shape[1]} outputs, expected {self.description.n_outputs}"
            )
        return numbers

    def renamed(self, classes: Sequence[str]) -> Self:
        """The same model with other names of its outputs. Raises InputError for another number, or equal ones."""
        other = copy(self)
        other.description = self.description.with_classes(classes)
        other.classes = other.description.classes
        return other

    def settings(self) -> dict[str, Any]:
        """What the reader of a saved model needs besides its description and its source, as JSON values."""
        return {}

    def save(self, directory: Path) -> None:
        """Write a folder, which must not exist, from which `read_explained` makes the same model."""
        directory.mkdir(parents=True)
        described = self.description
        own = self.source.write(directory)
        write_json(
            directory / EXPLAINED,
            {
                "kind": self.source.kind,
                "name": without_folders(described.name),
                "modality": described.modality,
                "form": described.form,
                "classes": list(described.classes),
                "n_outputs": described.n_outputs,
                "columns": columns_to_json(described.columns),
                "notes": list(described.notes),
                "lineage": dict(described.lineage),
                **({"method": described.method} if described.method else {}),
                **({"certain": True} if described.certain else {}),
                **self.settings(),
                **own,
            },
        )


def without_folders(name: str) -> str:
    """The name of a model with the files in it by their own names: what a server tells its clients says no paths."""
    scheme, _, rest = name.partition(":")
    if scheme in ("onnx", "classifier"):
        return f"{scheme}:{Path(rest).name}"
    architecture, at, file = rest.partition("@")
    return f"{scheme}:{architecture}@{Path(file).name}" if at and scheme in ("torchvision", "timm") else name


def description_from_json(value: dict[str, Any]) -> Description:
    return Description(
        value["name"],
        value["modality"],
        value["form"],
        tuple(value["classes"]),
        columns_from_json(value["columns"]),
        tuple(value["notes"]),
        tuple(sorted(value["lineage"].items())),
        value["n_outputs"],
        value.get("method", ""),
        value.get("certain", False),
    )


def as_numbers(result: Any, rows: int, name: str) -> np.ndarray:
    """What a model returned as float64 (rows, k); InputError for text, other shapes, NaN and infinities."""
    if isinstance(result, pd.DataFrame | pd.Series):
        result = result.to_numpy()
    elif hasattr(result, "detach"):
        result = result.detach().cpu().numpy()
    try:
        raw = np.asarray(result)
        # same_kind, since numpy would read the label "3" as a number
        casting = "unsafe" if raw.dtype.kind == "O" and not _labels(raw) else "same_kind"
        numbers = raw.astype(np.float64, casting=casting)
    except (ValueError, TypeError):
        labels = _labels(np.asarray(result, object))
        what = f"{labels[0]!r}, which is not a number" if labels else type(result).__name__
        raise InputError(
            f"{name}: the model returns {what}; expected an array of numbers, such as probabilities "
            "(MLflow logs those of a classifier with pyfunc_predict_fn='predict_proba')"
        ) from None
    if numbers.ndim == 1:
        numbers = numbers[:, None]
    if numbers.ndim != 2 or len(numbers) != rows or not numbers.shape[1]:
        raise InputError(f"{name}: the model returns shape {numbers.shape} for {rows} samples, expected ({rows}, k)")
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers).all(1))[0])
        raise InputError(f"{name}: the model returns {numbers[row].tolist()} for sample {row}, expected finite numbers")
    return numbers


def _labels(values: np.ndarray) -> list[str]:
    return [value for value in values.ravel() if isinstance(value, str)]


def check_form(outputs: np.ndarray, form: str, name: str) -> None:
    """Raise InputError where outputs (batch, k) cannot be of `form`: probabilities lie in [0, 1] and sum to 1."""
    if form != "probabilities":
        return
    low, high = outputs.min(), outputs.max()
    if low < -1e-6 or high > 1 + 1e-6:
        raise InputError(
            f"{name}: outputs from {low:.4g} to {high:.4g} are no probabilities; ask for --outputs logits or values"
        )
    if outputs.shape[1] > 1 and (worst := np.abs(outputs.sum(1) - 1).max()) > 1e-3:
        raise InputError(
            f"{name}: the {outputs.shape[1]} outputs of a sample do not sum to 1 (off by {worst:.4g}), "
            "so they are no probabilities of classes; ask for --outputs values"
        )


def look_like_probabilities(outputs: np.ndarray) -> bool:
    """Whether outputs (batch, k) that were called logits lie in [0, 1] and, where k > 1, sum to 1; logits hardly do."""
    inside = outputs.min() >= 0 and outputs.max() <= 1 + 1e-6
    return bool(inside and (outputs.shape[1] == 1 or np.abs(outputs.sum(1) - 1).max() < 1e-3))


def check_outputs_option(outputs: str) -> None:
    if outputs not in OUTPUTS:
        raise InputError(f"outputs must be one of {', '.join(OUTPUTS)}, got {outputs!r}")
