"""Pixels that a network sees against the pictures that people see: checks, and the way back."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import PixelModel


def as_pixel_model(model: Any) -> PixelModel:
    """`model` itself; raises InputError unless it takes pictures and is differentiable in their pixels."""
    name, modality = getattr(model, "name", type(model).__name__), getattr(model, "modality", "nothing known")
    if modality != "image":
        raise InputError(f"{name}: takes {modality}, expected a network over pictures")
    if not isinstance(model, PixelModel):
        raise InputError(
            f"{name}: its outputs cannot be differentiated in the pixels; expected a torch network, such as "
            "zoo:digits, torchvision:resnet50 or a model logged with mlflow.pytorch"
        )
    return model


def to_pictures(x: Tensor) -> np.ndarray:
    """Pixels (n, C, h, w) to uint8 (n, h, w, 3): clipped to [0, 1], rounded to 8 bits, one channel repeated.

    x = v / 255 of whole v from 0 to 255 gives v back.
    """
    eight = x.detach().clamp(0, 1).mul(255).round().to(torch.uint8)
    return np.ascontiguousarray(eight.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy())


def check_pixels(name: str, x: Tensor, channels: int, size: tuple[int, int] | None) -> None:
    """Raise InputError unless x is (batch, channels, *size); a size of None is any."""
    if x.ndim != 4 or x.shape[1] != channels or size not in (None, tuple(x.shape[2:])):
        height, width = size or ("height", "width")
        raise InputError(f"{name}: takes pixels (batch, {channels}, {height}, {width}), got {tuple(x.shape)}")


def wrong_size(name: str, taken: tuple[int, int], got: tuple[int, int]) -> InputError:
    """The sentence that names both sizes, each (height, width), as width x height."""
    return InputError(
        f"{name}: the network takes pictures of {taken[1]} x {taken[0]} pixels, got {got[1]} x {got[0]}; "
        "scale or crop them to that size first"
    )
