"""Models of an MLflow store: fetched whole, opened without pickles, called by their flavour.

| flavour | called | differentiable |
|---|---|---|
| sklearn | the estimator itself, see `sklearn` | no |
| lightgbm, xgboost, catboost | the estimator or booster itself, see `boosters` | no |
| pytorch | the module itself, over a table, pictures or points | where gradients pass through it |
| any other python_function | `predict` of the pyfunc, under MLflow's schema | no |

The distributions that a logged model says it needs are read from its requirements. This is the one file here that
imports MLflow, and only when a model is loaded.
"""

import logging
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import numpy as np
import pandas as pd
import torch
from packaging.requirements import InvalidRequirement, Requirement

from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.explained.base import Description, ModelBase, Source
from conceptry.models.explained.image_inputs import PIXELS_NOTE, TorchImages, example_images
from conceptry.models.explained.loaders import sklearn
from conceptry.models.explained.loaders.boosters import BOOSTERS, load_booster
from conceptry.models.explained.loaders.torch import example_clouds, exported_on, torch_model
from conceptry.models.explained.pickles import pickle_error, pickle_setting, refuse_pickles
from conceptry.models.explained.preprocessing import preparation_from_json
from conceptry.models.explained.protocol import Column
from conceptry.models.explained.signature import (
    Inputs,
    inputs_of,
    refuse_statistics,
    table_columns,
    whole_baselines,
    with_gaps,
)
from conceptry.models.explained.tables import reason_of, typed_frame
from conceptry.models.folders import new_temporary_folder
from conceptry.models.manifest import MLFLOW_META, digest_of_files, files_in


def installed_requirements(folder: Path, base: Iterable[str]) -> tuple[str, ...]:
    """Names from `requirements.txt` of a logged model and `base`, without MLflow, sorted.

    A line that pip reads and that names no distribution (an address, an option) is left out, as is a distribution that
    is not installed: the model has answered its example without it.
    """
    names = set(base)
    path = folder / "requirements.txt"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            names.add(Requirement(line.strip()).name)
        except InvalidRequirement:
            continue
    return tuple(sorted(name for name in names if name.lower() != "mlflow" and _is_installed(name)))


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


logger = logging.getLogger(__name__)
TRIED = 64  # background rows that a model is tried on
LABELS_NOTE = (
    "the model returned whole numbers alone on an example, which are explained as a quantity; where they are labels of "
    "classes, log it so that it returns probabilities (pyfunc_predict_fn='predict_proba' of MLflow's flavours)"
)
SCHEMES = ("models", "runs")


@dataclass(frozen=True)
class MlflowFolder:
    """The files of a logged model, as its store has them."""

    folder: Path
    allow_pickle: bool
    requirements: tuple[str, ...]
    kind: str = "mlflow"

    def write(self, directory: Path) -> dict[str, Any]:
        copytree(self.folder, directory / "model")
        return {"allow_pickle": self.allow_pickle}


class PyfuncModel(ModelBase):
    """Any pyfunc by its `predict`. Columns of whole numbers take whole numbers alone, as MLflow's schema has it."""

    def __init__(self, description: Description, source: Source, pyfunc: Any, inputs: Inputs) -> None:
        super().__init__(description, source)
        self.pyfunc, self._inputs = pyfunc, inputs
        schema = pyfunc.metadata.get_input_schema()
        # The schema's own names, which are numbers where a frame had numbered columns.
        names = schema.input_names() if inputs.dtypes and schema is not None else []
        self._names = [name for name in names if str(name) in {column.name for column in self.columns}]

    def __call__(self, inputs: Any) -> np.ndarray:
        if self.modality == "text":
            samples = pd.DataFrame({self._inputs.dtypes[0][0]: list(inputs)})
        else:
            samples = typed_frame(inputs, self.columns)
            if self._inputs.shape:
                samples = samples.to_numpy(self._inputs.tensor)
            elif self._names:
                samples = samples.set_axis(self._names, axis=1)
        return self.outputs(lambda: self.pyfunc.predict(samples), len(inputs))


def load_mlflow(
    name: str, device: torch.device, statistics: str | Path | pd.DataFrame | None, outputs: str, allow_pickle: bool
) -> ModelBase:
    """The model at an MLflow URI; see `load_explained`."""
    root = new_temporary_folder("explained")
    try:
        folder, name, lineage = _fetched(name, root)
        if not allow_pickle:
            refuse_pickles(folder, name)
        opened = _open(folder, name, device, allow_pickle)
        source = MlflowFolder(folder, allow_pickle, opened.requirements)
        description = Description(name, "table", lineage=tuple(sorted(lineage.items())))
        model = opened.described(description, source, statistics, outputs)
    except BaseException:
        rmtree(root, ignore_errors=True)
        raise
    # Models read files of theirs whenever they like, so the folder stays as long as the model does.
    weakref.finalize(source, rmtree, root, ignore_errors=True)
    return model


def read_mlflow(directory: Path, description: Description, own: dict[str, Any], device: torch.device) -> ModelBase:
    """The model in a folder that `save` wrote."""
    opened = _open(directory / "model", description.name, device, own["allow_pickle"])
    source = MlflowFolder(directory / "model", own["allow_pickle"], opened.requirements)
    model = opened.model(description, source)
    if not isinstance(model, TorchImages):
        return model
    preparation = preparation_from_json(own["preprocessing"])
    return TorchImages(description, source, model.module, model.device, preparation)


def _fetched(uri: str, target: Path) -> tuple[Path, str, dict[str, str]]:
    """The files of the model at `uri`, its name with the version resolved, and its lineage."""
    import mlflow.artifacts
    import yaml
    from mlflow.exceptions import MlflowException

    try:
        folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(target)))
    except (MlflowException, OSError) as error:
        raise InputError(
            f"{uri}: cannot be fetched from the MLflow store {mlflow.get_tracking_uri()} ({reason_of(error)}); "
            "expected models:/NAME/VERSION, models:/NAME@ALIAS, models:/m-ID or runs:/RUN/NAME"
        ) from None
    if not (folder / "MLmodel").is_file():
        raise InputError(f"{uri}: holds no MLmodel file; expected the address of a logged model")
    if (folder / MLFLOW_META).is_file():
        meta = yaml.safe_load((folder / MLFLOW_META).read_text(encoding="utf-8")) or {}
        (folder / MLFLOW_META).unlink()
        if meta.get("model_name"):
            uri = f"models:/{meta['model_name']}/{meta['model_version']}"
    logged = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
    lineage = {"explained_model": uri, "explained_sha256": digest_of_files(folder, files_in(folder))}
    for tag, key in (("explained_model_id", "model_id"), ("explained_run_id", "run_id")):
        if logged.get(key):
            lineage[tag] = str(logged[key])
    size = sum(path.stat().st_size for path in files_in(folder))
    logger.info("%s: %d files, %.1f MB", uri, len(files_in(folder)), size / 1e6)
    return folder, uri, lineage


@dataclass(frozen=True)
class RawModel:
    """A loaded model before it is known what it takes and gives."""

    flavour: str
    model_object: Any
    inputs: Inputs
    requirements: tuple[str, ...]
    device: torch.device

    def model(self, description: Description, source: Source) -> ModelBase:
        if self.flavour == "sklearn":
            return sklearn.SklearnModel(description, source, self.model_object)
        if self.flavour == "pytorch":
            return torch_model(description, source, self.model_object, self.inputs, self.device)
        return PyfuncModel(description, source, self.model_object, self.inputs)

    def described(
        self, base: Description, source: Source, statistics: str | Path | pd.DataFrame | None, outputs: str
    ) -> ModelBase:
        """The model with its modality, columns and outputs, the latter tried on an example."""
        name, estimator = base.name, self.flavour == "sklearn"
        if self.inputs.is_image:
            if self.flavour != "pytorch":
                raise InputError(f"{name}: pictures are explained of the flavour pytorch, not of {self.flavour}")
            refuse_statistics(statistics, name, "pictures")
            size = max(self.inputs.shape[1], 32), max(self.inputs.shape[2], 32)
            base, example = replace(base, modality="image", notes=(PIXELS_NOTE,)), example_images(*size)
        elif self.inputs.is_points:
            if self.flavour != "pytorch":
                raise InputError(f"{name}: points are explained of the flavour pytorch, not of {self.flavour}")
            refuse_statistics(statistics, name, "points")
            base, example = replace(base, modality="points"), example_clouds(self.inputs.shape)
        elif statistics is None and self._takes_text():
            base, example = replace(base, modality="text"), ["a", "b c"]
        else:
            columns, rows = table_columns(self._table(), statistics, name)
            example = rows.head(TRIED)
            if self.flavour == "python_function":
                columns, notes = whole_baselines(columns)
                base = replace(base, notes=(*notes, *self._of_the_signature(columns)))
            base = replace(base, columns=columns)
        asked = sklearn.asked_of(self.model_object, outputs, name) if estimator else None
        form = asked.form if asked else "values" if outputs == "auto" else outputs
        base = replace(base, form=form, method=asked.method if asked else "")
        if asked and asked.note:
            base = replace(base, notes=(*base.notes, asked.note))
        base, tried = self._tried(base, source, example)
        if isinstance(example, pd.DataFrame):
            columns = with_gaps(
                base.columns, example, lambda some: self.model(replace(base, columns=some), source), every=estimator
            )
            base = replace(base, columns=columns)
        if self.flavour == "python_function" and form == "values" and _are_labels(tried):
            base = replace(base, notes=(*base.notes, LABELS_NOTE))
        return self.model(base.with_outputs(form, tried, asked.names if asked else ()), source)

    def _tried(self, base: Description, source: Source, example: Any) -> tuple[Description, np.ndarray]:
        """The outputs on an example; text as pandas' categories where the estimator takes it only so."""
        try:
            return base, self.model(base, source)(example)
        except InputError:
            if self.flavour != "sklearn" or not any(column.dtype == "str" for column in base.columns):
                raise
            columns = (replace(c, dtype="category") if c.dtype == "str" else c for c in base.columns)
            as_categories = replace(base, columns=tuple(columns))
            with suppress(InputError):
                return as_categories, self.model(as_categories, source)(example)
            raise

    def _of_the_signature(self, columns: Sequence[Column]) -> tuple[str, ...]:
        """Notes on which columns are inputs, where the signature leaves that open."""
        names = [column.name for column in columns]
        if self.inputs == Inputs():
            listed = ", ".join(names)
            return (
                f"the model is logged without a signature, so every column of the background is an input: {listed}",
            )
        absent = [name for name, _ in self.inputs.dtypes if name not in names and name in self.inputs.optional]
        return (f"optional columns that the background lacks are left out: {', '.join(absent)}",) if absent else ()

    def _takes_text(self) -> bool:
        return self.inputs.is_text or (self.flavour == "sklearn" and sklearn.takes_text(self.model_object))

    def _table(self) -> Inputs:
        """The inputs as the signature has them, or as the estimator was fitted where there is no signature."""
        if self.flavour != "sklearn" or self.inputs != Inputs():
            return self.inputs
        return sklearn.fitted_inputs(self.model_object)


def _are_labels(outputs: np.ndarray) -> bool:
    """Whether outputs look like numbers of classes: a few whole numbers, again and again."""
    distinct = np.unique(outputs)
    return outputs.shape[1] == 1 and bool((distinct == np.rint(distinct)).all()) and 4 * len(distinct) <= len(outputs)


def _open(folder: Path, name: str, device: torch.device, allow_pickle: bool) -> RawModel:
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    logged = Model.load(str(folder))
    flavour = next((f for f in ("sklearn", "pytorch", *BOOSTERS, "python_function") if f in logged.flavors), None)
    if flavour is None:
        raise InputError(f"{name}: is logged for {', '.join(logged.flavors)}; expected the flavour python_function")
    inputs = inputs_of(logged.signature.inputs if logged.signature else None, name)
    with pickle_setting(allow_pickle):
        try:
            loaded = _load(folder, logged.flavors[flavour], flavour, name, device, allow_pickle)
        except ConceptryError:
            raise
        except ModuleNotFoundError as error:
            raise InputError(f"{name}: needs the package {error.name}, which is not installed here") from None
        except MlflowException as error:
            if "MLFLOW_ALLOW_PICKLE_DESERIALIZATION" in str(error):
                raise pickle_error(name, "it is stored in a form that may run code when it is read") from None
            raise InputError(f"{name}: MLflow cannot load it ({reason_of(error)})") from None
        except Exception as error:  # code of the model's own
            raise InputError(f"{name}: cannot be loaded ({reason_of(error)})") from None
    base = {"sklearn": ("scikit-learn",), "pytorch": ("torch",)}.get(flavour, ())
    if flavour in BOOSTERS:
        flavour, base = "sklearn", (flavour, "scikit-learn")
    if logged.flavors.get("sklearn", {}).get("serialization_format") == "skops":
        base += ("skops",)
    return RawModel(flavour, loaded, inputs, installed_requirements(folder, base), device)


def _load(folder: Path, flavour: dict[str, Any], kind: str, name: str, device: torch.device, allow_pickle: bool) -> Any:
    if kind == "python_function":
        from mlflow.pyfunc import load_model

        return load_model(str(folder), suppress_warnings=True)
    if kind == "sklearn":
        if not allow_pickle and flavour.get("serialization_format") == "skops":
            return sklearn.read_skops(folder / flavour["pickled_model"], name)
        from mlflow.sklearn import load_model

        return load_model(str(folder))
    if kind in BOOSTERS:
        return load_booster(folder, kind, name)
    from mlflow.pytorch import load_model

    exported = folder / flavour["model_data"] / "model.pt2"
    if exported.is_file():
        module = load_model(str(folder))  # also checks that no part of the archive is a pickle
        return exported_on(module, exported, device)
    return load_model(str(folder), map_location=device, weights_only=False).eval()
