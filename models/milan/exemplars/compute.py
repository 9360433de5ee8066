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

The two passes over the data: which pictures and which levels, then the pictures and where in them.

What a pass has done is a whole number of batches, so that one that goes on cuts the rest into the same batches.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.folders import locked
from conceptry.models.milan.exemplars.activations import Hiddens, listening
from conceptry.models.milan.exemplars.checkpoint import Unfinished, finished_layers, forget, run_record, unfinished
from conceptry.models.milan.exemplars.first_pass import (
    Chosen,
    arrays_of,
    keep,
    kept,
    maps_at,
    nothing_chosen,
    restored,
    start,
)
from conceptry.models.milan.exemplars.inputs import Feed
from conceptry.models.milan.exemplars.masks import masks_of
from conceptry.models.milan.exemplars.quantiles import NotFiniteError
from conceptry.models.milan.exemplars.records import LayerExemplars, read_layer, write_tables
from conceptry.models.milan.exemplars.sources import Source
from conceptry.models.milan.exemplars.writers import InMemory, OnDisk
from conceptry.models.milan.settings import ExemplarSettings

Progress = Callable[[str, float], None]
CHECKPOINT_SECONDS = 30.0


class Clock:
    """Says when it is time to save."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def due(self) -> bool:
        if time.monotonic() - self._last < CHECKPOINT_SECONDS:
            return False
        self._last = time.monotonic()
        return True


def first_pass(
    feed: Feed,
    hiddens: Hiddens,
    settings: ExemplarSettings,
    units: Mapping[str, Sequence[int]],
    state: Unfinished | None,
    tell: Progress,
) -> dict[str, Chosen]:
    """The best pictures and the level of each unit, by layer."""
    total = len(feed.source)
    done, chosen = restored(state, hiddens.layers)
    clock = Clock()
    for numbers, batch in feed.batches(np.arange(done, total), feed.batch_size(settings.batch_size)):
        look = partial(_count, feed, hiddens, settings, units, chosen, numbers)
        hiddens.run(partial(feed.run, batch), whole=False, look=look)
        done += len(numbers)
        if state and done < total and clock.due():
            state.save_first(arrays_of(done, chosen, hiddens.layers))
        tell("activations", 0.5 * done / total)
    for known in chosen.values():
        if known.sketch is not None:
            known.levels = known.sketch.levels(settings.quantile, known.top.values[:, 0])
            known.sketch = None
    if state:
        state.save_first(arrays_of(done, chosen, hiddens.layers))
    return chosen


def _count(
    feed: Feed,
    hiddens: Hiddens,
    settings: ExemplarSettings,
    units: Mapping[str, Sequence[int]],
    chosen: dict[str, Chosen],
    numbers: np.ndarray,
    layer: str,
) -> None:
    """Take in what a layer puts out for the pictures of these numbers."""
    hidden, first = hiddens.take(layer, len(numbers)), int(numbers[0])
    if layer not in chosen:
        chosen[layer] = nothing_chosen(feed.name, layer, hidden.shape[1], units.get(layer), settings.k)
        if not feed.delivers_outputs:  # else the network runs again, and masks shall fit what it then puts out
            start(chosen, layer, (hidden.shape[2], hidden.shape[3]))
    known = chosen[layer]
    if known.all_units and hidden.shape[1] != len(known.units):
        raise InputError(
            f"{feed.name}: layer {layer!r} has {hidden.shape[1]} units for picture {first} of "
            f"{feed.source.name}, {len(known.units)} before"
        )
    assert known.sketch is not None
    maps = known.of(hidden)
    try:
        best = known.sketch.add(maps)
    except NotFiniteError as error:
        raise InputError(
            f"{feed.name}: layer {layer!r} gives NaN or infinite activations for picture "
            f"{numbers[error.picture]} of {feed.source.name}"
        ) from None
    known.top.add(best, first)
    keep(chosen, layer, maps, first)


def second_pass(
    feed: Feed,
    hiddens: Hiddens,
    settings: ExemplarSettings,
    chosen: Mapping[str, Chosen],
    state: Unfinished | None,
    tell: Progress,
) -> dict[str, InMemory | OnDisk]:
    """The pictures and masks, by layer; only the chosen pictures are looked at. Files are closed at the end."""
    with ExitStack() as files:
        return _second_pass(feed, hiddens, settings, chosen, state, tell, files)


def _second_pass(
    feed: Feed,
    hiddens: Hiddens,
    settings: ExemplarSettings,
    chosen: Mapping[str, Chosen],
    state: Unfinished | None,
    tell: Progress,
    files: ExitStack,
) -> dict[str, InMemory | OnDisk]:
    needed = np.unique(np.concatenate([known.top.ids.ravel() for known in chosen.values()]))
    places = {layer: Places(known.top.ids) for layer, known in chosen.items()}
    have_maps = all(known.maps is not None for known in chosen.values())
    results: dict[str, InMemory | OnDisk] = {}
    done, clock = state.load_second() if state else 0, Clock()
    for numbers, batch in feed.batches(needed[done:], feed.batch_size(settings.batch_size)):
        found = {layer: of_layer.of(numbers) for layer, of_layer in places.items()}
        maps: dict[str, np.ndarray] = {}

        def look(layer: str, found: Any = found, maps: dict[str, np.ndarray] = maps, n: int = len(numbers)) -> None:
            here, rows = found[layer]
            maps[layer] = maps_at(chosen[layer].of(hiddens.take(layer, n)), rows, here // settings.k)

        output = None if have_maps else hiddens.run(partial(feed.run, batch), feed.delivers_outputs, look)
        pictures, size = _sized(feed.pictures(batch, output), settings)
        for layer, known in chosen.items():
            here, rows = found[layer]
            assert known.levels is not None
            if layer not in results:
                u, k = known.top.ids.shape
                if state:
                    results[layer] = files.enter_context(closing(OnDisk(state.folder / layer, u, k, size)))
                else:
                    results[layer] = InMemory(u, k, size)
            active = kept(known, here) if have_maps else maps[layer]
            masks = masks_of(active, known.levels[here // settings.k], size)
            results[layer].put(here, rows, pictures, masks)
        done += len(numbers)
        if state and clock.due():
            for result in results.values():
                result.settle()
            state.save_second(done)
        tell("masks", 0.5 + 0.5 * done / len(needed))
    if state:
        for result in results.values():
            result.settle()
        state.save_second(done)
    return results


class Places:
    """The places of a layer's exemplars, rows of ids (U k), found by the numbers of pictures."""

    def __init__(self, ids: np.ndarray) -> None:
        self._places = np.argsort(ids, axis=None, kind="stable")
        self._ids = ids.ravel()[self._places]

    def of(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The places of pictures (n,), ascending, that follow each other in the ids; and the row of n of each."""
        begin, end = np.searchsorted(self._ids, (numbers[0], numbers[-1] + 1))
        return self._places[begin:end], np.searchsorted(numbers, self._ids[begin:end])


def _sized(pictures: Tensor, settings: ExemplarSettings) -> tuple[np.ndarray, tuple[int, int]]:
    height, width = settings.size or pictures.shape[2:]
    if tuple(pictures.shape[2:]) != (height, width):
        pictures = torch.nn.functional.interpolate(pictures, size=(height, width), mode="nearest")
    return pictures.contiguous().numpy(), (height, width)


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
