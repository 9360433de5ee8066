"""Describe every unit of a network: a table of all, a page for each layer, and an index of the pages.

Descriptions and exemplars are kept as data, see `folder`, and the pages are rendered from them: LAYER.html with the
units of a layer, and index.html with the layers and a search over all units. Every file is replaced as a whole, a layer
at a time, so that nothing that was finished is lost when a run is killed, and the next one goes on from there.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conceptry.evaluation.drawing import html
from conceptry.evaluation.units.folder import DescriptionFolder, Page, open_folder
from conceptry.evaluation.units.html.layer import LayerEntry, Link, clearest, index_page, layer_page
from conceptry.evaluation.units.html.unit import draw_strips
from conceptry.evaluation.units.records import UnitDescription, summary
from conceptry.models.errors import InputError
from conceptry.models.folders import locked
from conceptry.models.manifest import replacing
from conceptry.models.method import Progress

INDEX = "index.html"


@dataclass(frozen=True)
class Source:
    """Source of the descriptions of a network's units.

    Attributes:
        title: of the index.
        about: a line on what is described and by what.
        notes: sentences on how to read the scores.
        identity: what has to be equal for one run to go on where another ended, JSON-ready.
        layers: the number of units of each, in order.
        describe: the units of a layer with their exemplars, in their order.
    """

    title: str
    about: str
    notes: Sequence[str]
    identity: Mapping[str, Any]
    layers: Mapping[str, int]
    describe: Callable[[str], Iterator[UnitDescription]]


def describe_network(
    source: Source,
    output: Path,
    layers: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
    progress: Progress = lambda what, share: None,
) -> list[Path]:
    """Describe `layers`, or all, into the folder `output`; return the paths of the pages, the index first.

    Layers that an earlier run has finished are left as they are. Raises InputError for an unknown layer, for a folder
    that holds something else, and for one that another run is writing to.
    """
    wanted = _check_layers(source, layers)
    open_folder(output, source.identity)
    with locked(output, "descriptions"):
        folder = open_folder(output, source.identity)
        _describe_layers(source, folder, wanted, say, progress)
        _link_pages(source, folder)
        return [
            output / INDEX,
            *(output / folder.pages[layer].file for layer in source.layers if layer in folder.pages),
        ]


def _describe_layers(
    source: Source,
    folder: DescriptionFolder,
    layers: Sequence[str],
    say: Callable[[str], None],
    progress: Progress,
) -> None:
    # Names are given out for all layers, so that they do not depend on which are described first.
    files = file_names(source.layers)
    units = folder.units()
    entries = {layer: _entry(folder, layer, [unit for unit in units if unit.layer == layer]) for layer in folder.pages}
    for number, layer in enumerate(layers):
        count = source.layers[layer]
        if layer in folder.pages:
            say(f"{layer}: is there already, {count:,} units")
            continue

        def drawn(layer: str = layer, number: int = number, count: int = count) -> Iterator[UnitDescription]:
            for done, unit in enumerate(draw_strips(source.describe(layer), count), start=1):
                yield unit
                progress(layer, (number + done / count) / len(layers))

        folder.add_layer(layer, files[layer], drawn(), list(source.layers))
        own = folder.units(layer)
        _write_page(source, folder, layer, own)
        folder.save()
        entries[layer] = _entry(folder, layer, own)
        _write_index(source, folder, entries)
        say(f"{layer}: {summary(own)}")
    _write_index(source, folder, entries)


def _link_pages(source: Source, folder: DescriptionFolder) -> None:
    """Link every page to its neighbours among those that are there, however many runs it took."""
    done = [layer for layer in source.layers if layer in folder.pages]
    files: list[str | None] = [None, *(folder.pages[layer].file for layer in done), None]
    for layer, before, file, after in zip(done, files, files[1:], files[2:], strict=False):
        assert file is not None
        page = Page(file, before, after)
        if page != folder.pages[layer] or not (folder.path / file).is_file():
            folder.pages[layer] = page
            _write_page(source, folder, layer, folder.units(layer))
    folder.save()


def file_names(layers: Mapping[str, Any] | Sequence[str]) -> dict[str, str]:
    """Name a file for each layer, of letters, digits, ".", "_" and "-" alone; no two differ by case alone."""
    taken, names = {INDEX}, {}
    for layer in layers:
        stem = re.sub(r"[^A-Za-z0-9._-]", "_", layer).lstrip(".")[:100] or "layer"
        name, k = f"{stem}.html", 2
        while name.lower() in taken:
            name, k = f"{stem}-{k}.html", k + 1
        taken.add(name.lower())
        names[layer] = name
    return names


def _entry(folder: DescriptionFolder, layer: str, units: Sequence[UnitDescription]) -> LayerEntry:
    return LayerEntry(layer, folder.pages[layer].file, units, folder.with_strips(clearest(units)))


def _write_page(source: Source, folder: DescriptionFolder, layer: str, units: Sequence[UnitDescription]) -> None:
    names = {page.file: name for name, page in folder.pages.items()}
    file, *beside = folder.pages[layer]
    before, after = (Link(other, names[other]) if other else None for other in beside)
    links = Link(INDEX, "All layers"), before, after
    _replace(folder.path / file, layer_page(layer, folder.with_strips(units), source.about, source.notes, links))


def _write_index(source: Source, folder: DescriptionFolder, entries: Mapping[str, LayerEntry]) -> None:
    finished = [entries[layer] for layer in source.layers if layer in entries]
    _replace(folder.path / INDEX, index_page(source.title, source.about, finished, source.notes))


def _check_layers(source: Source, layers: Sequence[str]) -> list[str]:
    """The layers to describe, in the order of the network."""
    from conceptry.models.explained.hooks import format_names

    for layer in layers:
        if layer not in source.layers:
            raise InputError(f"{source.title}: no layer {layer!r}; expected one of {format_names(list(source.layers))}")
    return [layer for layer in source.layers if not layers or layer in layers]


def _replace(path: Path, text: str) -> None:
    with replacing(path) as partial:
        html.write(text, partial)
