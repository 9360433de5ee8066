"""Exemplars of a unit as a strip: the images side by side, and over them what shows where the unit is active.

| symbol | meaning |
|---|---|
| k | exemplars of a unit |
| cell | longer side of one image in the strip, in pixels |
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from conceptry.models.errors import InputError

CELL = 112  # half of the usual 224 pixels: photographs stay legible
QUALITY = 82  # of lossy WebP
VEIL, LINE = (16, 20, 24, 168), (255, 255, 255, 235)  # RGBA of what lies outside the mask, and of its outline


@dataclass(frozen=True)
class Strip:
    """Exemplars of one unit side by side, without gaps.

    Attributes:
        image: a WebP file of k images.
        overlay: a PNG file with transparency, of the same shape at twice the size; None where there are no masks.
        k: the number of exemplars.
        width, height: of one exemplar, in pixels.
        ids, activations: k positions in the data set and activations, () where they are not known.
    """

    image: bytes
    overlay: bytes | None
    k: int
    width: int
    height: int
    ids: tuple[int, ...] = ()
    activations: tuple[float, ...] = ()


def strip(images: np.ndarray, masks: np.ndarray | None, cell: int = CELL) -> Strip:
    """Draw the strip of images (uint8 (k, 3, H, W)) and masks (uint8 (k, 1, H, W), 1 where active; None: not known).

    Images larger than `cell` are made smaller; smaller ones stay as they are. Raises InputError for other shapes.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise InputError(f"images must have shape (k, 3, H, W) with k of 1 or more, got {images.shape}")
    if masks is not None and masks.shape != (len(images), 1, *images.shape[2:]):
        raise InputError(f"masks must have shape {(len(images), 1, *images.shape[2:])}, got {masks.shape}")
    height, width = _fitted(images.shape[2], images.shape[3], cell)
    cells = [_resized(np.ascontiguousarray(image.transpose(1, 2, 0)), width, height) for image in images]
    row = Image.fromarray(np.concatenate(cells, axis=1))
    overlay = None if masks is None else _overlay(masks[:, 0] > 0, 2 * width, 2 * height)
    return Strip(_saved(row, "WEBP", quality=QUALITY, method=4), overlay, len(images), width, height)


def strip_pixels(strip: Strip, most: int) -> np.ndarray:
    """First `most` images of a strip with its overlay, for a figure: uint8 (h, w, 3), of the overlay's size."""
    row = Image.open(io.BytesIO(strip.image)).convert("RGBA")
    if strip.overlay is not None:
        over = Image.open(io.BytesIO(strip.overlay)).convert("RGBA")
        row = row.resize(over.size, Image.Resampling.NEAREST)
        row.alpha_composite(over)
    return np.asarray(row.convert("RGB"))[:, : most * row.width // strip.k]


def shaded(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Shade what is outside the mask and draw the mask's outline: uint8 (k, H, W, 3).

    images: uint8 (k, 3, H, W); masks: uint8 (k, 1, H, W).
    """
    inside = masks[:, 0] > 0
    line = _outline(inside, 1)
    result = images.transpose(0, 2, 3, 1).astype(np.float32)
    for where, (*colour, alpha) in ((~inside, VEIL), (line, LINE)):
        result[where] += (np.array(colour, dtype=np.float32) - result[where]) * (alpha / 255)
    return np.rint(result).astype(np.uint8)


def _overlay(masks: np.ndarray, width: int, height: int) -> bytes:
    """PNG of three colours: transparent inside the masks (bool (k, H, W)), a line around them, a veil elsewhere."""
    rows = np.arange(height) * masks.shape[1] // height
    columns = np.arange(width) * masks.shape[2] // width
    inside = masks[:, rows[:, None], columns]
    kinds = np.where(inside, 0, 1).astype(np.uint8)
    kinds[_outline(inside, max(1, round(min(width, height) / 128)))] = 2
    image = Image.fromarray(np.concatenate(list(kinds), axis=1), mode="P")
    image.putpalette([*(0, 0, 0), *VEIL[:3], *LINE[:3]])
    return _saved(image, "PNG", transparency=bytes((0, VEIL[3], LINE[3])), bits=2)


def _outline(inside: np.ndarray, thickness: int) -> np.ndarray:
    """Pixels, bool (k, H, W), outside of `inside` that are at most `thickness` steps from it."""
    grown = np.pad(inside, ((0, 0), (1, 1), (1, 1)))
    for _ in range(thickness):
        before = grown.copy()
        grown[:, 1:] |= before[:, :-1]
        grown[:, :-1] |= before[:, 1:]
        grown[:, :, 1:] |= before[:, :, :-1]
        grown[:, :, :-1] |= before[:, :, 1:]
    return grown[:, 1:-1, 1:-1] & ~inside


def _fitted(height: int, width: int, cell: int) -> tuple[int, int]:
    scale = min(1.0, cell / max(height, width))
    return max(1, round(scale * height)), max(1, round(scale * width))


def _resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0))


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()
