"""Networks of the zoo as packaged models: the folder of a classifier, and beside it the name that it goes by."""

from pathlib import Path

import torch

from conceptry.models.artifacts import write_json
from conceptry.models.errors import InputError
from conceptry.models.explained.description import EXPLAINED, without_folders
from conceptry.models.zoo.classifier import Classifier, read_classifier

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
