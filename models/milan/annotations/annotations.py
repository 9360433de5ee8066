"""MILANNOTATIONS: units of known networks with what three people wrote about each, and the groups of networks in it.

Hernandez et al. 2022 (see the package). The published layout, unzipped, one folder a network:

| file below ROOT/ARCH/DATASET | holds |
|---|---|
| `annotations.csv` | a row an annotation; the columns layer, unit, summary |
| LAYER`/masks.npy` | uint8 (U, k, 1, H, W), where each unit is active |
| LAYER`/ids.csv` | U x k positions in the data set, no header |
| LAYER`/images.npy` | uint8 (U, k, 3, H, W); not published for classifiers of ImageNet |
| LAYER`/units.npy` | int64 (U,), the number of the unit in each row, where that is not the row's own |

Pictures of ImageNet come from the user's own validation folder, by their ids. No picture is read before its unit is
asked for.

Differences from the original code: pictures of ImageNet are cut out as they were when the masks were made, not squeezed
to the masks' size; layers named by digits alone keep their annotations; units are found by number, not by row.

Describers were trained on groups of networks, which go by these names:

| group | networks x data sets |
|---|---|
| `base` | alexnet, resnet152, biggan x imagenet, places365 |
| `cls`, `gen` | those of `base` that classify (alexnet, resnet152), that generate (biggan) |
| `imagenet`, `places365` | those of `base` on that data set |
| `alexnet`, `resnet152`, `biggan` | those of `base` of that architecture |
| `not-ARCH-DATASET` | `base` without that one |

`dino_vits8/imagenet` is in no group: it is what describers are tried on.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conceptry.models.errors import InputError, closest, truncated_repr
from conceptry.models.manifest import read_text
from conceptry.models.method import whole_number
from conceptry.models.milan.annotations.layers import VALIDATION_IMAGES, AnnotatedLayer, ImageFolder, open_layer
from conceptry.models.milan.exemplars.records import UnitExemplars

_ARCHITECTURES = ("alexnet", "resnet152", "biggan")
_DATASETS = ("imagenet", "places365")

BASE = tuple(f"{arch}/{data}" for arch in _ARCHITECTURES for data in _DATASETS)
KEYS = (*BASE, "dino_vits8/imagenet")
GROUPS = {
    "base": BASE,
    "cls": tuple(key for key in BASE if not key.startswith("biggan/")),
    "gen": tuple(key for key in BASE if key.startswith("biggan/")),
    **{data: tuple(key for key in BASE if key.endswith(f"/{data}")) for data in _DATASETS},
    **{arch: tuple(key for key in BASE if key.startswith(f"{arch}/")) for arch in _ARCHITECTURES},
    **{f"not-{key.replace('/', '-')}": tuple(other for other in BASE if other != key) for key in BASE},
}


def networks_of(key: str) -> tuple[str, ...]:
    """The networks, each as ARCH/DATASET, that a key or a group stands for; several may be joined by commas.

    Raises InputError with near names for unknown ones, and where a network is named twice.
    """
    found: list[str] = []
    for name in (part.strip() for part in key.split(",")):
        known = GROUPS.get(name) or ((name,) if name in KEYS else None)
        if known is None:
            names = [*KEYS, *GROUPS]
            near = closest(name, names) or [*KEYS, *list(GROUPS)[:8], "not-..."]
            raise InputError(f"MILANNOTATIONS has no {truncated_repr(name)}; expected one such as {', '.join(near)}")
        found += known
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise InputError(f"{truncated_repr(key)} names {twice[0]} twice; expected each network once")
    return tuple(found)


def archive_of(network: str) -> str:
    """The name of the published .zip file: alexnet/imagenet is alexnet-imagenet.zip."""
    return f"{network.replace('/', '-')}.zip"


CAPTIONS = 3  # of each unit; units with fewer are left out, further ones are not used
COLUMNS = ("layer", "unit", "summary")
_SOURCE = "the project page of MILAN (milan.csail.mit.edu)"


@dataclass(frozen=True)
class AnnotatedUnit:
    """A unit and what people wrote about it. network: its key, such as alexnet/imagenet."""

    exemplars: UnitExemplars
    captions: tuple[str, ...]
    network: str

    @property
    def layer(self) -> str:
        """The unit's layer."""
        return self.exemplars.layer

    @property
    def unit(self) -> int:
        """The unit's number within its layer."""
        return self.exemplars.unit

    @property
    def images(self) -> np.ndarray:
        """The images of the exemplars, uint8 (k, 3, H, W)."""
        return self.exemplars.images

    @property
    def masks(self) -> np.ndarray:
        """The masks of the exemplars, uint8 (k, 1, H, W)."""
        return self.exemplars.masks

    @property
    def annotations(self) -> tuple[str, ...]:
        """The captions, as the published implementation calls them."""
        return self.captions


class AnnotatedUnits(Sequence[AnnotatedUnit]):
    """The annotated units of the networks, by layer and unit within each; item `i` is read when it is asked for.

    n_left_out: units with exemplars but fewer than three annotations; notes: what else was left out, in sentences.
    """

    def __init__(self, networks: Sequence["_Network"]) -> None:
        self._networks = {network.key: network for network in networks}
        self._places = [(network, layer, row) for network in networks for layer, row in network.annotated()]
        self.n_left_out = sum(len(layer.units) for network in networks for layer in network.layers.values())
        self.n_left_out -= len(self._places)
        self.notes = tuple(note for network in networks for note in network.notes)
        if not self._places:
            raise InputError(f"{', '.join(self._networks)}: no unit has {CAPTIONS} annotations")

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        network, layer, row = self._places[index]
        return network.read(layer, row)

    def unit(self, index: int) -> tuple[str, int]:
        """Layer and unit of item `index`, without its pictures."""
        _, layer, row = self._places[index]
        return layer.name, int(layer.units[row])

    @property
    def captions(self) -> list[tuple[str, ...]]:
        """The captions of every unit, without its pictures."""
        return [network.captions[layer.name, int(layer.units[row])] for network, layer, row in self._places]

    def lookup(self, layer: str | int, unit: int, network: str | None = None) -> AnnotatedUnit:
        """The unit of that number in that layer; `network` where several are loaded.

        Raises InputError for unknown names, with near ones, and for units without annotations.
        """
        if network is None and len(self._networks) > 1:
            raise InputError(f"several networks are loaded; name one: {', '.join(self._networks)}")
        chosen = self._networks.get(network or next(iter(self._networks)))
        if chosen is None:
            raise InputError(f"{truncated_repr(network)} is not loaded; expected one of {', '.join(self._networks)}")
        found = chosen.layer(str(layer))
        rows = np.flatnonzero(found.units == unit)
        if not len(rows) or len(chosen.captions.get((found.name, unit), ())) < CAPTIONS:
            what = f"fewer than {CAPTIONS} annotations" if len(rows) else "no exemplars"
            raise InputError(f"{chosen.key}: unit {unit} of layer {found.name} has {what}")
        return chosen.read(found, int(rows[0]))


@dataclass(frozen=True)
class _Network:
    """captions: by layer and unit, as many as were written, in the order of the file, at most three."""

    key: str
    layers: dict[str, AnnotatedLayer]
    captions: dict[tuple[str, int], tuple[str, ...]]
    notes: tuple[str, ...]

    def annotated(self) -> Iterator[tuple[AnnotatedLayer, int]]:
        for layer in self.layers.values():
            for row in np.argsort(layer.units, kind="stable").tolist():
                if len(self.captions.get((layer.name, int(layer.units[row])), ())) == CAPTIONS:
                    yield layer, row

    def read(self, layer: AnnotatedLayer, row: int) -> AnnotatedUnit:
        return AnnotatedUnit(layer.read(row), self.captions[layer.name, int(layer.units[row])], self.key)

    def layer(self, name: str) -> AnnotatedLayer:
        if name not in self.layers:
            near = closest(name, self.layers) or list(self.layers)
            raise InputError(f"{self.key}: has no layer {truncated_repr(name)}; expected one such as {', '.join(near)}")
        return self.layers[name]


def load_annotations(
    root: str | Path,
    key: str = "base",
    imagenet: str | Path | None = None,
    *,
    expected_images: int | None = VALIDATION_IMAGES,
) -> AnnotatedUnits:
    """The annotated units of a key or group, see `annotation_keys`, from the folder that the archives were unzipped to.

    imagenet: the user's own folder of ImageNet's validation pictures, a folder a class, for networks that are published
    without pictures; expected_images: how many it has to hold. Raises InputError saying what is missing and where it
    goes, and for files of another layout.
    """
    root = Path(root)
    folder = ImageFolder(imagenet, expected_images) if imagenet else None
    return AnnotatedUnits([_read_network(root, network, folder) for network in networks_of(key)])


def _read_network(root: Path, key: str, folder: ImageFolder | None) -> _Network:
    directory = root / key
    if not directory.is_dir():
        raise InputError(_missing(root, key))
    names = sorted(path.name for path in directory.iterdir() if (path / "masks.npy").is_file())
    if not names:
        inner = next((path for path in sorted(directory.rglob("annotations.csv")) if path.parent != directory), None)
        hint = f"; what lies in {inner.parent} belongs there" if inner else ""
        raise InputError(f"{directory}: holds no layers; expected folders with masks.npy and ids.csv{hint}")
    captions = read_captions(directory / "annotations.csv")
    written = {layer for layer, _ in captions}
    if unknown := sorted(written - set(names)):
        near = closest(unknown[0], names) or names
        raise InputError(
            f"{directory / 'annotations.csv'}: describes the layer {truncated_repr(unknown[0])}, for which there is "
            f"no folder; expected one such as {', '.join(near)}"
        )
    layers = {name: open_layer(directory / name, folder) for name in names}
    strangers = [place for place in captions if place[1] not in layers[place[0]].units]
    notes = ()
    if strangers:
        layer, unit = strangers[0]
        notes = (f"{key}: {len(strangers)} annotated units have no exemplars, such as unit {unit} of layer {layer}",)
    return _Network(key, layers, captions, notes)


def _missing(root: Path, key: str) -> str:
    archive, flat = archive_of(key), key.replace("/", "-")
    place = f"{root / key}: no such folder"
    for zipped in (root / archive, (root / key).with_suffix(".zip")):
        if zipped.is_file():
            return f"{place}; unzip {zipped} there"
    if (root / flat / "annotations.csv").is_file():
        return f"{place}; {root / flat} holds it, rename that to {key}"
    return f"{place}; get {archive} from {_SOURCE} and unzip it there"


def read_captions(path: Path) -> dict[tuple[str, int], tuple[str, ...]]:
    """The first three captions of each layer and unit, in the file's order. Names of layers stay text, digits or not.

    Raises InputError where the file is missing, lacks a column, or has a row without layer or with no number of a unit.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected the columns {', '.join(COLUMNS)}")
    found: dict[tuple[str, int], tuple[str, ...]] = {}
    with io.StringIO(read_text(path), newline="") as stream:
        reader = csv.DictReader(stream)
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            columns = ", ".join(reader.fieldnames or ()) or "none"
            raise InputError(f"{path}: lacks the column {missing[0]}; expected {', '.join(COLUMNS)}, got {columns}")
        for row in reader:
            layer, unit, text = ((row[name] or "").strip() for name in COLUMNS)
            if not layer or whole_number(unit) is None:
                got = f"{truncated_repr(layer)} and {truncated_repr(unit)}"
                raise InputError(f"{path}, line {reader.line_num}: expected a layer and a unit's number, got {got}")
            place = (layer, int(unit))
            earlier = found.setdefault(place, ())
            if text and len(earlier) < CAPTIONS:
                found[place] = (*earlier, text)
    return found
