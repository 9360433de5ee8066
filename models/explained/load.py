"""From the name of an explained model to the model: the options that name it, and the folder that it is saved to.

| name | what |
|---|---|
| `zoo:NAME` | a classifier that ships with conceptry |
| `classifier:FOLDER` | one that `conceptry train classifiers` wrote |
| `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `models:/m-ID`, `runs:/RUN/NAME` | any model of an MLflow store |
| `onnx:FILE` | an ONNX graph over a table or pictures |
| `torchvision:NAME[@WEIGHTS]` | an image classifier with published weights (downloaded by torchvision) |
| `torchvision:NAME@FILE` | one of torchvision's architectures with the weights of a checkpoint, see `checkpoints` |
| `timm:NAME`, `timm:NAME@FILE` | the same by timm, where that is installed |
| `imagenet:efficientnet-lite0` | a small classifier of ImageNet from the packages of the extra `imagenet`, offline |

A network of the zoo is packaged as the folder of a classifier, and beside it the name that it goes by.
"""

from pathlib import Path

import pandas as pd
import torch

from conceptry.models.devices import resolve_device
from conceptry.models.errors import InputError
from conceptry.models.explained.base import EXPLAINED, check_outputs_option, description_from_json, without_folders
from conceptry.models.explained.classifiers.classifier import Classifier, read_classifier
from conceptry.models.explained.protocol import PackagedModel
from conceptry.models.manifest import read_json, write_json

KIND = "classifier"


class PackagedClassifier(Classifier):
    """A `Classifier` whose folder says what it is."""

    requirements = ("safetensors", "torch")

    def save(self, directory: Path, dtype: torch.dtype = torch.float32) -> None:
        super().save(directory, dtype)
        write_json(directory / EXPLAINED, {"kind": KIND, "name": without_folders(self.name)})


def packaged_classifier(directory: Path, device: torch.device, name: str, outputs: str = "auto") -> PackagedClassifier:
    """The classifier in a folder; raises InputError where its outputs are of another form than `outputs`."""
    read = read_classifier(directory, device, name)
    if outputs not in ("auto", read.form):
        raise InputError(f"{name}: its outputs are {read.form}, not {outputs}")
    return PackagedClassifier(name, read.description, read.network, device)


SCHEMES = (
    "zoo:NAME",
    "classifier:FOLDER",
    "models:/NAME/VERSION",
    "models:/NAME@ALIAS",
    "models:/m-ID",
    "runs:/RUN/NAME",
    "onnx:FILE",
    "torchvision:NAME[@WEIGHTS or @FILE]",
    "timm:NAME[@FILE]",
    "imagenet:efficientnet-lite0",
)


def load_explained(
    name: str,
    device: str | torch.device = "auto",
    *,
    statistics: str | Path | pd.DataFrame | None = None,
    outputs: str = "auto",
    allow_pickle: bool = False,
) -> PackagedModel:
    """The model called `name` (see the table above), on `device`.

    statistics: background rows of a table as a CSV file or frame, from which baselines and the known categories are
    taken; needed by every model of a table that does not bring its own. outputs: "logits", "probabilities" or
    "values" says what the outputs are; "auto" takes a classifier's probabilities where the model is known to give
    them, else values. allow_pickle: also load what is stored as a pickle, which runs code from the file.

    Raises InputError for unknown names, for models that cannot be explained and for outputs that the model's answer
    on an example contradicts.
    """
    device = resolve_device(str(device))
    check_outputs_option(outputs)
    scheme, _, rest = name.partition(":")
    if not rest or scheme not in {known.partition(":")[0] for known in SCHEMES}:
        raise InputError(f"unknown model {name!r}; expected one of {', '.join(SCHEMES)}")
    if scheme in ("models", "runs"):
        from conceptry.models.explained.loaders.mlflow import load_mlflow

        return load_mlflow(name, device, statistics, outputs, allow_pickle)
    if scheme == "onnx":
        from conceptry.models.explained.loaders.onnx import load_onnx

        return load_onnx(name, Path(rest), device, statistics, outputs)
    if statistics is not None:
        raise InputError(f"{name}: statistics are for tables of models that do not bring their own")
    if scheme in ("zoo", "classifier"):
        from conceptry.models.shipped import weights_directory

        directory = weights_directory(rest, "classifier") if scheme == "zoo" else Path(rest)
        return packaged_classifier(directory, device, name, outputs)
    if scheme == "imagenet":
        from conceptry.models.explained.loaders.efficientnet_lite import load_imagenet as load
    elif scheme == "timm":
        from conceptry.models.explained.loaders.timm import load_timm as load
    else:
        from conceptry.models.explained.loaders.torchvision import load_torchvision as load
    return load(rest, device, outputs)


def read_explained(directory: str | Path, device: str | torch.device = "auto") -> PackagedModel:
    """The model in a folder that its `save` wrote; needs nothing outside the folder."""
    directory, device = Path(directory), resolve_device(str(device))
    if not (directory / EXPLAINED).is_file():
        raise InputError(f"{directory}: holds no {EXPLAINED}; expected a folder that an explained model was saved to")
    own = read_json(directory / EXPLAINED)
    if own["kind"] == "classifier":
        return packaged_classifier(directory, device, own["name"])
    description = description_from_json(own)
    if own["kind"] == "mlflow":
        from conceptry.models.explained.loaders.mlflow import read_mlflow

        return read_mlflow(directory, description, own, device)
    if own["kind"] == "onnx":
        from conceptry.models.explained.loaders.onnx import read_onnx

        return read_onnx(directory, description, device)
    from conceptry.models.explained.loaders.vision import KINDS, read_vision

    if own["kind"] in KINDS:
        return read_vision(directory, description, own, device)
    raise InputError(f"{directory}: kind {own['kind']!r} is not known to this version of conceptry")
