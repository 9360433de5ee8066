"""Exemplars as users hold them, as the arrays that a describer takes: uint8 images, and masks that are not 0 inside."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.images import decode_image, decode_mask, image_bytes, open_image
from conceptry.models.milan.exemplars.sources import as_bytes


def exemplar_arrays(images: Any, masks: Any) -> tuple[np.ndarray, np.ndarray]:
    """Images as uint8 (..., 3, H, W) and masks (..., 1, H, W); uint8 arrays are returned as they are.

    Args:
        images: an array or tensor, uint8 or in [0, 1], or a list of PIL images, paths, contents of files or arrays.
        masks: an array or tensor, not 0 where the unit is active, or a list as of images; of a picture's grey levels,
            those above 127 are in.

    Raises:
        InputError: for images outside of [0, 1], and for lists whose items differ in size or cannot be read.
    """
    images, masks = _array(images, "image", _rgb), _array(masks, "mask", _inside)
    if images.dtype != np.uint8:
        if images.ndim < 4 or images.dtype.kind not in "fiu":
            raise InputError(f"images must be uint8 or in [0, 1], (..., 3, H, W), got {images.dtype} {images.shape}")
        flat = torch.from_numpy(images.reshape(-1, *images.shape[-3:]))
        images = as_bytes(flat, "images").numpy().reshape(*images.shape[:-3], 3, *images.shape[-2:])
    return images, masks


def _array(value: Any, what: str, reader: Callable[[Any], np.ndarray]) -> np.ndarray:
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, list | tuple):
        raise InputError(f"{what}s must be an array, a tensor or a list of {what}s, got {type(value).__name__}")
    parts = []
    for number, part in enumerate(value):
        try:
            parts.append(_array(part, what, reader) if hasattr(part, "ndim") else reader(part))
        except InputError as error:
            raise InputError(f"{what} {number}: {error}") from None
    shapes = list(dict.fromkeys(part.shape for part in parts))
    if len(shapes) != 1:
        raise InputError(f"{what}s must be of one size, got {' and '.join(map(str, shapes)) or 'none'}")
    return np.stack(parts)


def _rgb(value: Any) -> np.ndarray:
    """uint8 (3, H, W) of a PIL image, a path, or the content of a file."""
    if isinstance(value, Image.Image):
        image = value.convert("RGB")
    else:
        image = open_image(Path(value)) if _is_path(value) else decode_image(image_bytes(value))
    return np.moveaxis(np.asarray(image), -1, 0)


def _inside(value: Any) -> np.ndarray:
    """Truth values (1, H, W) of a PIL image, a path, or the content of a file."""
    if isinstance(value, Image.Image):
        return np.asarray(value.convert("L"))[None] > 127
    if _is_path(value):
        open_image(Path(value))  # for a sentence that names the file, where it is none
    return decode_mask(Path(value).read_bytes() if _is_path(value) else image_bytes(value))[None]


def _is_path(value: Any) -> bool:
    """Whether a value is a path; a text that is too long to be one is the content of a file in base64."""
    return isinstance(value, Path) or (isinstance(value, str) and len(value) < 1000)
