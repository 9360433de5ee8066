"""Explained models that are objects of the user's own: estimators, torch modules, and plain functions.

| object | needs | put into a version |
|---|---|---|
| scikit-learn estimator | `statistics`, unless its first step takes texts | as a skops file |
| torch module | `statistics` of a table, or the `shape` of an input: (channels, height, width), (points, 3) | as pt2 |
| function over arrays | `statistics` of a table, or a `modality` | not at all |

A module is copied, so that the user's own stays in its mode and its parameters keep their gradients. It takes what
a logged module takes: rows, images in [0, 1] with its own normalisation inside, or clouds of points, as float32 (or
the type of its parameters, for a table).
"""

import copy
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from conceptry.models.devices import resolve_device
from conceptry.models.errors import InputError
from conceptry.models.explained.base import Description, ModelBase, check_outputs_option
from conceptry.models.explained.image_inputs import example_images, floating_type
from conceptry.models.explained.load import load_explained
from conceptry.models.explained.loaders import sklearn
from conceptry.models.explained.loaders.mlflow import RawModel
from conceptry.models.explained.preprocessing import adjust_images, sides_of
from conceptry.models.explained.protocol import MODALITIES, ExplainedModel
from conceptry.models.explained.signature import Inputs, array_inputs, table_columns, with_gaps
from conceptry.models.explained.tables import read_background, reason_of, typed_frame

Statistics = str | Path | pd.DataFrame | np.ndarray | None


def as_explained(
    model: Any,
    device: str | torch.device = "auto",
    *,
    statistics: Statistics = None,
    outputs: str = "auto",
    allow_pickle: bool = False,
    modality: str | None = None,
    shape: Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
) -> ExplainedModel:
    """See any model as one that can be explained.

    Args:
        model: a name, see `load_explained`; a scikit-learn estimator; a torch module; a function over arrays; or an
            object that is an `ExplainedModel` already.
        device: of a named model, auto, cpu, cuda or cuda:INDEX. A module stays where it is for "auto".
        statistics: background rows of a table, a frame, an array (rows, columns) or a CSV file.
        outputs: "logits", "probabilities" or "values"; "auto" takes an estimator's probabilities, else values.
        allow_pickle: also load a named model that is stored as a pickle, which runs code from its file.
        modality: what a function takes: "table" (arrays (batch, columns), of objects where columns differ in type),
            "text" (a list of texts), "image" (uint8 (batch, height, width, 3)) or "points" (batch, points, 3).
        shape: of one input of a module; of one image or cloud of a function, where it does not take any.
        classes: names of the outputs.

    Raises:
        InputError: for what cannot be explained, and for arguments that such a model has no use for.
    """
    about = {"modality": modality, "shape": shape, "classes": classes}
    if isinstance(statistics, np.ndarray):
        statistics = pd.DataFrame(statistics, columns=pd.Index([f"x{i + 1}" for i in range(statistics.shape[-1])]))
    if isinstance(model, str):
        _refuse({"modality": modality, "shape": shape}, f"the model {model!r}, which is loaded by its name")
        named = load_explained(model, device, statistics=statistics, outputs=outputs, allow_pickle=allow_pickle)
        return adjust_images(named, classes=classes)
    if isinstance(model, ExplainedModel):
        given = {"statistics": statistics, "outputs": None if outputs == "auto" else outputs}
        _refuse(about | given, f"a {type(model).__name__}, which says what it is")
        return model
    check_outputs_option(outputs)
    if isinstance(model, nn.Module):
        _refuse({"modality": modality}, "a torch module; the shape of its inputs says what it takes")
        return _module(model, str(device), statistics, outputs, shape, classes)
    if hasattr(model, "predict") and hasattr(model, "get_params"):
        _refuse({"modality": modality, "shape": shape}, "a scikit-learn estimator")
        return _estimator(model, statistics, outputs, classes)
    if callable(model):
        return _function(model, statistics, outputs, modality or "table", shape, classes)
    raise InputError(
        f"a {type(model).__name__} is no model; expected a name such as zoo:wine, a scikit-learn estimator, "
        "a torch module or a function over arrays"
    )


def module_of_images(
    module: nn.Module,
    device: str = "auto",
    *,
    outputs: str = "auto",
    classes: Sequence[str] | None = None,
    size: int | Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ModelBase:
    """See a torch module over images (batch, C, height, width) as a model that can be explained.

    Args:
        module: the network. C is the number of its means, else what its first convolution takes, else 3.
        device: auto (where the module is), cpu, cuda or cuda:INDEX.
        outputs: what it puts out; "auto" for logits.
        classes: names of the outputs.
        size: (height, width) that it takes, or one number for both, to which images are resized; None for any.
        mean, std: by which pixels in [0, 1] are normalised; None where the module does that itself.

    Raises:
        InputError: where the module does not take such images or its outputs are others.
    """
    name = type(module).__name__
    check_outputs_option(outputs)
    convolutions = (part.in_channels for part in module.modules() if isinstance(part, nn.Conv2d))
    shape = (len(mean or ()) or next(convolutions, 3), *(sides_of(name, size) or (-1, -1)))
    try:
        model = _module(module, device, None, "logits" if outputs == "auto" else outputs, shape, None)
    except InputError as error:
        hint = "" if size is not None else "; size says what images it takes, where it does not take any"
        raise InputError(f"{error}{hint}") from None
    return adjust_images(model, classes=classes, size=size, mean=mean, std=std)


def _refuse(given: dict[str, Any], what: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{name} means nothing for {what}; leave it out")


@dataclass(frozen=True)
class ObjectSource:
    """An estimator or module as files: what MLflow's flavor writes, without what differs from one time to the next."""

    name: str
    model: Any
    flavor: str
    inputs: Inputs
    requirements: tuple[str, ...]
    kind: str = "mlflow"

    def write(self, directory: Path) -> dict[str, Any]:
        folder = directory / "model"
        if self.flavor == "sklearn":
            _save_estimator(self.model, folder, self.name)
        else:
            _save_module(self.model, folder, self.inputs, self.name)
        _without_dates(folder)
        return {"allow_pickle": False}


@dataclass(frozen=True)
class FunctionSource:
    """A function, which has no files."""

    name: str
    kind: str = "function"
    requirements: tuple[str, ...] = ()

    def write(self, directory: Path) -> dict[str, Any]:
        raise InputError(
            f"{self.name}: a Python function cannot be packaged; log it with mlflow.pyfunc and give the explainer the "
            "name of that model, models:/NAME/VERSION"
        )


class FunctionModel(ModelBase):
    """A function over arrays; thread-safe where the function is."""

    def __init__(self, description: Description, source: FunctionSource, function: Callable[[Any], Any]) -> None:
        super().__init__(description, source)
        self.function = function

    def __call__(self, inputs: Any) -> np.ndarray:
        table = self.modality == "table"
        # A copy: a function may work in place, and what is masked is a view of the caller's own sample.
        samples = typed_frame(inputs, self.columns, fractions=True).to_numpy(copy=True) if table else copy.copy(inputs)
        return self.outputs(lambda: self.function(samples), len(inputs))


def _estimator(estimator: Any, statistics: Statistics, outputs: str, classes: Sequence[str] | None) -> ModelBase:
    source = ObjectSource(type(estimator).__name__, estimator, "sklearn", Inputs(), ("scikit-learn", "skops"))
    return _described(source, torch.device("cpu"), statistics, outputs, classes)


def _module(
    module: nn.Module,
    device: str,
    statistics: Statistics,
    outputs: str,
    shape: Sequence[int] | None,
    classes: Sequence[str] | None,
) -> ModelBase:
    name = type(module).__name__
    own_type = floating_type(module)
    if shape is not None:
        inputs = array_inputs(tuple(shape), "float32", name)
    elif statistics is not None:
        rows = read_background(statistics)  # type: ignore[arg-type]  # no array any more
        inputs = Inputs(shape=(rows.shape[1],), tensor="float64" if own_type == torch.float64 else "float32")
    else:
        raise InputError(
            f"{name}: what the module takes is not known; expected statistics (background rows of a table), or the "
            "shape of one input, (channels, height, width) or (points, 3)"
        )
    try:
        own = copy.deepcopy(module).eval()
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{name}: the module cannot be copied ({reason_of(error)})") from None
    where = _device(module) if device == "auto" else resolve_device(device)
    source = ObjectSource(name, own.to(where), "pytorch", inputs, ("torch",))
    return _described(source, where, statistics, outputs, classes)


def _described(
    source: ObjectSource, device: torch.device, statistics: Any, outputs: str, classes: Sequence[str] | None
) -> ModelBase:
    raw = RawModel(source.flavor, source.model, source.inputs, source.requirements, device)
    base = Description(source.name, "table", lineage=(("explained_model", source.name),))
    described = raw.described(base, source, statistics, outputs)
    return raw.model(described.description.with_classes(classes), source) if classes is not None else described


def _function(
    function: Callable[[Any], Any],
    statistics: Any,
    outputs: str,
    modality: str,
    shape: Sequence[int] | None,
    classes: Sequence[str] | None,
) -> FunctionModel:
    name = getattr(function, "__name__", type(function).__name__)
    if modality not in MODALITIES:
        raise InputError(f"modality is {modality!r}; expected one of {', '.join(MODALITIES)}")
    base = Description(name, modality, "values" if outputs == "auto" else outputs)
    base = replace(base, lineage=(("explained_model", name),))
    example: Any = ["a", "b c"]
    if modality == "table":
        columns, rows = table_columns(Inputs(), statistics, name)
        base, example = replace(base, columns=columns), rows.head(32)
    elif statistics is not None:
        raise InputError(f"{name}: statistics describe the columns of a table, and the modality is {modality}")
    elif modality == "image":
        example = example_images(*(shape or (32, 32))[:2])
    elif modality == "points":
        example = np.random.default_rng(0).normal(size=(2, *(shape or (64, 3))))
    source = FunctionSource(name)
    tried = FunctionModel(base, source, function)(example)
    if base.columns:
        gaps = with_gaps(
            base.columns,
            example,
            lambda some: FunctionModel(replace(base, columns=some), source, function),
            every=False,
        )
        base = replace(base, columns=gaps)
    return FunctionModel(base.with_outputs(base.form, tried).with_classes(classes), source, function)


def _save_estimator(estimator: Any, folder: Path, name: str) -> None:
    from mlflow.sklearn import save_model

    try:
        save_model(
            estimator, folder, serialization_format="skops", skops_trusted_types=list(sklearn.TRUSTED),
            pip_requirements=["scikit-learn", "skops"],
        )  # fmt: skip
        _canonical_skops(folder / "model.skops")
        sklearn.read_skops(folder / "model.skops", name)
    except Exception as error:  # skops raises many types for what it cannot write
        raise InputError(
            f"{name}: cannot be packaged as a skops file ({reason_of(error)}); log it to MLflow yourself and give the "
            "explainer the name of that model, models:/NAME/VERSION, with allow_pickle=True if it is stored as a pickle"
        ) from None


def _canonical_skops(path: Path) -> None:
    """Write the archive again so that equal estimators give equal bytes: skops names its parts by memory address."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(parts.pop("schema.json"))
    numbers: dict[int, int] = {}
    files: dict[str, str] = {}

    def visit(value: Any) -> None:
        if isinstance(value, list):
            for entry in value:
                visit(entry)
        elif isinstance(value, dict):
            if "__id__" in value:
                value["__id__"] = numbers.setdefault(value["__id__"], len(numbers))
            if value.get("file") in parts:
                old = value["file"]
                value["file"] = files.setdefault(old, f"{len(files)}{Path(old).suffix}")
            for entry in value.values():
                visit(entry)

    visit(schema)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {files.get(name, name): content for name, content in parts.items()}.items():
            archive.writestr(zipfile.ZipInfo(name), content)
        archive.writestr(zipfile.ZipInfo("schema.json"), json.dumps(schema, indent=2))


def _save_module(module: nn.Module, folder: Path, inputs: Inputs, name: str) -> None:
    from mlflow.models import ModelSignature
    from mlflow.pytorch import save_model
    from mlflow.types import Schema, TensorSpec

    dtype = np.dtype(inputs.tensor)
    shape = (2, *(32 if side < 0 else side for side in inputs.shape))
    example: Any = torch.zeros(shape, dtype=floating_type(module), device=_device(module))
    try:
        save_model(
            module, folder, serialization_format="pt2", input_example=example,
            signature=ModelSignature(Schema([TensorSpec(dtype, (-1, *inputs.shape))])), pip_requirements=["torch"],
        )  # fmt: skip
    except Exception as error:  # the exporter raises whatever the module's code leads to
        raise InputError(
            f"{name}: cannot be exported ({reason_of(error)}), so no version can hold it; explain it in Python, or log "
            "it to MLflow yourself and give the explainer the name of that model with allow_pickle=True"
        ) from None


def _device(module: nn.Module) -> torch.device:
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))


def _without_dates(folder: Path) -> None:
    """Leave out of a saved model what differs each time: its times and numbers, the example, MLflow's environments."""
    from mlflow.models import Model

    saved: Any = Model.load(str(folder))
    saved.model_uuid, saved.saved_input_example_info, saved.run_id = None, None, None
    saved.utc_time_created, saved.model_size_bytes = "", None
    saved.save(str(folder / "MLmodel"))
    for path in folder.iterdir():
        if path.name not in ("MLmodel", "data", "model.skops", "requirements.txt"):
            rmtree(path) if path.is_dir() else path.unlink()
