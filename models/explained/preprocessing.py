"""Published preprocessing of image classifiers, and the user's own in its place: resize, crop the centre, normalise."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.explained.base import ModelBase
from conceptry.models.explained.image_inputs import PIXELS_NOTE, Scaling, TorchImages, as_channels
from conceptry.models.explained.protocol import IMAGENET
from conceptry.models.images import MAX_PIXELS

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ASSUMED = "the file says nothing of preprocessing"  # how a note begins that says whose is taken


@dataclass(frozen=True)
class Preprocessing:
    """A `Preparation` for images of any size.

    resize: the shorter side, or height and width. crop: height and width. mean, std: of pixels in [0, 1], empty where
    the module normalises by itself. channels: 3, or 1 for the luma.
    """

    resize: tuple[int, ...]
    crop: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    channels: int = 3

    @property
    def resizes(self) -> bool:
        return True

    @property
    def size(self) -> tuple[int, int]:
        return self.crop

    def fit(self, pixels: Tensor) -> Tensor:
        """Images (..., 3, H, W) resized and cropped; raises InputError for a strip that would grow beyond memory."""
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.functional import center_crop, resize

        height, width = pixels.shape[-2:]
        if len(self.resize) == 1 and self.resize[0] ** 2 * max(height, width) > MAX_PIXELS * min(height, width):
            raise InputError(
                f"a picture of {width} x {height} pixels is too narrow: with a shorter side of {self.resize[0]} "
                f"it would have more than {MAX_PIXELS:,}; crop it first"
            )
        mode = InterpolationMode(self.interpolation)
        resized = resize(as_channels(pixels, self.channels), list(self.resize), mode, antialias=True)
        return center_crop(resized, list(self.crop))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def preparation_from_json(value: dict[str, Any]) -> Preprocessing | Scaling:
    """What `to_json` of either kind gave."""
    values: dict[str, Any] = {key: tuple(part) if isinstance(part, list) else part for key, part in value.items()}
    return Scaling(**values) if "shape" in values else Preprocessing(**values)


def of_torchvision(preset: Any) -> Preprocessing:
    """Torchvision's `ImageClassification`, as its published weights have it."""
    height, width = preset.crop_size * 2 if len(preset.crop_size) == 1 else preset.crop_size
    return Preprocessing(
        tuple(preset.resize_size), (height, width), tuple(preset.mean), tuple(preset.std), preset.interpolation.value
    )


def of_timm(config: dict[str, Any]) -> Preprocessing:
    """timm's evaluation by its data configuration: resized by the crop share, cropped at the centre."""
    height, width = config["input_size"][1:]
    resized = [int(side / config["crop_pct"]) for side in (height, width)]
    return Preprocessing(
        (resized[0],) if resized[0] == resized[1] else tuple(resized),
        (height, width),
        tuple(config["mean"]),
        tuple(config["std"]),
        config["interpolation"],
    )


def adjust_images(
    model: Any,
    *,
    classes: Sequence[str] | None = None,
    size: int | Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Any:
    """`model` with other names of its classes, or other preprocessing than its file or its architecture says.

    Args:
        model: an explained model.
        classes: names of the outputs.
        size: (height, width) that the network sees, or one number for both: the shorter side of an image is scaled to
            it and the centre is cropped; where the two differ, an image is scaled to them.
        mean, std: of the channels of pixels in [0, 1], by which these are normalised.

    Raises:
        InputError: for a model that brings its own, or that does not take images of that size or those channels.
    """
    given = {"classes": classes, "size": size, "mean": mean, "std": std}
    names = [name for name, value in given.items() if value is not None]
    if classes is not None and isinstance(model, ModelBase):
        model = model.renamed(classes)
        names.remove("classes")
    if not names:
        return model
    if not isinstance(model, TorchImages):
        raise InputError(f"{model.name}: brings its own {names[-1]}; leave it out")
    description, preparation = model.description, model.preparation
    replaced = []
    if mean is not None or std is not None:
        mean, std = normalisation_of(model.name, mean, std)
        if len(mean) != preparation.channels:
            raise InputError(f"{model.name}: expected {preparation.channels} numbers in mean and std, got {len(mean)}")
        preparation = replace(preparation, mean=mean, std=std)  # type: ignore[type-var]  # both kinds are dataclasses
        replaced.append(PIXELS_NOTE)
    if (sides := sides_of(model.name, size)) is not None:
        if not preparation.resizes and preparation.size not in (None, sides):
            height, width = preparation.size or sides
            raise InputError(f"{model.name}: takes images of {width} x {height} pixels alone, got the size {size}")
        resize, mean, std = sides[:1] if sides[0] == sides[1] else sides, preparation.mean, preparation.std
        interpolation = getattr(preparation, "interpolation", "bilinear")
        preparation = Preprocessing(resize, sides, mean, std, interpolation, preparation.channels)
    # What a note says is taken is not what is taken any more; it stays where half of that is assumed still.
    known = given["mean"] is not None and sides is not None
    notes = (note for note in description.notes if note not in replaced and not (known and note.startswith(ASSUMED)))
    description = replace(description, notes=tuple(notes))
    return TorchImages(description, model.source, model.module, model.device, preparation)


def published(model: Any, imagenet: bool, size_option: str = "image_size") -> Any:
    """`model`, whose preprocessing is known: from its file, as it was given, or with `imagenet` as published.

    A checkpoint of an architecture does not say how images were prepared for it. With `imagenet` they are prepared as
    for the published weights of that architecture; a logged module over images of any size, or of 224 x 224 pixels,
    gets ImageNet's usual one. size_option: what the sentence calls the option of the size.

    Raises InputError where it is not known, and where `imagenet` is asked for and the model brings its own.
    """
    assumed = [note for note in getattr(model, "notes", ()) if note.startswith(ASSUMED)]
    if assumed and not imagenet:
        raise InputError(
            f"{model.name}: {assumed[0].replace('is taken', 'would be taken')}; give {size_option}, mean and std as "
            f"they were in its training, or preprocessing={IMAGENET} for these"
        )
    if not imagenet or assumed:
        return model
    if not isinstance(model, TorchImages) or PIXELS_NOTE not in model.notes:
        raise InputError(f"{model.name}: brings its own preprocessing; leave preprocessing out")
    return adjust_images(model, size=224, mean=_MEAN, std=_STD)


def sides_of(name: str, size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """(height, width) of a size given as one number or two. Raises InputError for anything else."""
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise InputError(f"{name}: size must be (height, width) or one number for both, got {size!r}")
    return sides


def normalisation_of(
    name: str, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """mean and std as numbers, () for None. Raises InputError where only one is given, or not one for each channel."""
    if mean is None and std is None:
        return (), ()
    if mean is None or std is None or len(mean) != len(std) or len(mean) not in (1, 3) or min(std) <= 0:
        raise InputError(
            f"{name}: mean and std must be one number for each channel, and std above 0, got {mean} and {std}"
        )
    return tuple(map(float, mean)), tuple(map(float, std))
