"""Where in an image a unit is active: its activation map, brought to the image's size, above a level.

The map gets one cell of zeros around it and is enlarged bilinearly; the cells are areas (align_corners=False), and what
was added is cut off. Thus activations fade at the border. Along an axis of one cell, as that of pooled and fully
connected units, a map says nothing of where: there it does not fade.

| symbol | meaning | shape |
|---|---|---|
| a | activation maps | (m, h, w) |
| (y + 1/2) h / H - 1/2 | where row y of the mask lies in the map, in cells | (H,) |
"""

import numpy as np

from conceptry.models.milan.exemplars._kernels import upsampled_above


def masks_of(maps: np.ndarray, levels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """maps float32 (m, h, w) above levels (m,), at size (H, W): uint8 (m, H, W), 1 where the unit is active."""
    masks = np.empty((len(maps), *size), np.uint8)
    rows, row_weights = _positions(maps.shape[1], size[0])
    columns, column_weights = _positions(maps.shape[2], size[1])
    maps, levels = np.ascontiguousarray(maps, np.float32), np.ascontiguousarray(levels, np.float32)
    upsampled_above(maps, levels, rows, row_weights, columns, column_weights, masks)
    return masks


def _positions(cells: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """The lower cell of each pixel, counted with the zero before the map, and the weight of the next one."""
    if cells == 1:
        return np.ones(pixels, np.int64), np.zeros(pixels, np.float32)
    at = (np.arange(pixels) + 0.5) * (cells / pixels) + 0.5
    lower = np.floor(at).astype(np.int64)
    return lower, (at - lower).astype(np.float32)
