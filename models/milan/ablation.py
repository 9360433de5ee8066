"""Ablate units: what a network answers when some of its units are silent.

| symbol | meaning | shape |
|---|---|---|
| h | output of a layer: maps, tokens or features | (n, units, h, w), (n, T, units) or (n, units) |
| S | the units to silence | |
| h' | what the following layers read: 0 where the unit is in S, else h | as h |

Of tokens the unit is silenced in all, that of the class included: the exemplars leave that one out, what follows
reads it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.explained.hooks import find_layer, forward_hooks
from conceptry.models.explained.protocol import PixelModel

Unit = tuple[str, int]  # a layer and the number of a unit in it

_AXES = {4: 1, 3: 2, 2: 1}  # dimensions of h -> the axis of the units


@contextmanager
def ablated(module: nn.Module, units: Mapping[str, Sequence[int]], name: str = "model") -> Iterator[None]:
    """Set the outputs of `units` (layer -> numbers) to 0 in the block, in the thread that opened it.

    Afterwards the module is as it was found, whatever happened. Ablations nest: the units of both are silent.

    Raises InputError for unknown layers, at once; in a forward pass for a unit that the layer does not have, and for a
    layer that does not put out one tensor of units. A layer that is not run is not noticed.
    """
    parts = {layer: find_layer(module, layer, name) for layer, numbers in units.items() if len(numbers)}
    indices = {layer: torch.as_tensor(np.asarray(units[layer], dtype=np.int64)) for layer in parts}

    def silence(layer: str, _inputs: Any, output: Any) -> Tensor:
        _check(output, layer, indices[layer], name)
        return output.index_fill(_AXES[output.ndim], indices[layer].to(output.device), 0.0)

    with forward_hooks(module, parts, silence):
        yield


def by_layer(units: Sequence[Unit]) -> dict[str, list[int]]:
    """Units as a mapping from layers to their numbers, in the order given."""
    grouped: dict[str, list[int]] = {}
    for layer, unit in units:
        grouped.setdefault(layer, []).append(unit)
    return grouped


@dataclass(frozen=True)
class LabelledImages:
    """Pictures as a network reads them, (n, C, H, W), and the positions (n,) of their classes among its outputs."""

    pixels: Tensor
    labels: np.ndarray


def accuracy(model: PixelModel, data: LabelledImages, units: Sequence[Unit] = (), batch_size: int = 32) -> float:
    """The share of pictures whose class has the largest output, with `units` ablated.

    The class of a network with one output is 1 where the output is above 0, or above one half of a probability.
    """
    if not len(data.labels):
        raise InputError("accuracy is that of one picture or more, got none")
    right = 0
    with ablated(model.module, by_layer(units), model.name), torch.inference_mode():
        for start in range(0, len(data.labels), batch_size):
            outputs = model.from_pixels(data.pixels[start : start + batch_size])
            if outputs.shape[1] == 1:
                named = (outputs[:, 0] > (0.5 if model.form == "probabilities" else 0.0)).long()
            else:
                named = outputs.argmax(dim=1)
            right += int((named.cpu().numpy() == data.labels[start : start + batch_size]).sum())
    return right / len(data.labels)


def accuracy_under_ablation(
    model: PixelModel,
    data: LabelledImages,
    order: Sequence[Unit],
    counts: Sequence[int],
    batch_size: int = 32,
    on_count: Callable[[int], None] | None = None,
) -> np.ndarray:
    """float64 (len(counts),): the accuracy with the first `count` units of `order` ablated, for each of `counts`.

    on_count: called with each count when it is done. Raises InputError for a unit that is there twice, and for a count
    below 0 or beyond the order.
    """
    if len(set(order)) != len(order):
        twice = next(unit for unit in order if order.count(unit) > 1)
        raise InputError(f"unit {twice[1]} of layer {twice[0]} is in the order twice")
    if wrong := [count for count in counts if not 0 <= count <= len(order)]:
        raise InputError(f"counts must lie between 0 and the {len(order)} units of the order, got {wrong[0]}")
    found = np.zeros(len(counts))
    for position, count in enumerate(counts):
        found[position] = accuracy(model, data, order[:count], batch_size)
        if on_count:
            on_count(count)
    return found


def random_like(units: Sequence[Unit], known: Mapping[str, Sequence[int]], rng: np.random.Generator) -> list[Unit]:
    """Draw as many units of the same layers, in the same order of layers, each from all units `known` of its layer."""
    drawn = {layer: iter(rng.permutation(np.asarray(known[layer])).tolist()) for layer in by_layer(units)}
    return [(layer, int(next(drawn[layer]))) for layer, _ in units]


def _check(output: Any, layer: str, units: Tensor, name: str) -> None:
    where = f"{name}: layer {layer!r}"
    if not isinstance(output, Tensor) or output.ndim not in _AXES or not output.is_floating_point():
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(
            f"{where} must put out maps (n, units, h, w), tokens (n, T, units) or features (n, units) to have units "
            f"ablated, got {got}"
        )
    n_units = output.shape[_AXES[output.ndim]]
    if wrong := [unit for unit in units.tolist() if not 0 <= unit < n_units]:
        raise InputError(f"{where} has the units 0 to {n_units - 1}, there is no unit {wrong[0]}")
