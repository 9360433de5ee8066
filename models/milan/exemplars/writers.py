"""Where the images and masks of a run go: into memory, or place by place into files of their final size.

Files are written at their offsets, not mapped: what is written takes no memory of the process, and a full disk is an
error, not a signal.
"""

import os
from pathlib import Path

import numpy as np

from conceptry.models.folders import writing
from conceptry.models.milan.exemplars.records import IMAGES, MASKS


class InMemory:
    """Images uint8 (U, k, 3, H, W) and masks uint8 (U, k, 1, H, W) of a layer."""

    def __init__(self, units: int, k: int, size: tuple[int, int]) -> None:
        self.images = np.zeros((units, k, 3, *size), np.uint8)
        self.masks = np.zeros((units, k, 1, *size), np.uint8)

    def put(self, places: np.ndarray, rows: np.ndarray, images: np.ndarray, masks: np.ndarray) -> None:
        """Store at `places` (m,), rows of (U k), masks (m, H, W) and the images (n, 3, H, W) at their `rows` (m,)."""
        stored = self.images.reshape(-1, *images.shape[1:])
        for place, row in zip(places.tolist(), rows.tolist(), strict=True):
            stored[place] = images[row]
        self.masks.reshape(-1, *masks.shape[1:])[places] = masks

    def settle(self) -> None:
        """Nothing is left to be written."""


class OnDisk:
    """Like `InMemory`, but in `folder`/images.npy and masks.npy. Existing files are continued."""

    def __init__(self, folder: Path, units: int, k: int, size: tuple[int, int]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with writing(folder):
            self._images = _Array(folder / IMAGES, (units, k, 3, *size))
            self._masks = _Array(folder / MASKS, (units, k, 1, *size))

    def put(self, places: np.ndarray, rows: np.ndarray, images: np.ndarray, masks: np.ndarray) -> None:
        """See `InMemory.put`."""
        images = np.ascontiguousarray(images)
        for i, (place, row) in enumerate(zip(places.tolist(), rows.tolist(), strict=True)):
            self._images.write(place, images[row])
            self._masks.write(place, masks[i])

    def settle(self) -> None:
        """Return when all of it is on the disk."""
        self._images.settle()
        self._masks.settle()

    def close(self) -> None:
        self._images.close()
        self._masks.close()


class _Array:
    """A .npy file uint8 (units, k, ...) that is written by places, rows of (units k)."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        np.lib.format.write_array_header_1_0(self._file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        self._start, self._bytes = self._file.tell(), int(np.prod(shape[2:]))
        end = self._start + int(np.prod(shape))
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file.fileno(), 0, end)  # a disk that is too small says so now
        self._file.truncate(end)

    def write(self, place: int, values: np.ndarray) -> None:
        left, offset = values.data.cast("B"), self._start + place * self._bytes
        while left:
            written = os.pwrite(self._file.fileno(), left, offset)
            left, offset = left[written:], offset + written

    def settle(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
