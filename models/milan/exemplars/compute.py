"""The images that drive the units of a network most, and where in them: exemplars, in two passes over the data.

Hernandez et al., "Natural Language Descriptions of Deep Visual Features", ICLR 2022, section 3.

| symbol | meaning |
|---|---|
| a_u(x) | activation map of unit u on image x, (h, w) |
| E_u | the k images of largest max a_u(x); of equal ones the first |
| level_u | quantile of a_u over all positions of all images, see `quantiles` |
| mask | a_u(x), enlarged to the image (see `masks`), above level_u |

Pass 1 finds E_u and level_u of all units of all layers, and keeps a_u(x) of the images in E_u so far (`first_pass`);
pass 2 reads the images in any E_u once more, and runs the network on them only where their maps were not kept. What is
held does not grow with the number of images. A checkpoint is written after a whole number of batches, so that a run
that is continued cuts the rest into the same batches.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.folders import locked
from conceptry.models.method import Progress
from conceptry.models.milan.exemplars.activations import ActivationRecorder, record_activations
from conceptry.models.milan.exemplars.checkpoint import Checkpoint, finished_layers, forget, open_checkpoint, run_record
from conceptry.models.milan.exemplars.first_pass import FirstPass, LayerState, take_maps
from conceptry.models.milan.exemplars.inputs import Feed
from conceptry.models.milan.exemplars.masks import masks_of
from conceptry.models.milan.exemplars.quantiles import NotFiniteError
from conceptry.models.milan.exemplars.records import LayerExemplars, read_layer, write_tables
from conceptry.models.milan.exemplars.sources import Source
from conceptry.models.milan.exemplars.writers import InMemory, OnDisk
from conceptry.models.milan.settings import ExemplarSettings

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


class _Places:
    """The places of a layer's exemplars, rows of ids (U k), found by the numbers of images."""

    def __init__(self, ids: np.ndarray) -> None:
        self._places = np.argsort(ids, axis=None, kind="stable")
        self._ids = ids.ravel()[self._places]

    def of(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The places of images (n,), ascending, that follow each other in the ids; and the row of n of each."""
        begin, end = np.searchsorted(self._ids, (numbers[0], numbers[-1] + 1))
        return self._places[begin:end], np.searchsorted(numbers, self._ids[begin:end])


def _resize(images: Tensor, settings: ExemplarSettings) -> tuple[np.ndarray, tuple[int, int]]:
    height, width = settings.size or images.shape[2:]
    if tuple(images.shape[2:]) != (height, width):
        images = torch.nn.functional.interpolate(images, size=(height, width), mode="nearest")
    return images.contiguous().numpy(), (height, width)


@dataclass(frozen=True)
class _Run:
    """Both passes of one network over one source. state: where to save what is done; None saves nothing."""

    feed: Feed
    recorder: ActivationRecorder
    settings: ExemplarSettings
    state: Checkpoint | None
    tell: Progress

    def first_pass(self, units: Mapping[str, Sequence[int]]) -> FirstPass:
        """Find the top images and the levels of `units`, all of a layer that is not named, by layer."""
        state, total, clock = self.state, len(self.feed.source), Clock()
        found = FirstPass.from_arrays(state.load_first() if state else {}, self.recorder.layers)
        for numbers, batch in self._batches(np.arange(found.done, total)):
            on_layer = partial(self._count, found, numbers, units)
            self.recorder.run(partial(self.feed.run, batch), on_layer=on_layer, stop_early=True)
            found.done += len(numbers)
            if state and found.done < total and clock.due():
                state.save_first(found.to_arrays())
            self.tell("activations", 0.5 * found.done / total)
        found.finish(self.settings.quantile)
        if state:
            state.save_first(found.to_arrays())
        return found

    def _batches(self, numbers: np.ndarray) -> Iterator[tuple[np.ndarray, Any]]:
        return self.feed.batches(numbers, self.feed.batch_size(self.settings.batch_size))

    def _count(self, found: FirstPass, numbers: np.ndarray, units: Mapping[str, Sequence[int]], layer: str) -> None:
        """Add to `found` the output of a layer for the images of these numbers."""
        feed = self.feed
        hidden, first_image = self.recorder.take(layer, len(numbers)), int(numbers[0])
        if layer not in found:
            try:
                found.add_layer(layer, hidden.shape[1], units.get(layer), self.settings.k)
            except InputError as error:
                raise InputError(f"{feed.name}: {error}") from None
            if not feed.delivers_outputs:  # else the network runs again, and masks shall fit what it then puts out
                found.reserve_maps(layer, (hidden.shape[2], hidden.shape[3]))
        known = found[layer]
        if known.all_units and hidden.shape[1] != len(known.units):
            raise InputError(
                f"{feed.name}: layer {layer!r} has {hidden.shape[1]} units for picture {first_image} of "
                f"{feed.source.name}, {len(known.units)} before"
            )
        try:
            found.update(layer, known.select(hidden), first_image)
        except NotFiniteError as error:
            raise InputError(
                f"{feed.name}: layer {layer!r} gives NaN or infinite activations for picture "
                f"{numbers[error.image]} of {feed.source.name}"
            ) from None

    def second_pass(self, found: FirstPass) -> dict[str, InMemory | OnDisk]:
        """Read the top images once more and compute their masks, by layer. Files are closed at the end."""
        with ExitStack() as files:
            return self._write(found, files)

    def _write(self, found: FirstPass, files: ExitStack) -> dict[str, InMemory | OnDisk]:
        state, k = self.state, self.settings.k
        needed = np.unique(np.concatenate([known.top.ids.ravel() for known in found.values()]))
        places = {layer: _Places(known.top.ids) for layer, known in found.items()}
        results: dict[str, InMemory | OnDisk] = {}
        done, clock = state.load_second() if state else 0, Clock()
        for numbers, batch in self._batches(needed[done:]):
            in_batch = {layer: of_layer.of(numbers) for layer, of_layer in places.items()}
            output, maps = (None, {}) if found.has_maps else self._run_again(found, batch, in_batch, len(numbers))
            images, size = _resize(self.feed.images(batch, output), self.settings)
            for layer, known in found.items():
                here, rows = in_batch[layer]
                assert known.levels is not None
                if layer not in results:
                    u = len(known.units)
                    if state:
                        results[layer] = files.enter_context(closing(OnDisk(state.folder / layer, u, k, size)))
                    else:
                        results[layer] = InMemory(u, k, size)
                active = maps[layer] if maps else known.maps_at(here)
                results[layer].put(here, rows, images, masks_of(active, known.levels[here // k], size))
            done += len(numbers)
            if state and clock.due():
                self._settle(results, done)
            self.tell("masks", 0.5 + 0.5 * done / len(needed))
        if state:
            self._settle(results, done)
        return results

    def _run_again(
        self, found: FirstPass, batch: Any, in_batch: Mapping[str, tuple[np.ndarray, np.ndarray]], n: int
    ) -> tuple[Any, dict[str, np.ndarray]]:
        """Run the network on a batch of n images: its output, and the maps at the places in the batch, by layer."""
        maps: dict[str, np.ndarray] = {}

        def on_layer(layer: str) -> None:
            places, rows = in_batch[layer]
            hidden = found[layer].select(self.recorder.take(layer, n))
            maps[layer] = take_maps(hidden, rows, places // self.settings.k)

        forward, stop_early = partial(self.feed.run, batch), not self.feed.delivers_outputs
        return self.recorder.run(forward, on_layer=on_layer, stop_early=stop_early), maps

    def _settle(self, results: Mapping[str, InMemory | OnDisk], done: int) -> None:
        """Save that the first `done` images are in the results."""
        assert self.state is not None
        for result in results.values():
            result.settle()
        self.state.save_second(done)


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
    """Compute the exemplars of the units of `layers`, by layer.

    Args:
        model: a torch module, or a `PixelModel`, of which `load_network` knows many. A module takes images as float
            (n, 3, H, W) in [0, 1], or the items of its data. It is used in evaluation mode and left as it was found.
        data: where the images come from; see `sources`. Their numbers are the ids of exemplars. An item must be the
            same each time that it is read: no random crops.
        layers: dotted names of submodules.
        directory: the folder that a folder for each layer is written into, see `records`; the result then reads from
            there. A run that was killed goes on where it was, to the same bytes; layers that are there already are not
            computed again. None keeps everything in memory.
        settings: how many exemplars, which level, which size.
        units: the units of a layer that are wanted; by default all.
        transform_inputs: the parts of a batch of items, or the images, to the argument of the network, a tuple for
            several.
        transform_hiddens: what a layer puts out to (n, units, h, w); the default is `default_hiddens`.
        transform_outputs: what the network puts out to the images that are delivered, (n, 3, H, W) of uint8 or in
            [0, 1], where these are not the inputs.
        device: where the network is expected to be.
        name: the network's, for sentences and the record.
        progress: told what is being done and the share that is.
        resume: False starts over what `directory` holds.

    Returns:
        Exemplars by layer, in the order of `layers`.

    Raises:
        InputError: for what is asked wrongly, and for activations that are NaN or infinite.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from conceptry.models.milan import ArraySource, ExemplarSettings, compute_exemplars
        >>> images = np.stack([np.full((8, 8, 3), 10 * i, np.uint8) for i in range(20)])
        >>> brightness = torch.nn.Sequential(torch.nn.AvgPool2d(4))
        >>> found = compute_exemplars(brightness, ArraySource("greys", images), ["0"], settings=ExemplarSettings(k=3))
        >>> found["0"].ids[0].tolist()
        [19, 18, 17]
    """
    settings = settings or ExemplarSettings()
    layers = (layers,) if isinstance(layers, str) else tuple(layers)
    asked = _checked_units(units or {}, layers, name)
    if not len(data):
        raise InputError(f"{data.name}: holds nothing")
    if settings.k > len(data):
        raise InputError(f"k is {settings.k}, but {data.name} holds {len(data)} pictures; ask for fewer")
    feed = Feed(model, data, name, transform_inputs, transform_outputs, device)
    tell = progress or (lambda _what, _share: None)
    with record_activations(feed.module, layers, name, transform_hiddens, settings.channels) as recorder:
        if directory is None:
            run = _Run(feed, recorder, settings, None, tell)
            found = run.first_pass(asked)
            results = run.second_pass(found)
            return {layer: _record(layer, found[layer], results[layer]) for layer in layers}
        wanted = {layer: asked.get(layer) for layer in layers}
        hooks = (transform_inputs, transform_hiddens, transform_outputs)
        record = run_record(name, model, data, wanted, settings, hooks)
        with locked(Path(directory), "exemplars"):
            _write(Path(directory), feed, recorder, settings, record, resume, tell)
    return {layer: read_layer(Path(directory), layer) for layer in layers}


def _write(
    directory: Path,
    feed: Feed,
    recorder: ActivationRecorder,
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
    recorder.restrict_to(tuple(layers))
    record = record | {"layers": layers}
    state = open_checkpoint(directory, record)
    asked = {layer: units for layer, units in layers.items() if units is not None}
    run = _Run(feed, recorder, settings, state, tell)
    found = run.first_pass(asked)
    run.second_pass(found)
    for layer, known in found.items():
        if (state.folder / layer).is_dir():
            write_tables(state.folder / layer, known.units, known.top.ids, known.top.values, known.levels)
    state.finish(record)


def _record(layer: str, known: LayerState, result: Any) -> LayerExemplars:
    assert isinstance(result, InMemory)
    top = known.top
    return LayerExemplars(layer, known.units, result.images, result.masks, top.ids, top.values, known.levels)


def _checked_units(units: Mapping[str, Sequence[int]], layers: Sequence[str], name: str) -> dict[str, list[int]]:
    checked = {layer: [int(unit) for unit in numbers] for layer, numbers in units.items()}
    for layer, numbers in checked.items():
        if layer not in layers:
            raise InputError(f"{name}: units are asked for of layer {layer!r}, which is not among the layers")
        if not numbers or len(set(numbers)) != len(numbers):
            raise InputError(f"{name}: expected one or more units of layer {layer!r}, each once, got {numbers}")
    return checked
