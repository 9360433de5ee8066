"""Which model is explained, as options of a method's registration."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import FORMS, IMAGENET
from conceptry.models.method import option, whole_number

if TYPE_CHECKING:
    import torch

    from conceptry.models.explained.protocol import PackagedModel


@dataclass(frozen=True)
class ExplainedSource:
    """The explained model and what has to be said to load it."""

    model: str = option(
        "zoo:wine",
        "Explained model: zoo:NAME, classifier:FOLDER, models:/NAME/VERSION, models:/NAME@ALIAS, runs:/RUN/PATH, "
        "onnx:FILE, torchvision:NAME@WEIGHTS, torchvision:NAME@FILE, timm:NAME[@FILE] or imagenet:efficientnet-lite0.",
    )
    outputs: str = option("auto", "What the outputs of the model are; auto asks the model.", ("auto", *FORMS))
    statistics: str | None = option(
        None, "CSV of background rows, e.g. the training data, for a table model that comes without statistics."
    )
    allow_pickle: bool = option(False, "Also load a model that is stored as a pickle, which runs code from its file.")
    classes: str | None = option(
        None,
        "Names of the outputs: a text file with one a line, a JSON list, or a folder with one folder a class.",
    )
    image_size: str | None = option(
        None, "Pixels that a network over images takes, SIDE or HEIGHTxWIDTH; images are scaled and cropped to it."
    )
    mean: str | None = option(None, "Means of the channels that pixels in [0, 1] are normalised by, e.g. .5,.5,.5.")
    std: str | None = option(None, "Standard deviations of the channels, as --mean.")
    preprocessing: str | None = option(
        None,
        "Prepare images as for ImageNet's published weights, where the file of a network does not say.",
        (IMAGENET,),
    )

    def load(self, device: "torch.device") -> "PackagedModel":
        """The model. Raises InputError where it cannot be found or loaded, and where its preprocessing is not known."""
        from conceptry.models.explained.load import load_explained
        from conceptry.models.explained.preprocessing import adjust_images, published

        model = load_explained(
            self.model,
            device,
            statistics=self.statistics,
            outputs=self.outputs,
            allow_pickle=self.allow_pickle,
        )
        given = {
            "classes": None if self.classes is None else read_classes(Path(self.classes)),
            "size": None if self.image_size is None else _size(self.image_size),
            "mean": None if self.mean is None else _numbers("mean", self.mean),
            "std": None if self.std is None else _numbers("std", self.std),
        }
        return published(adjust_images(model, **given), self.preprocessing is not None)


def read_classes(path: Path) -> list[str]:
    """Names of classes in their order: lines of a text file, a JSON list, or the folders in a folder, sorted.

    A JSON object of numbers and names, as timm and Hugging Face write it, will do as well.
    """
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    elif not path.is_file():
        raise InputError(f"classes: {path}: no such file or folder")
    else:
        try:
            text = path.read_text(encoding="utf-8-sig")
            lines = [line.strip() for line in text.splitlines()]
            names = _names(json.loads(text)) if path.suffix == ".json" else [line for line in lines if line]
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(f"classes: {path}: {error}; expected UTF-8 text, a name a line, or a JSON list") from None
    if not names:
        raise InputError(f"classes: {path}: holds no names; expected one a line, or one folder a class")
    return names


def _names(value: object) -> list[str]:
    if isinstance(value, dict) and all(whole_number(str(key)) is not None for key in value):
        value = [value[key] for key in sorted(value, key=int)]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InputError("classes: expected a JSON list of names, or an object of numbers and names")
    return value


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip())
    if match is None:
        raise InputError(f"image_size must be SIDE or HEIGHTxWIDTH, such as 224 or 224x192, got {text!r}")
    return int(match[1]), int(match[2] or match[1])


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{name} must be numbers separated by commas, such as .5,.5,.5, got {text!r}") from None
