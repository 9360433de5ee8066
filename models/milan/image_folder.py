"""Pictures of an ImageFolder by their number, as MILAN's exemplars of ImageNet saw them.

The order is that of torchvision's `ImageFolder`: folders by name, one a class, within each all picture files by path.
A picture is resized to 256 pixels on its shorter side and its centre of 224 x 224 cut out, which is where the masks
lie; another size is reached from there by the nearest pixel.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from conceptry.models.errors import InputError
from conceptry.models.images import decode_image

VALIDATION_PICTURES = 50_000  # of ImageNet, which the ids of MILANNOTATIONS count
SHORTER_SIDE, CROP = 256, 224
_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


class ImageFolder(Sequence[Path]):
    """The files below `directory`; `expected`: how many there have to be, None for any number.

    Raises InputError where the folder is missing, has no folders of classes, or holds another number of pictures: the
    numbers would then stand for other pictures.
    """

    def __init__(self, directory: str | Path, expected: int | None = VALIDATION_PICTURES) -> None:
        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise InputError(f"{directory}: no such folder; expected the validation pictures of ImageNet")
        classes = sorted(entry.name for entry in os.scandir(self.directory) if entry.is_dir())
        self._files = [path for name in classes for path in _pictures(self.directory / name)]
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

    def picture(self, index: int, size: tuple[int, int] = (CROP, CROP)) -> np.ndarray:
        """uint8 (3, H, W), RGB. Raises InputError naming the file where it cannot be read."""
        path = self._files[index]
        try:
            # As torchvision reads it, for the masks were drawn so: whatever way up the camera says it was held.
            image = decode_image(path.read_bytes(), upright=False)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        pixels = np.asarray(centre_crop(image))
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


def _pictures(directory: Path) -> list[Path]:
    walked = sorted(os.walk(directory, followlinks=True))
    return [Path(root, name) for root, _, names in walked for name in sorted(names) if name.lower().endswith(_SUFFIXES)]
