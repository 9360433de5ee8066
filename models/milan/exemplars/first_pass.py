"""What the first pass over the data has found so far, by layer; saved in checkpoints and restored from them.

| symbol | meaning | shape |
|---|---|---|
| U, k | units of a layer, images kept of each | |
| values | the largest activations so far, descending; -inf where fewer than k images have come | (U, k) |
| ids | numbers of their images, of equal activations the lower first; -1 where there is none | (U, k) |
| slots | where the map of an image is kept, among k; it stays while the image moves in its row | (U, k) |
| maps | activation maps of these images, by unit and slot | (U, k, h, w) |
| sketch | distribution of the activations, see `quantiles`; `levels` (U,) when the pass is over | |

With the maps the second pass need not run the network. They take 4 U k h w bytes of each layer. Either all layers keep
theirs or none does, as the network has to run again for the first one that does not. None does where they would take
more than BUDGET, and where maps differ in size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.milan.exemplars._kernels import keep_largest
from conceptry.models.milan.exemplars.quantiles import Sketch, sketch_from_state

BUDGET = 2**28  # bytes, of all layers together


@dataclass
class TopImages:
    """The k images on which each unit is most active; they do not depend on the order or size of batches.

    values: float32 (U, k). ids: int64 (U, k). slots: int64 (U, k), in each row 0 to k - 1.
    """

    values: np.ndarray
    ids: np.ndarray
    slots: np.ndarray

    @classmethod
    def empty(cls, units: int, k: int) -> "TopImages":
        """No image yet."""
        slots = np.tile(np.arange(k), (units, 1))
        return cls(np.full((units, k), -np.inf, np.float32), np.full((units, k), -1, np.int64), slots)

    def update(self, best: np.ndarray, first_image: int) -> None:
        """Insert best (n, U): the largest activations on the images first_image, first_image + 1, ..., each once."""
        keep_largest(np.ascontiguousarray(best, np.float32), first_image, self.values, self.ids, self.slots)


@dataclass
class LayerState:
    """What is known of one layer.

    units: int64 (U,), all of the layer's where `all_units`. sketch: None when the pass is over and levels, float32
    (U,), are known. maps: float32 (U, k, h, w), None where none are kept.
    """

    units: np.ndarray
    all_units: bool
    top: TopImages
    sketch: Sketch | None
    levels: np.ndarray | None = None
    maps: np.ndarray | None = None

    def select(self, hidden: Tensor) -> Tensor:
        """The maps of the wanted units, (n, U, h, w), among those of all."""
        return hidden if self.all_units else hidden[:, torch.from_numpy(self.units).to(hidden.device)]

    def maps_at(self, places: np.ndarray) -> np.ndarray:
        """The kept maps at places (m,), rows of (U k): float32 (m, h, w)."""
        assert self.maps is not None
        return self.maps[places // self.top.ids.shape[1], self.top.slots.ravel()[places]]

    def _to_arrays(self) -> dict[str, np.ndarray]:
        arrays = {"units": self.units, "all": np.array(self.all_units)}
        arrays |= {"values": self.top.values, "ids": self.top.ids, "slots": self.top.slots}
        arrays |= {"levels": self.levels} if self.levels is not None else {}
        arrays |= {"maps": self.maps} if self.maps is not None else {}
        return arrays | (self.sketch.state() if self.sketch else {})

    @classmethod
    def _from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "LayerState":
        top = TopImages(arrays["values"], arrays["ids"], arrays["slots"])
        sketch = sketch_from_state(arrays) if "counts" in arrays else None
        return cls(arrays["units"], bool(arrays["all"]), top, sketch, arrays.get("levels"), arrays.get("maps"))


class FirstPass(Mapping[str, LayerState]):
    """The state of each layer whose activations have been seen. done: how many images have been, in whole batches."""

    def __init__(self, layers: Sequence[str]) -> None:
        self.layers, self.done = tuple(layers), 0
        self._states: dict[str, LayerState] = {}

    def __getitem__(self, layer: str) -> LayerState:
        return self._states[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def add_layer(self, layer: str, n_units: int, units: Sequence[int] | None, k: int) -> None:
        """Begin a layer of `n_units`, of which `units` are wanted, None for all: with no image and no map.

        Raises InputError where the layer does not have one of `units`.
        """
        numbers = np.arange(n_units) if units is None else np.asarray(units, np.int64)
        if outside := [unit for unit in numbers.tolist() if not 0 <= unit < n_units]:
            raise InputError(f"layer {layer!r} has units 0 to {n_units - 1}, got {outside[0]}")
        top, sketch = TopImages.empty(len(numbers), k), Sketch(len(numbers))
        self._states[layer] = LayerState(numbers, units is None, top, sketch)

    def reserve_maps(self, layer: str, size: tuple[int, int]) -> None:
        """Make room for the maps (h, w) of a new layer's images, where all other layers have it and all fit BUDGET."""
        shape = (*self[layer].top.ids.shape, *size)
        others = [state.maps for name, state in self.items() if name != layer]
        used = sum(maps.nbytes for maps in others if maps is not None)
        if any(maps is None for maps in others) or used + 4 * int(np.prod(shape)) > BUDGET:
            self.drop_maps()
        else:
            self[layer].maps = np.zeros(shape, np.float32)

    def update(self, layer: str, maps: Tensor, first_image: int) -> None:
        """Count the activations of a batch, and store the maps of the images that have just entered the top k.

        Args:
            layer: one that has been added.
            maps: activations (n, U, h, w) of the wanted units, of the most recent batch.
            first_image: number of the batch's first image; the others follow.

        Raises:
            NotFiniteError: an activation is NaN or infinite; the pass is then of no more use.
        """
        state = self[layer]
        assert state.sketch is not None
        state.top.update(state.sketch.add(maps), first_image)
        if state.maps is None:
            return
        if state.maps.shape[2:] != maps.shape[2:]:  # images of several sizes
            self.drop_maps()
            return
        units, places = np.nonzero(state.top.ids >= first_image)
        if len(units):
            rows = state.top.ids[units, places] - first_image
            state.maps[units, state.top.slots[units, places]] = take_maps(maps, rows, units)

    def drop_maps(self) -> None:
        """Keep no maps of any layer from now on."""
        for state in self.values():
            state.maps = None

    @property
    def has_maps(self) -> bool:
        """Whether the maps of all images are kept."""
        return all(state.maps is not None for state in self.values())

    def finish(self, quantile: float) -> None:
        """Read the levels off the sketches, which are not needed any more. A finished pass stays as it is."""
        for state in self.values():
            if state.sketch is not None:
                state.levels = state.sketch.levels(quantile, state.top.values[:, 0])
                state.sketch = None

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All of it, as named arrays; layers go by their number."""
        arrays = {"done": np.array(self.done)}
        for i, layer in enumerate(self.layers):
            arrays |= {f"{i}.{name}": part for name, part in self[layer]._to_arrays().items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], layers: Sequence[str]) -> "FirstPass":
        """The pass that `to_arrays` was asked of; one that has seen nothing where there are no arrays."""
        found = cls(layers)
        found.done = int(arrays.get("done", 0))
        for i, layer in enumerate(layers if arrays else ()):
            parts = {name.partition(".")[2]: part for name, part in arrays.items() if name.startswith(f"{i}.")}
            found._states[layer] = LayerState._from_arrays(parts)
        return found


def take_maps(maps: Tensor, rows: np.ndarray, units: np.ndarray) -> np.ndarray:
    """One map for each row (m,) and unit (m,), out of maps (n, U, h, w): float32 (m, h, w)."""
    at = [torch.from_numpy(index).to(maps.device) for index in (rows, units)]
    return maps[at[0], at[1]].float().cpu().numpy()
