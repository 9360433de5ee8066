"""The pictures that drive the units of a network most, and where in them: exemplars in two passes over the data.

Hernandez et al., "Natural Language Descriptions of Deep Visual Features", ICLR 2022, section 3.

| symbol | meaning |
|---|---|
| a_u(x) | activation map of unit u on picture x, (h, w) |
| E_u | the k pictures of largest max a_u(x); of equal ones the first |
| level_u | quantile of a_u over all positions of all pictures, see `quantiles` |
| mask | a_u(x), enlarged to the picture (see `masks`), above level_u |

Pass 1 finds E_u and level_u of all units of all layers; pass 2 runs over the pictures in any E_u alone. What is held
does not grow with the number of pictures.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.milan.exemplar_settings import ExemplarSettings
from conceptry.models.milan.feeding import Feed
from conceptry.models.milan.files import write_layer
from conceptry.models.milan.hiddens import ChangedInPlace, Hiddens, listening
from conceptry.models.milan.masks import masks_of
from conceptry.models.milan.quantiles import NotFiniteError, Sketch, empty_sketch
from conceptry.models.milan.records import LayerExemplars
from conceptry.models.milan.sources import Source
from conceptry.models.milan.top_images import TopImages, no_images

Progress = Callable[[str, float], None]


@dataclass
class _Layer:
    units: np.ndarray
    sketch: Sketch
    top: TopImages
    all_units: bool

    def chosen(self, hidden: Tensor) -> Tensor:
        return hidden if self.all_units else hidden[:, torch.from_numpy(self.units).to(hidden.device)]


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
    """The exemplars of the units of `layers`, by layer."""
    settings = settings or ExemplarSettings()
    if settings.k > len(data):
        raise InputError(f"k is {settings.k}, but {data.name} holds {len(data)} pictures; ask for fewer")
    feed = Feed(model, data, name, transform_inputs, transform_outputs, device)
    tell = progress or (lambda _what, _share: None)
    with listening(feed.module, layers, name, transform_hiddens) as hiddens:
        state = _first_pass(feed, hiddens, settings, units or {}, tell)
        found = _second_pass(feed, hiddens, settings, state, tell)
    if directory is not None:
        for exemplars in found.values():
            write_layer(Path(directory), exemplars)
    return found


def _forward(feed: Feed, hiddens: Hiddens, batch: Any, n: int) -> tuple[Any, dict[str, Tensor]]:
    while True:
        output = feed.run(batch)
        try:
            return output, {layer: hiddens.take(layer, n) for layer in hiddens.layers}
        except ChangedInPlace:
            continue


def _first_pass(
    feed: Feed, hiddens: Hiddens, settings: ExemplarSettings, units: Mapping[str, Sequence[int]], tell: Progress
) -> dict[str, _Layer]:
    state: dict[str, _Layer] = {}
    done = 0
    for numbers, batch in feed.batches(np.arange(len(feed.source)), settings.batch_size):
        _, maps = _forward(feed, hiddens, batch, len(numbers))
        for layer, hidden in maps.items():
            if layer not in state:
                count = hidden.shape[1]
                chosen = np.asarray(units.get(layer, range(count)), np.int64)
                if not len(chosen) or chosen.min() < 0 or chosen.max() >= count:
                    raise InputError(f"{feed.name}: layer {layer!r} has units 0 to {count - 1}, got {chosen.tolist()}")
                state[layer] = _Layer(
                    chosen, empty_sketch(len(chosen)), no_images(len(chosen), settings.k), layer not in units
                )
            known = state[layer]
            try:
                best = known.sketch.add(known.chosen(hidden))
            except NotFiniteError as error:
                raise InputError(
                    f"{feed.name}: layer {layer!r} gives NaN or infinite activations for picture "
                    f"{numbers[error.picture]} of {feed.source.name}"
                ) from None
            known.top.add(best, int(numbers[0]))
        done += len(numbers)
        tell("activations", 0.5 * done / len(feed.source))
    return state


def _second_pass(
    feed: Feed, hiddens: Hiddens, settings: ExemplarSettings, state: dict[str, _Layer], tell: Progress
) -> dict[str, LayerExemplars]:
    needed = np.unique(np.concatenate([known.top.ids.ravel() for known in state.values()]))
    levels = {layer: known.sketch.levels(settings.quantile, known.top.values[:, 0]) for layer, known in state.items()}
    found: dict[str, LayerExemplars] = {}
    order = {layer: np.argsort(known.top.ids, axis=None, kind="stable") for layer, known in state.items()}
    done = 0
    for numbers, batch in feed.batches(needed, settings.batch_size):
        output, maps = _forward(feed, hiddens, batch, len(numbers))
        pictures = feed.pictures(batch, output)
        size = settings.size or tuple(pictures.shape[2:])
        if tuple(pictures.shape[2:]) != size:
            pictures = torch.nn.functional.interpolate(pictures, size=size, mode="nearest")
        for layer, known in state.items():
            if layer not in found:
                u, k = known.top.ids.shape
                found[layer] = LayerExemplars(
                    layer,
                    known.units,
                    np.zeros((u, k, 3, *size), np.uint8),
                    np.zeros((u, k, 1, *size), np.uint8),
                    known.top.ids,
                    known.top.values,
                    levels[layer],
                )
            flat = known.top.ids.ravel()[order[layer]]
            first, last = np.searchsorted(flat, (numbers[0], numbers[-1] + 1))
            places = order[layer][first:last]
            rows = np.searchsorted(numbers, flat[first:last])
            which = places // settings.k
            hidden = known.chosen(maps[layer])
            picked = hidden[torch.from_numpy(rows).to(hidden.device), torch.from_numpy(which).to(hidden.device)]
            masks = masks_of(picked.float().cpu().numpy(), levels[layer][which], size)
            result = found[layer]
            result.masks.reshape(-1, *size)[places] = masks
            result.images.reshape(-1, 3, *size)[places] = pictures.numpy()[rows]
        done += len(numbers)
        tell("masks", 0.5 + 0.5 * done / len(needed))
    return found
