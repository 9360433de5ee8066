"""Players of a picture: cells of a grid, or segments. Absent ones show a mean colour, a blurred or another picture.

Achanta et al., "SLIC Superpixels Compared to State-of-the-Art Superpixel Methods", TPAMI 2012, for segments.

| symbol | meaning | shape |
|---|---|---|
| image, baseline | RGB, uint8 | (height, width, 3) |
| segments | player of each pixel, BACKGROUND for those always present | (height, width) int64 |
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.maskers.base import check_owner, check_players, presence

BASELINES = ("mean", "blur")
_BLUR_SHARE = 0.125  # standard deviation of the blur, as a share of the longer side


class ImageMasker:
    """A picture where any subset of segments can be replaced by the same pixels of the baseline.

    Args:
        image: uint8 (height, width, 3).
        segments: (height, width) integers 0 to n - 1, or BACKGROUND (-1) for pixels present in every subset. Equal
            numbers group pixels, wherever they are.
        baseline: as the image; `image_baseline` makes one.
        players: names (default: "segment 1" and so on); `grid_names` has those of a grid.

    Attributes:
        players: names of the n players; owner: the segments, int64.

    Raises InputError where types or shapes do not fit, or a number below the largest is no pixel's.
    """

    def __init__(
        self, image: np.ndarray, segments: np.ndarray, baseline: np.ndarray, players: Sequence[str] | None = None
    ):
        _check_image(image, "image")
        _check_image(baseline, "baseline")
        if baseline.shape != image.shape or segments.shape != image.shape[:2]:
            raise InputError(
                f"an image of {image.shape} needs a baseline of that shape and segments {image.shape[:2]}, "
                f"got {baseline.shape} and {segments.shape}"
            )
        self.owner = check_owner(segments, "segments", len(players) if players else None)
        self.players = check_players(players or [f"segment {k + 1}" for k in range(self.owner.max() + 1)])
        self._image, self._baseline = image, baseline

    def masked(self, masks: np.ndarray) -> np.ndarray:
        """One picture for each row of `masks` (batch, n) bool: uint8 (batch, height, width, 3)."""
        return np.where(presence(masks, self.owner)[..., None], self._image, self._baseline)


def grid_segments(height: int, width: int, rows: int, columns: int) -> np.ndarray:
    """The cell of each pixel, int64 (height, width), row by row from 0, in a grid of nearly equal cells.

    Raises InputError where the picture has fewer pixels than cells in a direction.
    """
    if not (1 <= rows <= height and 1 <= columns <= width):
        raise InputError(f"a picture of {height} x {width} pixels has no grid of {rows} x {columns} cells")
    row, column = np.arange(height) * rows // height, np.arange(width) * columns // width
    return row[:, None] * columns + column


def grid_names(rows: int, columns: int) -> list[str]:
    """Names of the players of `grid_segments`: "cell (row, column)", from 1."""
    return [f"cell ({row + 1}, {column + 1})" for row in range(rows) for column in range(columns)]


def slic_segments(image: np.ndarray, n: int) -> np.ndarray:
    """At most n segments of like colour, int64 (height, width), from 0. Deterministic.

    SLIC aims at a number and may exceed it; then it is asked for fewer. Raises InputError where scikit-image is not
    installed, or n is below 1.
    """
    _check_image(image, "image")
    if n < 1:
        raise InputError(f"the number of segments must be at least 1, got {n}")
    try:
        from skimage.segmentation import slic
    except ImportError:
        raise InputError('segments need scikit-image: pip install "conceptry[images]"; or use a grid') from None
    for aim in range(n, 1, -1):
        segments = slic(image, n_segments=aim, start_label=0, channel_axis=-1)
        numbers = np.unique(segments)
        if len(numbers) <= n:
            return np.searchsorted(numbers, segments).astype(np.int64)
    return np.zeros(image.shape[:2], dtype=np.int64)


def image_baseline(image: np.ndarray, kind: str = "mean") -> np.ndarray:
    """A picture like `image`: "mean", its mean colour everywhere; "blur", a Gaussian blur by an eighth of its side."""
    _check_image(image, "image")
    if kind not in BASELINES:
        raise InputError(f"baseline is {kind!r}; expected one of {', '.join(BASELINES)}")
    if kind == "mean":
        colour = np.rint(image.mean(axis=(0, 1))).astype(np.uint8)
        return np.broadcast_to(colour, image.shape).copy()
    blur = ImageFilter.GaussianBlur(_BLUR_SHARE * max(image.shape[:2]))
    return np.asarray(Image.fromarray(image).filter(blur))


def _check_image(image: np.ndarray, what: str) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(f"{what} must be uint8 of shape (height, width, 3), got {image.dtype} {image.shape}")
