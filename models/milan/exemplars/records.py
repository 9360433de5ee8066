"""Exemplars of one layer: in memory, and on disk as the original implementation lays them out.

An exemplar is an image that drives a unit most, and a mask that says where in it the unit is active. A results folder,
`<results>/<model>/<data set>`, holds a folder for each layer:

| file | content |
|---|---|
| images.npy | uint8 (U, k, 3, H, W); absent where the images may not be passed on |
| masks.npy | uint8 (U, k, 1, H, W), 1 where the unit is active |
| ids.csv | U rows of k positions in the data set, no header |
| activations.csv | U rows of k activations, %.5e; absent in some published results |
| units.npy | int64 (U,), the numbers of the units where they are not 0, 1, ... U - 1 |
| levels.csv | U rows: what an activation exceeds in a mask, %.9e (an addition of conceptry) |

| symbol | meaning |
|---|---|
| U | units of a layer that exemplars were computed for |
| k | exemplars of a unit, the strongest first |
| H, W | height and width of the delivered images, in pixels |
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conceptry.models.errors import InputError, closest
from conceptry.models.manifest import replace_atomically, replacing
from conceptry.models.method import whole_number


@dataclass(frozen=True)
class UnitExemplars:
    """The exemplars of one unit.

    images: uint8 (k, 3, H, W), RGB. masks: uint8 (k, 1, H, W), 1 where the unit is active. ids: int64 (k,), positions
    in the data set; activations: float32 (k,), the unit's spatial maximum on each, descending; either may be None
    where it is not known.
    """

    layer: str
    unit: int
    images: np.ndarray
    masks: np.ndarray
    ids: np.ndarray | None = None
    activations: np.ndarray | None = None

    @property
    def is_inactive(self) -> bool:
        """Whether no mask has a pixel: the unit never rose above its level, so there is nothing to describe."""
        return not self.masks.any()


@dataclass(frozen=True)
class LayerExemplars:
    """The exemplars of the units of a layer. Arrays may be memory-mapped.

    units: int64 (U,), the number of each unit within its layer. images: uint8 (U, k, 3, H, W). masks: uint8
    (U, k, 1, H, W). ids: int64 (U, k). activations: float32 (U, k) or None. levels: float32 (U,), what an activation
    has to exceed to be in the mask, or None where that is not known.
    """

    layer: str
    units: np.ndarray
    images: np.ndarray
    masks: np.ndarray
    ids: np.ndarray
    activations: np.ndarray | None = None
    levels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.units)

    def row(self, unit: int) -> int:
        """The row of unit number `unit`; raises InputError where it is not among the units."""
        rows = np.flatnonzero(self.units == unit)
        if not len(rows):
            numbers = [str(number) for number in self.units]
            near = closest(unit, numbers) or numbers[:3]
            raise InputError(
                f"layer {self.layer} has exemplars of {len(numbers)} units, but none of unit {unit}; "
                f"expected one such as {', '.join(near)}"
            )
        return int(rows[0])

    def unit(self, unit: int) -> UnitExemplars:
        """The exemplars of unit number `unit`; raises InputError where it is not among the units."""
        row = self.row(unit)
        activations = None if self.activations is None else np.asarray(self.activations[row])
        images, masks = np.asarray(self.images[row]), np.asarray(self.masks[row])
        return UnitExemplars(self.layer, unit, images, masks, np.asarray(self.ids[row]), activations)


IMAGES, MASKS, IDS, ACTIVATIONS, UNITS, LEVELS = (
    "images.npy",
    "masks.npy",
    "ids.csv",
    "activations.csv",
    "units.npy",
    "levels.csv",
)


def results_directory(results: Path, model: str, data: str) -> Path:
    """`<results>/<model>/<data set>` for names such as zoo:scenes and folder:PATH, of which the last part is taken."""
    return Path(results) / _folder(model) / _folder(data)


def _folder(name: str) -> str:
    last = name.rstrip("/\\").replace("\\", "/").rpartition("/")[2].rpartition(":")[2]
    if last in ("", ".", ".."):
        raise InputError(f"{name!r} gives no name of a folder; expected one such as zoo:scenes or folder:pictures")
    return last


def write_layer(directory: Path, exemplars: LayerExemplars) -> None:
    """Write `directory`/LAYER with the files above; existing ones are replaced, each as a whole."""
    folder = Path(directory) / exemplars.layer
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ((IMAGES, exemplars.images), (MASKS, exemplars.masks)):
        with replacing(folder / name) as partial, partial.open("wb") as stream:
            np.lib.format.write_array(stream, np.ascontiguousarray(array, np.uint8), allow_pickle=False)
    write_tables(folder, exemplars.units, exemplars.ids, exemplars.activations, exemplars.levels)


def write_tables(
    folder: Path, units: np.ndarray, ids: np.ndarray, activations: np.ndarray | None, levels: np.ndarray | None
) -> None:
    """The small files of a layer; shapes as in `LayerExemplars`."""
    for name, table, form in ((IDS, ids, "%d"), (ACTIVATIONS, activations, "%.5e"), (LEVELS, levels, "%.9e")):
        if table is None:
            (folder / name).unlink(missing_ok=True)
            continue
        rows = np.asarray(table).reshape(len(units), -1)
        text = "".join(",".join(form % value for value in row) + "\n" for row in rows)
        replace_atomically(folder / name, text.encode())
    if np.array_equal(units, np.arange(len(units))):
        (folder / UNITS).unlink(missing_ok=True)
    else:
        with (folder / UNITS).open("wb") as stream:
            np.lib.format.write_array(stream, units.astype(np.int64), allow_pickle=False)


def read_layer(directory: Path, layer: str | None = None) -> LayerExemplars:
    """The exemplars in `directory`/`layer`, or of the layer whose folder `directory` is; pictures stay on disk.

    Raises InputError naming the file that is missing or does not fit the others.
    """
    folder = Path(directory) if layer is None else Path(directory) / layer
    if not folder.is_dir():
        there = layers_in(Path(directory)) if Path(directory).is_dir() else []
        hint = f"; there are {', '.join(there[:5])}" if there else ""
        raise InputError(f"{folder}: there is no such folder of exemplars{hint}")
    images, masks = _array(folder / IMAGES), _array(folder / MASKS)
    for path, array, channels in ((folder / IMAGES, images, 3), (folder / MASKS, masks, 1)):
        if array.dtype != np.uint8 or array.ndim != 5 or array.shape[2] != channels:
            raise InputError(
                f"{path}: expected uint8 (units, k, {channels}, height, width), got {array.dtype} {array.shape}"
            )
    if images.shape[:2] != masks.shape[:2] or images.shape[3:] != masks.shape[3:]:
        raise InputError(f"{folder / MASKS}: has shape {masks.shape}, which does not go with images {images.shape}")
    n_units, k = images.shape[:2]
    ids = _table(folder / IDS, (n_units, k), np.int64)
    if ids is None:
        raise InputError(f"{folder / IDS}: no such file; expected the positions of the pictures in their data set")
    activations = _table(folder / ACTIVATIONS, (n_units, k), np.float32)
    levels = _table(folder / LEVELS, (n_units, 1), np.float32)
    units = np.arange(n_units) if not (folder / UNITS).exists() else np.array(_array(folder / UNITS))
    if units.shape != (n_units,) or not np.issubdtype(units.dtype, np.integer) or len(set(units.tolist())) != n_units:
        raise InputError(
            f"{folder / UNITS}: expected {n_units} different numbers of units, got {units.dtype} {units.shape}"
        )
    flat = None if levels is None else levels[:, 0]
    return LayerExemplars(folder.name, units.astype(np.int64), images, masks, ids, activations, flat)


def read_results(directory: Path) -> dict[str, LayerExemplars]:
    """The exemplars of all layers in a results folder, by the name of the layer.

    Raises InputError where it holds none, or one that cannot be read.
    """
    directory = Path(directory)
    layers = layers_in(directory) if directory.is_dir() else []
    if not layers:
        one = " (it is the folder of one layer)" if (directory / MASKS).exists() else ""
        below = [
            path.parent.parent for depth in ("*/*", "*/*/*") for path in sorted(directory.glob(f"{depth}/{MASKS}"))
        ]
        hint = f"; did you mean {below[0]}?" if below else f"{one}; expected folders of layers, each with {MASKS}"
        raise InputError(f"{directory}: {'holds no exemplars' if directory.is_dir() else 'no such folder'}{hint}")
    for path in sorted(directory.iterdir()):
        if not path.name.startswith(".") and (path / IMAGES).is_file() and path.name not in layers:
            raise InputError(f"{path / MASKS}: no such file; expected it beside {IMAGES}")
    return {layer: read_layer(directory, layer) for layer in layers}


def layers_in(directory: Path) -> list[str]:
    """The names of the layers in a results folder, numbers in their order."""
    names = [path.name for path in directory.iterdir() if (path / MASKS).is_file() and not path.name.startswith(".")]

    def place(name: str) -> list[tuple[bool, int, str]]:
        numbers = [(part, whole_number(part)) for part in name.split(".")]
        return [(number is None, number or 0, part) for part, number in numbers]

    return sorted(names, key=place)


def _array(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an array of exemplars")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: is not a .npy file that can be read: {str(error)[:150]}") from None


def _table(path: Path, shape: tuple[int, int], dtype: type) -> np.ndarray | None:
    if not path.is_file():
        return None
    try:
        table = np.loadtxt(path, delimiter=",", dtype=dtype, ndmin=2)
    except ValueError as error:
        raise InputError(f"{path}: is not a table of numbers: {str(error)[:150]}") from None
    if table.shape != shape:
        raise InputError(f"{path}: expected {shape[0]} rows of {shape[1]}, got {table.shape[0]} of {table.shape[1]}")
    return table
