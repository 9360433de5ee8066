"""One layer of MILANNOTATIONS: masks and ids as published, pictures beside them or from the user's ImageNet.

| symbol | meaning |
|---|---|
| U | units of the layer that exemplars were computed for |
| k | exemplars of a unit |
| H, W | height and width of pictures and masks, in pixels |
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conceptry.models.errors import InputError
from conceptry.models.milan.image_folder import ImageFolder
from conceptry.models.milan.records import UnitExemplars


@dataclass(frozen=True)
class AnnotatedLayer:
    """units: int64 (U,). masks: (U, k, 1, H, W), memory-mapped. ids: int64 (U, k), or None where they are not needed.

    images: uint8 (U, k, 3, H, W), memory-mapped, or the folder that the ids count the pictures of.
    """

    name: str
    units: np.ndarray
    masks: np.ndarray
    ids: np.ndarray | None
    images: np.ndarray | ImageFolder

    def read(self, row: int) -> UnitExemplars:
        """The exemplars in a row. Raises InputError where a picture cannot be read."""
        masks = (np.asarray(self.masks[row]) != 0).astype(np.uint8)
        ids = None if self.ids is None else self.ids[row]
        if isinstance(self.images, ImageFolder):
            assert ids is not None  # seen to when the layer was opened
            size = (masks.shape[-2], masks.shape[-1])
            images = np.stack([self.images.picture(int(index), size) for index in ids])
        else:
            images = np.array(self.images[row])
        return UnitExemplars(self.name, int(self.units[row]), images, masks, ids)


def open_layer(directory: Path, folder: ImageFolder | None) -> AnnotatedLayer:
    """The layer in a folder, its arrays checked and memory-mapped; `folder`: the user's ImageNet.

    Raises InputError where pictures are missing and for every array of another type or shape, naming the file.
    """
    masks = _mapped(directory / "masks.npy")
    if masks.ndim != 5 or masks.shape[2] != 1 or 0 in masks.shape or masks.dtype not in (np.uint8, np.bool_):
        raise InputError(_expected(directory / "masks.npy", "uint8 (units, exemplars, 1, height, width)", masks))
    ids, units = _ids(directory, masks), _units(directory, len(masks))
    if (directory / "images.npy").is_file():
        return AnnotatedLayer(directory.name, units, masks, ids, _images(directory / "images.npy", masks))
    if directory.parent.name != "imagenet":
        raise InputError(f"{directory}: has no images.npy, which its archive holds; unzip that again")
    if folder is None:
        raise InputError(
            f"{directory}: has no images.npy, as pictures of ImageNet are not published with the annotations; "
            "name your own folder of its 50,000 validation pictures, a folder for each class"
        )
    if ids is None:
        raise InputError(f"{directory}: has neither images.npy nor ids.csv, by which its pictures could be found")
    if ids.max(initial=0) >= len(folder):
        raise InputError(
            f"{directory / 'ids.csv'}: names picture {ids.max()}, but {folder.directory} holds {len(folder):,}"
        )
    return AnnotatedLayer(directory.name, units, masks, ids, folder)


def _images(path: Path, masks: np.ndarray) -> np.ndarray:
    images = _mapped(path)
    wanted = (*masks.shape[:2], 3, *masks.shape[3:])
    if images.shape == wanted and images.dtype == np.float32:
        raise InputError(
            f"{path}: holds float32, as the original code leaves pictures of ImageNet, squeezed to the size of the "
            "masks; delete the file and name the folder of ImageNet's validation pictures"
        )
    if images.shape != wanted or images.dtype != np.uint8:
        raise InputError(_expected(path, f"uint8 {wanted} beside these masks", images))
    return images


def _ids(directory: Path, masks: np.ndarray) -> np.ndarray | None:
    path = directory / "ids.csv"
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8").split()
    cells = [line.split(",") for line in lines]
    wanted = masks.shape[:2]
    width = next((len(row) for row in cells if len(row) != wanted[1]), wanted[1])
    if len(cells) != wanted[0] or width != wanted[1]:
        raise InputError(
            f"{path}: has {len(cells)} rows of {width} ids; expected {wanted[0]} rows of {wanted[1]}, as masks.npy has"
        )
    if wrong := [cell for row in cells for cell in row if not cell.isdecimal()]:
        raise InputError(f"{path}: {wrong[0]!r} is no id; expected whole numbers without a header")
    return np.array(cells, dtype=np.int64).reshape(wanted)


def _units(directory: Path, n_units: int) -> np.ndarray:
    path = directory / "units.npy"
    if not path.is_file():
        return np.arange(n_units)
    units = np.array(_mapped(path))
    if units.shape != (n_units,) or units.dtype.kind not in "iu" or len(np.unique(units)) != n_units:
        raise InputError(_expected(path, f"{n_units} different whole numbers, one for each row of masks.npy", units))
    return units.astype(np.int64)


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: is no array that can be read ({type(error).__name__}); expected .npy") from None


def _expected(path: Path, wanted: str, got: np.ndarray) -> str:
    return f"{path}: expected {wanted}, got {got.dtype} {got.shape}"
