"""The published preprocessing of image classifiers: resize, crop the centre, normalise.

| symbol | meaning | shape |
|---|---|---|
| p | a picture in [0, 1] | (3, H, W) |
| x = crop(resize(p)) | what the network sees of it | (3, h, w) |
| (x - mean) / std | what its first layer reads | (3, h, w) |
"""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.images import MAX_PIXELS


@dataclass(frozen=True)
class Preprocessing:
    """resize: the shorter side, or height and width. crop: height and width. mean, std: of pixels in [0, 1]."""

    resize: tuple[int, ...]
    crop: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"

    @property
    def channels(self) -> int:
        return 3

    @property
    def resizes(self) -> bool:
        return True

    @property
    def size(self) -> tuple[int, int]:
        return self.crop

    def fit(self, pixels: Tensor) -> Tensor:
        """Pictures (..., 3, H, W) resized and cropped; raises InputError for a strip that would grow beyond memory."""
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.functional import center_crop, resize

        height, width = pixels.shape[-2:]
        if len(self.resize) == 1 and self.resize[0] ** 2 * max(height, width) > MAX_PIXELS * min(height, width):
            raise InputError(
                f"a picture of {width} x {height} pixels is too narrow: with a shorter side of {self.resize[0]} "
                f"it would have more than {MAX_PIXELS:,}; crop it first"
            )
        mode = InterpolationMode(self.interpolation)
        return center_crop(resize(pixels, list(self.resize), mode, antialias=True), list(self.crop))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def preprocessing_from_json(value: dict[str, Any]) -> Preprocessing:
    numbers: dict[str, Any] = {key: tuple(part) for key, part in value.items() if key != "interpolation"}
    return Preprocessing(**numbers, interpolation=value["interpolation"])


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
