"""The two passes over the data: which pictures and which levels, then the pictures and where in them.

What a pass has done is a whole number of batches, so that one that goes on cuts the rest into the same batches.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.milan.chosen import Chosen, arrays_of, nothing_chosen, restored
from conceptry.models.milan.exemplar_settings import ExemplarSettings
from conceptry.models.milan.feeding import Feed
from conceptry.models.milan.hiddens import Hiddens
from conceptry.models.milan.kept_maps import keep, kept, maps_at, start
from conceptry.models.milan.masks import masks_of
from conceptry.models.milan.quantiles import NotFiniteError
from conceptry.models.milan.results import InMemory, OnDisk
from conceptry.models.milan.state import Unfinished

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
