"""The pictures that drive the units of a network most, and where in them: exemplars, in two passes over the data.

Hernandez et al., "Natural Language Descriptions of Deep Visual Features", ICLR 2022, section 3.

| symbol | meaning |
|---|---|
| a_u(x) | activation map of unit u on picture x, (h, w) |
| E_u | the k pictures of largest max a_u(x); of equal ones the first |
| level_u | quantile of a_u over all positions of all pictures, see `quantiles` |
| mask | a_u(x), enlarged to the picture (see `masks`), above level_u |

Pass 1 finds E_u and level_u of all units of all layers, and keeps a_u(x) of the pictures in E_u so far; pass 2 reads
the pictures in any E_u once more, and runs the network on them only where their maps were not kept (see `kept_maps`).
What is held does not grow with the number of pictures.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.folders import locked
from conceptry.models.milan.chosen import Chosen
from conceptry.models.milan.exemplar_settings import ExemplarSettings
from conceptry.models.milan.feeding import Feed
from conceptry.models.milan.files import read_layer, write_tables
from conceptry.models.milan.hiddens import Hiddens, listening
from conceptry.models.milan.passes import Progress, first_pass, second_pass
from conceptry.models.milan.records import LayerExemplars
from conceptry.models.milan.results import InMemory
from conceptry.models.milan.sources import Source
from conceptry.models.milan.state import finished_layers, forget, run_record, unfinished


def compute_exemplars(
    model: Any,
    data: Source,
    layers: Sequence[str],
    directory: Path | None = None,
    settings: ExemplarSettings | None = None,
    *,
    units: Mapping[str, Sequence[int]] | None = None,
    transform_inputs: Callable[..., Any] | None = None,
    transform_hiddens: Callable[[Any], Tensor] | None = None,
    transform_outputs: Callable[[Any], Tensor] | None = None,
    device: str | torch.device | None = None,
    name: str = "model",
    progress: Progress | None = None,
    resume: bool = True,
) -> dict[str, LayerExemplars]:
    """The exemplars of the units of `layers`, by layer.

    model: a torch module, or a `PixelModel`, of which `load_network` knows many. A module takes pictures as float
    (n, 3, H, W) in [0, 1], or the items of its data. It is used in evaluation mode and left as it was found.
    data: where the pictures come from; see `sources`. Their numbers are the ids of exemplars. An item must be the same
    each time that it is read: no random crops.
    directory: the folder that a folder for each layer is written into, see `files` and `results_directory`; the
    result then reads from there. A run that was killed goes on where it was, to the same bytes; layers that are there
    already are not computed again. None keeps everything in memory.
    units: the units of a layer that are wanted; by default all.
    transform_inputs: the parts of a batch of items, or the pictures, to the argument of the network, a tuple for
    several. transform_hiddens: what a layer puts out to (n, units, h, w); the default is `default_hiddens`.
    transform_outputs: what the network puts out to the pictures that are delivered, (n, 3, H, W) of uint8 or in [0, 1],
    where these are not the inputs.
    device: where the network is expected to be. name: of the network, for sentences and the record.
    progress: told what is being done and the share that is. resume: False starts over what `directory` holds.

    Raises InputError for what is asked wrongly, and for activations that are NaN or infinite.
    """
    settings = settings or ExemplarSettings()
    layers = tuple(layers)
    asked = _checked_units(units or {}, layers, name)
    if not len(data):
        raise InputError(f"{data.name}: holds nothing")
    if settings.k > len(data):
        raise InputError(f"k is {settings.k}, but {data.name} holds {len(data)} pictures; ask for fewer")
    feed = Feed(model, data, name, transform_inputs, transform_outputs, device)
    tell = progress or (lambda _what, _share: None)
    with listening(feed.module, layers, name, transform_hiddens) as hiddens:
        if directory is None:
            chosen = first_pass(feed, hiddens, settings, asked, None, tell)
            results = second_pass(feed, hiddens, settings, chosen, None, tell)
            return {layer: _record(layer, chosen[layer], results[layer]) for layer in layers}
        wanted = {layer: asked.get(layer) for layer in layers}
        hooks = (transform_inputs, transform_hiddens, transform_outputs)
        record = run_record(name, feed.module, data, wanted, settings, hooks)
        with locked(Path(directory), "exemplars"):
            _write(Path(directory), feed, hiddens, settings, record, resume, tell)
    return {layer: read_layer(Path(directory), layer) for layer in layers}


def _write(
    directory: Path,
    feed: Feed,
    hiddens: Hiddens,
    settings: ExemplarSettings,
    record: dict[str, Any],
    resume: bool,
    tell: Progress,
) -> None:
    """Compute the layers of `record` that `directory` does not hold, into it."""
    if not resume:
        forget(directory)
    there = finished_layers(directory, record)
    layers = {layer: units for layer, units in record["layers"].items() if layer not in there}
    if not layers:
        return
    hiddens.listen_to(tuple(layers))
    record = record | {"layers": layers}
    state = unfinished(directory, record)
    asked = {layer: units for layer, units in layers.items() if units is not None}
    chosen = first_pass(feed, hiddens, settings, asked, state, tell)
    second_pass(feed, hiddens, settings, chosen, state, tell)
    for layer, known in chosen.items():
        if (state.folder / layer).is_dir():
            write_tables(state.folder / layer, known.units, known.top.ids, known.top.values, known.levels)
    state.finish(record)


def _record(layer: str, chosen: Chosen, result: Any) -> LayerExemplars:
    assert isinstance(result, InMemory)
    top = chosen.top
    return LayerExemplars(layer, chosen.units, result.images, result.masks, top.ids, top.values, chosen.levels)


def _checked_units(units: Mapping[str, Sequence[int]], layers: Sequence[str], name: str) -> dict[str, list[int]]:
    checked = {layer: [int(unit) for unit in numbers] for layer, numbers in units.items()}
    for layer, numbers in checked.items():
        if layer not in layers:
            raise InputError(f"{name}: units are asked for of layer {layer!r}, which is not among the layers")
        if not numbers or len(set(numbers)) != len(numbers):
            raise InputError(f"{name}: expected one or more units of layer {layer!r}, each once, got {numbers}")
    return checked
