"""One layer of MILANNOTATIONS: masks and ids as published, images beside them or from the user's ImageNet.

| symbol | meaning |
|---|---|
| U | units of the layer that exemplars were computed for |
| k | exemplars of a unit |
| H, W | height and width of images and masks, in pixels |

The user's ImageNet is read as MILAN's exemplars saw it. The order is that of torchvision's `ImageFolder`: folders by
name, one a class, within each all image files by path. An image is resized to 256 pixels on its shorter side and its
centre of 224 x 224 cut out, which is where the masks lie; another size is reached from there by the nearest pixel."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from conceptry.models.errors import InputError
from conceptry.models.images import decode_image
from conceptry.models.method import whole_number
from conceptry.models.milan.exemplars.records import UnitExemplars

VALIDATION_IMAGES = 50_000  # of ImageNet, which the ids of MILANNOTATIONS count
SHORTER_SIDE, CROP = 256, 224
_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


class ImageFolder(Sequence[Path]):
    """The files below `directory`; `expected`: how many there have to be, None for any number.

    Raises InputError where the folder is missing, has no folders of classes, or holds another number of pictures: the
    numbers would then stand for other pictures.
    """

    def __init__(self, directory: str | Path, expected: int | None = VALIDATION_IMAGES) -> None:
        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise InputError(f"{directory}: no such folder; expected the validation pictures of ImageNet")
        classes = sorted(entry.name for entry in os.scandir(self.directory) if entry.is_dir())
        self._files = [path for name in classes for path in _image_files(self.directory / name)]
        if not self._files:
            raise InputError(f"{directory}: holds no pictures in folders; expected a folder of pictures for each class")
        if expected is not None and len(self._files) != expected:
            inner = next((name for name in ("val", "validation") if (self.directory / name).is_dir()), None)
            hint = f"; try {self.directory / inner}" if inner else ""
            raise InputError(
                f"{directory}: holds {len(self._files):,} pictures in {len(classes):,} folders; expected the "
                f"{expected:,} validation pictures of ImageNet, whose order the ids count{hint}"
            )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: Any) -> Any:
        return self._files[index]

    def image(self, index: int, size: tuple[int, int] = (CROP, CROP)) -> np.ndarray:
        """uint8 (3, H, W), RGB. Raises InputError naming the file where it cannot be read."""
        path = self._files[index]
        try:
            # As torchvision reads it, for the masks were drawn so: whatever way up the camera says it was held.
            decoded = decode_image(path.read_bytes(), upright=False)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        pixels = np.asarray(centre_crop(decoded))
        rows, columns = (np.arange(n) * CROP // n for n in size)
        return np.ascontiguousarray(pixels[rows[:, None], columns].transpose(2, 0, 1))


def centre_crop(image: Image.Image) -> Image.Image:
    """The centre of 224 x 224 pixels of the picture, its shorter side made 256, as torchvision's transforms cut it."""
    width, height = image.size
    short = min(width, height)
    width, height = int(SHORTER_SIDE * width / short), int(SHORTER_SIDE * height / short)
    left, top = round((width - CROP) / 2), round((height - CROP) / 2)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + CROP, top + CROP))


def _image_files(directory: Path) -> list[Path]:
    walked = sorted(os.walk(directory, followlinks=True))
    return [Path(root, name) for root, _, names in walked for name in sorted(names) if name.lower().endswith(_SUFFIXES)]


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
            images = np.stack([self.images.image(int(index), size) for index in ids])
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
    if wrong := [cell for row in cells for cell in row if whole_number(cell) is None]:
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
