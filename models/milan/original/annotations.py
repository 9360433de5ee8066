"""MILANNOTATIONS and computed exemplars by the published names."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from conceptry.models.errors import InputError
from conceptry.models.milan.annotations.annotations import GROUPS, KEYS, AnnotatedUnits, load_annotations
from conceptry.models.milan.exemplars.records import UnitExemplars, read_results
from conceptry.models.milan.exemplars.unit_store import ComputedUnits
from conceptry.models.milan.original.folders import data_dir, results_dir


class TopImagesDataset(Sequence[UnitExemplars]):
    """Exemplars of a results folder, one item a unit; each has layer, unit, images (k, 3, H, W) and masks (k, 1, H, W).

    Args:
        root: a folder with a folder for each layer, as `compute_exemplars` writes it.
        name: by default the last two parts of `root`.
    """

    def __init__(self, root: str | Path, name: str | None = None) -> None:
        self.root = Path(root)
        self.name = name or "/".join(self.root.absolute().parts[-2:])
        self._store = ComputedUnits(read_results(self.root))
        self.layers = self._store.layers
        self._places = [(layer, unit) for layer in self.layers for unit in self._store.numbers(layer)]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._store.unit(*self._places[index])

    def lookup(self, layer: str | int, unit: int) -> UnitExemplars:
        """The exemplars of a unit by its number. Raises InputError for unknown layers and units, with near ones."""
        return self._store.unit(str(layer), unit)

    def unit(self, index: int) -> tuple[str, int]:
        """Layer and unit of the item `index`."""
        return self._places[index]

    @property
    def k(self) -> int:
        """Exemplars of a unit, the "k" of "top-k"."""
        return len(self[0].images)


def load(
    name: str = "base", path: str | Path | None = None, *, source: str | Path = "imagenet/val", annotations: bool = True
) -> AnnotatedUnits | TopImagesDataset:
    """Load MILANNOTATIONS of a network or group, or exemplars that were computed.

    Args:
        name: a network, such as `alexnet/imagenet`, a group, such as `base`, or MODEL/DATASET as it was given to
            `compute_exemplars`.
        path: the folder of that network, or of all where `name` is a group; by default below MILAN_DATA_DIR, and for
            computed exemplars below MILAN_RESULTS_DIR/exemplars.
        source: ImageNet's validation images, a folder a class, below MILAN_DATA_DIR.
        annotations: whether the annotations are loaded where there are some.

    Returns:
        Units whose `lookup(layer, unit)` gives a sample with `images`, `masks` and, where people described it,
        `annotations`.

    Raises:
        InputError: for a name that stands for nothing, and saying what is missing and where it goes.
    """
    if name in GROUPS:
        return _annotated(Path(path or data_dir()), name, source)
    folders = [Path(path)] if path else [data_dir() / name, results_dir() / "exemplars" / name]
    there = [folder for folder in folders if folder.is_dir()]
    if name in KEYS and annotations and (not there or (there[0] / "annotations.csv").is_file()):
        folder = there[0] if there else folders[0]
        if folder.parts[-2:] != tuple(name.split("/")):
            raise InputError(f"{folder}: expected a folder that ends in {name}, or a name that goes by its folder")
        return _annotated(folder.parents[1], name, source)
    if not there:
        raise InputError(
            f"there are no exemplars of {name!r}: expected {' or '.join(map(str, folders))}; compute them with "
            f"compute_exemplars, or load a key of MILANNOTATIONS: {', '.join([*KEYS, *list(GROUPS)[:8]])}, not-..."
        )
    return TopImagesDataset(there[0], name)


def _annotated(root: Path, name: str, source: str | Path) -> AnnotatedUnits:
    images = data_dir() / source
    return load_annotations(root, name, images if images.is_dir() else None)


milannotations = SimpleNamespace(load=load, KEYS=KEYS, DATASET_GROUPINGS=GROUPS)
