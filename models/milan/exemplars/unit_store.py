"""The units of a registered network, in two files: their exemplars, each distinct picture once.

| file | content |
|---|---|
| units.json | by layer, in order: name, number of units U, exemplars of each k, height, width |
| units.safetensors | see below; layer number l of units.json |

| tensor | meaning | shape, type |
|---|---|---|
| pictures, picture_ends | PNG files one after another, and where each ends | bytes; (P,) int64 |
| l.units | number of each unit within its layer | (U,) int64 |
| l.pictures | which picture an exemplar is | (U, k) int64 |
| l.ids | its position in the data set | (U, k) int64 |
| l.active | whether any mask of the unit has a pixel | (U,) uint8 |
| l.masks, l.mask_ends | masks (k, H, W) of each unit as bits, deflated, and where each ends | bytes; (U,) int64 |
| l.activations, l.levels | see `LayerExemplars`; absent where they are not known | (U, k), (U,) float32 |

Masks are smooth, so that deflated bits take a tenth or less of the bits. Nothing but the numbers is read when a
version is loaded: pictures and masks are read from the file for the units that are asked about.
"""

import hashlib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

from conceptry.models.errors import InputError, closest, truncated_repr
from conceptry.models.explained.hooks import format_names
from conceptry.models.images import decode_image, png_bytes
from conceptry.models.manifest import read_json, write_json
from conceptry.models.milan.exemplars.records import LayerExemplars, UnitExemplars

_LAYERS, _TENSORS = "units.json", "units.safetensors"


@dataclass(frozen=True)
class UnitFiles:
    """What is known of a unit's exemplars: PNG files, ids (k,) and activations (k,), or () where unknown."""

    images: tuple[bytes, ...]
    masks: tuple[bytes, ...]
    ids: tuple[int, ...]
    activations: tuple[float, ...]


def unit_files(exemplars: UnitExemplars, *, with_images: bool = True) -> UnitFiles:
    """The exemplars of a unit as `UnitStore.files` gives them, from their arrays."""
    ids, activations = (
        () if values is None else tuple(values.tolist()) for values in (exemplars.ids, exemplars.activations)
    )
    if not with_images:
        return UnitFiles((), (), ids, activations)
    return UnitFiles(tuple(map(_image_file, exemplars.images)), _mask_files(exemplars.masks[:, 0]), ids, activations)


def _image_file(pixels: np.ndarray) -> bytes:
    """A PNG of an image, uint8 (3, H, W)."""
    return png_bytes(Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, -1))))


def _mask_files(masks: np.ndarray) -> tuple[bytes, ...]:
    """PNG files of masks (k, H, W), white where they are not 0."""
    return tuple(png_bytes(Image.fromarray((mask != 0) * np.uint8(255)).convert("1")) for mask in masks)


def write_units(layers: Mapping[str, LayerExemplars], directory: Path) -> None:
    """Write the exemplars of layers into `directory`. Equal exemplars give equal bytes."""
    images: dict[bytes, int] = {}
    files: list[bytes] = []
    tensors: dict[str, np.ndarray] = {}
    described = []

    def number_of(pixels: np.ndarray) -> int:
        digest = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).digest()
        if digest not in images:
            images[digest] = len(files)
            files.append(_image_file(pixels))
        return images[digest]

    for number, (name, layer) in enumerate(layers.items()):
        count, k, _, height, width = layer.images.shape
        which = np.empty((count, k), np.int64)
        active, masks = np.empty(count, np.uint8), []
        for row in range(count):
            which[row] = [number_of(np.asarray(pixels)) for pixels in layer.images[row]]
            mask = np.asarray(layer.masks[row]) != 0
            active[row] = mask.any()
            masks.append(zlib.compress(np.packbits(mask).tobytes()))
        own = {"units": np.asarray(layer.units, np.int64), "pictures": which, "ids": np.asarray(layer.ids, np.int64)}
        own |= {"active": active, "masks": _joined(masks), "mask_ends": _ends(masks)}
        for column in ("activations", "levels"):
            if (values := getattr(layer, column)) is not None:
                own[column] = np.asarray(values, np.float32)
        tensors |= {f"{number}.{column}": np.ascontiguousarray(values) for column, values in own.items()}
        described.append({"name": name, "units": count, "k": k, "height": height, "width": width})
    tensors |= {"pictures": _joined(files), "picture_ends": _ends(files)}
    save_file(tensors, str(directory / _TENSORS))
    write_json(directory / _LAYERS, {"layers": described})


class UnitStore(ABC):
    """Units by layer and number, with their exemplars.

    layers: their names in order; counts: number of units of each; place: what sentences call the store.
    """

    layers: tuple[str, ...]
    counts: dict[str, int]
    place: ClassVar[str]

    @abstractmethod
    def _rows(self, layer: str) -> dict[int, int]:
        """Row of each unit of a layer that is there, by its number."""

    @abstractmethod
    def is_active(self, layer: str, unit: int) -> bool:
        """Whether any of the unit's masks has a pixel."""

    @abstractmethod
    def unit(self, layer: str, unit: int) -> UnitExemplars:
        """The exemplars of a unit, decoded."""

    @abstractmethod
    def files(self, layer: str, unit: int, *, with_images: bool = True) -> UnitFiles:
        """The exemplars of a unit, with PNG files of images and masks where `with_images`."""

    def numbers(self, layer: str) -> tuple[int, ...]:
        """The numbers of the units of a layer, in order. Raises InputError naming near layers for an unknown one."""
        self.check_layer(layer)
        return tuple(self._rows(layer))

    def check_layer(self, layer: str) -> None:
        """Raises InputError naming near layers for an unknown one."""
        if layer not in self.counts:
            near = closest(layer, self.layers, 5) or list(self.layers)
            raise InputError(
                f"there is no layer {truncated_repr(layer)} {self.place}; expected one such as {format_names(near)}"
            )

    def check(self, layer: str, unit: int) -> None:
        """Raises InputError with near units where the layer has no exemplars of the unit."""
        self.check_layer(layer)
        rows = self._rows(layer)
        if unit in rows:
            return
        if list(rows) == list(range(len(rows))):
            expected = f"0 to {len(rows) - 1}"
        else:
            numbers = [str(number) for number in rows]
            expected = f"one such as {format_names(closest(unit, numbers) or numbers)}"
        raise InputError(f"layer {layer} has no unit {truncated_repr(unit)}; expected {expected}")


class ComputedUnits(UnitStore):
    """Units whose exemplars lie in arrays, as `compute_exemplars` returns them and `read_results` reads them."""

    place = "among these exemplars"

    def __init__(self, exemplars: Mapping[str, LayerExemplars]) -> None:
        self.exemplars = dict(exemplars)
        self.layers = tuple(self.exemplars)
        self.counts = {name: len(layer) for name, layer in self.exemplars.items()}
        self._numbered = {
            name: {int(unit): row for row, unit in enumerate(layer.units)} for name, layer in self.exemplars.items()
        }

    def _rows(self, layer: str) -> dict[int, int]:
        return self._numbered[layer]

    def is_active(self, layer: str, unit: int) -> bool:
        return bool(np.asarray(self.exemplars[layer].masks[self._rows(layer)[unit]]).any())

    def unit(self, layer: str, unit: int) -> UnitExemplars:
        self.check(layer, unit)
        return self.exemplars[layer].unit(unit)

    def files(self, layer: str, unit: int, *, with_images: bool = True) -> UnitFiles:
        return unit_files(self.unit(layer, unit), with_images=with_images)


class NetworkUnits(UnitStore):
    """The units that `write_units` wrote to a folder; may be used from several threads."""

    place = "in this version"

    def __init__(self, directory: Path) -> None:
        described = read_json(directory / _LAYERS)["layers"]
        self._file: Any = safe_open(str(directory / _TENSORS), framework="np")
        self._there = set(self._file.keys())
        self._image_ends = self._file.get_tensor("picture_ends")
        self._layers = {entry["name"]: self._layer(number, entry) for number, entry in enumerate(described)}
        self.layers = tuple(self._layers)
        self.counts = {entry["name"]: entry["units"] for entry in described}

    def _rows(self, layer: str) -> dict[int, int]:
        return self._layers[layer].rows

    def is_active(self, layer: str, unit: int) -> bool:
        found = self._layers[layer]
        return bool(found.active[found.rows[unit]])

    def unit(self, layer: str, unit: int) -> UnitExemplars:
        self.check(layer, unit)
        found, row = self._layers[layer], self._layers[layer].rows[unit]
        images = np.stack([np.asarray(decode_image(content)) for content in self._images(found, row)])
        activations = None if found.activations is None else found.activations[row]
        masks = self._masks(found, row)[:, None]
        return UnitExemplars(layer, unit, np.moveaxis(images, -1, 1), masks, found.ids[row], activations)

    def files(self, layer: str, unit: int, *, with_images: bool = True) -> UnitFiles:
        self.check(layer, unit)
        found, row = self._layers[layer], self._layers[layer].rows[unit]
        ids = tuple(found.ids[row].tolist())
        activations = () if found.activations is None else tuple(found.activations[row].tolist())
        if not with_images:
            return UnitFiles((), (), ids, activations)
        return UnitFiles(tuple(self._images(found, row)), _mask_files(self._masks(found, row)), ids, activations)

    def _layer(self, number: int, entry: Mapping[str, Any]) -> "_Layer":
        def tensor(name: str) -> Any:
            key = f"{number}.{name}"
            return self._file.get_tensor(key) if key in self._there else None

        rows = {int(unit): row for row, unit in enumerate(tensor("units"))}
        shape = (entry["k"], entry["height"], entry["width"])
        columns = ("pictures", "ids", "active", "mask_ends", "activations")
        return _Layer(number, rows, shape, *(tensor(name) for name in columns))

    def _images(self, layer: "_Layer", row: int) -> list[bytes]:
        return [self._part("pictures", self._image_ends, number) for number in layer.images[row]]

    def _masks(self, layer: "_Layer", row: int) -> np.ndarray:
        """uint8 (k, H, W), 0 and 1."""
        bits = zlib.decompress(self._part(f"{layer.number}.masks", layer.mask_ends, row))
        count = int(np.prod(layer.shape))
        return np.unpackbits(np.frombuffer(bits, np.uint8), count=count).reshape(layer.shape)

    def _part(self, name: str, ends: np.ndarray, number: int) -> bytes:
        start = int(ends[number - 1]) if number else 0
        return self._file.get_slice(name)[start : int(ends[number])].tobytes()


@dataclass(frozen=True)
class _Layer:
    number: int
    rows: dict[int, int]  # of the unit of a number
    shape: tuple[int, int, int]  # k, height, width
    images: np.ndarray
    ids: np.ndarray
    active: np.ndarray
    mask_ends: np.ndarray
    activations: np.ndarray | None


def _joined(parts: Sequence[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(parts), np.uint8)


def _ends(parts: Sequence[bytes]) -> np.ndarray:
    return np.cumsum([len(part) for part in parts], dtype=np.int64)
