"""The output folder of `conceptry describe`: the data from which pages, audits and ablations are made.

| file | content |
|---|---|
| describe.json | what was described and how, and of each finished layer its page and the pages beside that |
| descriptions.csv | a row for each unit, see `records` |
| strips/STEM/UNIT.webp, UNIT.png | the exemplars of a unit side by side, and their masks; STEM.html is the page |
| strips/STEM/strips.ndjson | of each of these units the size of an exemplar, positions in the data set, activations |
| .lock | held while a run writes |

A layer counts as finished once describe.json names it, which is written last: what a killed run left is written over.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from conceptry.evaluation.drawing.strips import Strip
from conceptry.evaluation.units.records import FILE, UnitDescription, read_descriptions, write_descriptions
from conceptry.models.errors import InputError
from conceptry.models.folders import writing
from conceptry.models.manifest import read_json, replace_atomically, write_json

RECORD, STRIPS, STRIPS_RECORD = "describe.json", "strips", "strips.ndjson"
FORMAT = 2  # 1 had no strips: its images were in the pages alone


class Page(NamedTuple):
    """File of a layer's page, and of those before and after it as the page links to them; None without."""

    file: str
    before: str | None = None
    after: str | None = None


@dataclass
class DescriptionFolder:
    """Descriptions and exemplars of the units of a network.

    Attributes:
        path: of the folder.
        identity: what was described and how; equal for all runs that write to the folder.
        pages: of each finished layer.
    """

    path: Path
    identity: dict[str, Any]
    pages: dict[str, Page]

    def units(self, layer: str | None = None) -> list[UnitDescription]:
        """Descriptions of one finished layer, or of all, without strips."""
        table = self.path / FILE
        units = read_descriptions(table) if table.is_file() else []
        return [unit for unit in units if unit.layer in self.pages and layer in (None, unit.layer)]

    def with_strips(self, units: Sequence[UnitDescription]) -> list[UnitDescription]:
        """Return `units`, those that are kept here with their strips."""
        layers = dict.fromkeys(unit.layer for unit in units if unit.layer in self.pages)
        strips = {layer: _read_strips(self._strip_folder(layer)) for layer in layers}
        return [replace(unit, strip=self._read_strip(unit, strips.get(unit.layer, {}))) for unit in units]

    def add_layer(self, layer: str, page: str, units: Iterable[UnitDescription], order: Sequence[str]) -> None:
        """Keep the units of a layer, each as it comes; `save` is what makes the layer a finished one.

        page: file of its page; order: all layers of the network.
        """
        known = self.units()
        self.pages[layer] = Page(page)
        folder = self._strip_folder(layer)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lines, found = [], []
            for unit in units:
                if unit.strip is not None:
                    _write_strip(folder, unit.unit, unit.strip)
                    lines.append(json.dumps({"unit": unit.unit, **_strip_record(unit.strip)}) + "\n")
                found.append(replace(unit, strip=None))
            replace_atomically(folder / STRIPS_RECORD, "".join(lines).encode())
        place = {name: number for number, name in enumerate(order)}
        kept = [*(unit for unit in known if unit.layer != layer), *found]
        write_descriptions(sorted(kept, key=lambda unit: (place[unit.layer], unit.unit)), self.path / FILE)

    def save(self) -> None:
        """Write describe.json."""
        pages = {layer: page._asdict() for layer, page in self.pages.items()}
        write_json(self.path / RECORD, {"format": FORMAT, "identity": self.identity, "layers": pages})

    def _strip_folder(self, layer: str) -> Path:
        return self.path / STRIPS / self.pages[layer].file.removesuffix(".html")

    def _read_strip(self, unit: UnitDescription, strips: Mapping[int, dict[str, Any]]) -> Strip | None:
        if unit.unit not in strips:
            return None
        image, overlay = _strip_files(self._strip_folder(unit.layer), unit.unit)
        known = dict(strips[unit.unit])
        has_masks = known.pop("masks")
        try:
            return Strip(image.read_bytes(), overlay.read_bytes() if has_masks else None, **known)
        except OSError as error:
            raise InputError(f"{error.filename}: cannot be read, and {STRIPS_RECORD} beside it names it") from None


def read_folder(path: Path) -> DescriptionFolder | None:
    """The folder at `path`, None where no run of `describe` has written there.

    A layer whose strips are gone does not count as finished. Raises InputError for a folder of an earlier release,
    whose pages alone hold the exemplars.
    """
    if not (path / RECORD).is_file():
        return None
    record = read_json(path / RECORD)
    if record["layers"] and record.get("format") != FORMAT:
        raise InputError(
            f"{path}: was written by an earlier release, whose pages alone hold the exemplars; describe the network "
            "anew, into another folder"
        )
    folder = DescriptionFolder(path, record["identity"], {name: Page(**of) for name, of in record["layers"].items()})
    finished = [layer for layer in folder.pages if (folder._strip_folder(layer) / STRIPS_RECORD).is_file()]
    folder.pages = {layer: folder.pages[layer] for layer in finished}
    return folder


def open_folder(path: Path, identity: Mapping[str, Any]) -> DescriptionFolder:
    """The folder of the same `identity` at `path`, made where it is new or empty; raises InputError for others."""
    if path.is_file():
        raise InputError(f"--output {path}: expected a folder, this is a file")
    folder = read_folder(path)
    if folder is None:
        if path.is_dir() and any(path.iterdir()):
            raise InputError(f"--output {path}: holds other files; expected a new folder, or one of this command")
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            folder = DescriptionFolder(path, dict(identity), {})
            folder.save()
    if not folder.pages:  # a run was ended before it described anything
        return DescriptionFolder(path, dict(identity), {})
    known, wanted = _flat(folder.identity), _flat(identity)
    for key in dict.fromkeys([*known, *wanted]):
        if known.get(key) != wanted.get(key):
            raise InputError(
                f"--output {path}: holds descriptions with {key} {known.get(key)!r}, not {wanted.get(key)!r}; "
                "give another folder"
            )
    return folder


def _strip_files(folder: Path, unit: int) -> tuple[Path, Path]:
    return folder / f"{unit}.webp", folder / f"{unit}.png"


def _write_strip(folder: Path, unit: int, strip: Strip) -> None:
    image, overlay = _strip_files(folder, unit)
    image.write_bytes(strip.image)
    if strip.overlay is not None:
        overlay.write_bytes(strip.overlay)


def _strip_record(strip: Strip) -> dict[str, Any]:
    """Entry of a strip in strips.ndjson: all but its files."""
    known = asdict(strip)
    del known["image"]
    return known | {"masks": known.pop("overlay") is not None}


def _read_strips(folder: Path) -> dict[int, dict[str, Any]]:
    """Records of the strips in `folder` by unit: what `Strip` takes beside the files."""
    lines = (folder / STRIPS_RECORD).read_text(encoding="utf-8").splitlines()
    found = {(known := json.loads(line)).pop("unit"): known for line in lines}
    lists = ("ids", "activations")
    return {unit: known | {name: tuple(known[name]) for name in lists} for unit, known in found.items()}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under names such as "params strategy"."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name} ") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
