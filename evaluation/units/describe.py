"""Describe every unit of a network: a table of all, a page for each layer, and an index of the pages.

| file | content |
|---|---|
| descriptions.csv | a row for each unit, see `described` |
| LAYER.html | the page of a layer, see `page` |
| index.html | the layers, and a search over all units |
| describe.json | what was described and how, and the file of each layer; it lets a run go on where one ended |
| .lock | held while a run writes |

Every file is replaced as a whole, a layer at a time, so that nothing that was finished is lost when a run is killed.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conceptry.evaluation.drawing import html
from conceptry.evaluation.units.html.layer import LayerEntry, Link, clearest, index_page, layer_page, navigation
from conceptry.evaluation.units.html.unit import DrawnUnit, draw_units
from conceptry.evaluation.units.records import FILE, DescribedUnit, read_descriptions, summary, write_descriptions
from conceptry.models.errors import InputError
from conceptry.models.folders import locked, writing
from conceptry.models.manifest import read_json, replacing, write_json

INDEX, RECORD = "index.html", "describe.json"


@dataclass(frozen=True)
class Source:
    """What gives descriptions of the units of a network.

    title: of the index; about: a line on what is described and by what; notes: sentences on how to read the scores;
    identity: what has to be equal for one run to go on where another ended, JSON-ready; layers: the number of units
    of each, in order; describe: the units of a layer with their exemplars, in their order.
    """

    title: str
    about: str
    notes: Sequence[str]
    identity: Mapping[str, Any]
    layers: Mapping[str, int]
    describe: Callable[[str], Iterator[DescribedUnit]]


def describe_network(
    source: Source,
    output: Path,
    layers: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> list[Path]:
    """Write the files above into `output` for `layers`, or all; returns the paths of the pages, the index first.

    Layers that an earlier run has finished are left as they are. Raises InputError for an unknown layer, for a folder
    that holds something else, and for one that another run is writing to.
    """
    chosen = _chosen(source, layers)
    open_output(output, source.identity)
    with locked(output, "descriptions"):
        return _describe(source, output, chosen, say, progress)


def _describe(
    source: Source,
    output: Path,
    chosen: Sequence[str],
    say: Callable[[str], None],
    progress: Callable[[str, float], None],
) -> list[Path]:
    record = open_output(output, source.identity)
    done: dict[str, str] = record["layers"]
    units = [unit for unit in _read(output) if unit.layer in done]
    # Names are given out for all layers, so that they do not depend on which are described first.
    files = file_names(source.layers)
    order = list(source.layers)
    entries = {name: _entry(output, name, file, units) for name, file in done.items()}
    for number, layer in enumerate(chosen):
        if layer in done:
            say(f"{layer}: is there already, {source.layers[layer]:,} units")
            continue
        drawn: list[DrawnUnit] = []
        for each in draw_units(source.describe(layer), source.layers[layer]):
            drawn.append(each)
            progress(layer, (number + len(drawn) / source.layers[layer]) / len(chosen))
        _replace(output / files[layer], layer_page(layer, drawn, source.about, source.notes))
        found = [each.unit for each in drawn]
        units = sorted((*units, *found), key=lambda unit: (order.index(unit.layer), unit.unit))
        write_descriptions(units, output / FILE)
        done[layer] = files[layer]
        write_json(output / RECORD, record)
        entries[layer] = _entry(output, layer, done[layer], units)
        _write_index(output, source, entries)
        say(f"{layer}: {summary(found)}")
    _write_index(output, source, entries)
    links = [Link(done[name], name) for name in order if name in done]
    _link(output, links)
    return [output / INDEX, *(output / link.file for link in links)]


def open_output(output: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a folder of the same `identity`, written where it is new or empty; raises InputError for others."""
    if output.is_file():
        raise InputError(f"--output {output}: expected a folder, this is a file")
    if not (output / RECORD).is_file():
        if output.is_dir() and any(output.iterdir()):
            raise InputError(f"--output {output}: holds other files; expected a new folder, or one of this command")
        with writing(output):
            output.mkdir(parents=True, exist_ok=True)
            write_json(output / RECORD, {"identity": dict(identity), "layers": {}})
    record = read_json(output / RECORD)
    if not record["layers"]:  # a run was ended before it described anything
        return {"identity": dict(identity), "layers": {}}
    known, wanted = _flat(record["identity"]), _flat(identity)
    for key in dict.fromkeys([*known, *wanted]):
        if known.get(key) != wanted.get(key):
            raise InputError(
                f"--output {output}: holds descriptions with {key} {known.get(key)!r}, not {wanted.get(key)!r}; "
                "give another folder"
            )
    record["layers"] = {name: file for name, file in record["layers"].items() if (output / file).is_file()}
    return record


def file_names(layers: Mapping[str, Any] | Sequence[str]) -> dict[str, str]:
    """A file name for each layer, of letters, digits, ".", "_" and "-" alone; no two differ by case alone."""
    taken, names = {INDEX}, {}
    for layer in layers:
        stem = re.sub(r"[^A-Za-z0-9._-]", "_", layer).lstrip(".")[:100] or "layer"
        name, k = f"{stem}.html", 2
        while name.lower() in taken:
            name, k = f"{stem}-{k}.html", k + 1
        taken.add(name.lower())
        names[layer] = name
    return names


def articles(path: Path) -> dict[int, str]:
    """The HTML of each unit on a page of this package, by its number. What a unit says cannot look like markup."""
    found = re.finditer(r'<article class="unit[^>]* data-unit="(\d+)".*?</article>', path.read_text("utf-8"), re.DOTALL)
    return {int(match[1]): match[0] for match in found}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under names such as "params strategy"."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name} ") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def _entry(output: Path, layer: str, file: str, units: Sequence[DescribedUnit]) -> LayerEntry:
    own = [unit for unit in units if unit.layer == layer]
    pages_of = articles(output / file)
    shown = {unit.unit: pages_of[unit.unit] for unit in clearest(own) if unit.unit in pages_of}
    return LayerEntry(layer, file, own, shown)


def _write_index(output: Path, source: Source, entries: Mapping[str, LayerEntry]) -> None:
    there = [entries[name] for name in source.layers if name in entries]
    _replace(output / INDEX, index_page(source.title, source.about, there, source.notes))


def _link(output: Path, links: Sequence[Link]) -> None:
    """Pages link to their neighbours among those that are there, however many runs it took."""
    for k, link in enumerate(links):
        before, after = links[k - 1] if k else None, links[k + 1] if k + 1 < len(links) else None
        text = (output / link.file).read_text("utf-8")
        bar = navigation(Link(INDEX, "All layers"), before, after)
        linked = re.sub(r"<nav .*?</nav>", lambda _, bar=bar: bar, text, count=1, flags=re.DOTALL)
        if linked != text:
            _replace(output / link.file, linked)


def _chosen(source: Source, layers: Sequence[str]) -> list[str]:
    from conceptry.models.explained.hooks import some

    for layer in layers:
        if layer not in source.layers:
            raise InputError(f"{source.title}: no layer {layer!r}; expected one of {some(list(source.layers))}")
    return [layer for layer in source.layers if not layers or layer in layers]


def _read(output: Path) -> list[DescribedUnit]:
    return read_descriptions(output / FILE) if (output / FILE).is_file() else []


def _replace(path: Path, text: str) -> None:
    with replacing(path) as partial:
        html.write(text, partial)
