"""Which model is explained, as options of a method's registration.

What a user says of a network over images that its file does not say, the names of its classes and how images are
prepared for it, is the same for all methods: `OwnPreparation`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import FORMS, IMAGENET
from conceptry.models.method import option, whole_number

if TYPE_CHECKING:
    import torch

    from conceptry.models.explained.protocol import PackagedModel

SIZE = "image_size"  # the option that a size is given by; a method in which that means another size has its own
HELP = {
    "classes": "Names of the outputs: a text file with one a line, a JSON list, or a folder with one folder a class.",
    "size": "Pixels that a network over images takes, SIDE or HEIGHTxWIDTH; images are scaled and cropped to it.",
    "mean": "Means of the channels that pixels in [0, 1] are normalised by, e.g. .5,.5,.5.",
    "std": "Standard deviations of the channels, as --mean.",
    "preprocessing": "Prepare images as for ImageNet's published weights, where the file of a network does not say.",
}


@dataclass(frozen=True)
class OwnPreparation:
    """What a user says of a network over images; None where nothing is said.

    classes: names of the outputs. size: (height, width) that the network takes, or one number for both. mean, std: of
    the channels of pixels in [0, 1]. preprocessing: "imagenet" where the file does not say how images are prepared.
    """

    classes: Sequence[str] | None = None
    size: int | Sequence[int] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    preprocessing: str | None = None

    def __post_init__(self) -> None:
        if self.preprocessing not in (None, IMAGENET):
            raise InputError(f"preprocessing must be {IMAGENET}, got {self.preprocessing!r}")

    @classmethod
    def of_texts(
        cls,
        classes: str | None,
        size: str | None,
        mean: str | None,
        std: str | None,
        preprocessing: str | None,
        size_option: str = SIZE,
    ) -> Self:
        """What options say, in texts; classes: a path. size_option: what sentences call the option of the size."""
        return cls(
            None if classes is None else read_classes(Path(classes)),
            None if size is None else _size(size, size_option),
            None if mean is None else _numbers("mean", mean),
            None if std is None else _numbers("std", std),
            preprocessing,
        )

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """What `to_record` wrote among other entries; nothing is said by a record without them."""
        return cls(classes=record.get("classes"), **(record.get("preparation") or {}))

    def to_record(self) -> dict[str, Any]:
        """JSON values: `preparation`, on which depends what the network sees, and `classes`; None where not said."""
        said: dict[str, Any] = {"preprocessing": self.preprocessing} if self.preprocessing else {}
        if self.size is not None:
            said["size"] = [self.size, self.size] if isinstance(self.size, int) else [int(side) for side in self.size]
        said |= {n: [float(v) for v in values] for n in ("mean", "std") if (values := getattr(self, n)) is not None}
        return {"preparation": said or None, "classes": None if self.classes is None else [*map(str, self.classes)]}

    def over(self, other: "OwnPreparation") -> Self:
        """What is said here, and where nothing is, by `other`."""
        mine, theirs = asdict(self), asdict(other)
        return type(self)(**{name: theirs[name] if value is None else value for name, value in mine.items()})

    def applied(self, model: Any, size_option: str = SIZE) -> Any:
        """`model` with these classes and images prepared so; it keeps as `own_preparation` what was said.

        Raises InputError where the model brings its own, and where its preprocessing is not known.
        """
        from conceptry.models.explained.preprocessing import adjust_images, published

        model = adjust_images(model, classes=self.classes, size=self.size, mean=self.mean, std=self.std)
        model = published(model, self.preprocessing is not None, size_option)
        if self != UNSAID:
            model = copy(model)
            model.own_preparation = self
        return model


UNSAID = OwnPreparation()


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
    classes: str | None = option(None, HELP["classes"])
    image_size: str | None = option(None, HELP["size"])
    mean: str | None = option(None, HELP["mean"])
    std: str | None = option(None, HELP["std"])
    preprocessing: str | None = option(None, HELP["preprocessing"], (IMAGENET,))

    def load(self, device: "torch.device") -> "PackagedModel":
        """The model. Raises InputError where it cannot be found or loaded, and where its preprocessing is not known."""
        from conceptry.models.explained.load import load_explained

        model = load_explained(
            self.model,
            device,
            statistics=self.statistics,
            outputs=self.outputs,
            allow_pickle=self.allow_pickle,
        )
        said = OwnPreparation.of_texts(self.classes, self.image_size, self.mean, self.std, self.preprocessing)
        return said.applied(model)


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


def _size(text: str, name: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip())
    if match is None:
        raise InputError(f"{name} must be SIDE or HEIGHTxWIDTH, such as 224 or 224x192, got {text!r}")
    return int(match[1]), int(match[2] or match[1])


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{name} must be numbers separated by commas, such as .5,.5,.5, got {text!r}") from None
