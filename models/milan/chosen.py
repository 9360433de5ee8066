"""What the first pass knows of each layer: the best pictures and the distribution of every unit; saved and restored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.milan.quantiles import Sketch, sketch_from_state
from conceptry.models.milan.state import Unfinished
from conceptry.models.milan.top_images import TopImages, no_images


@dataclass
class Chosen:
    """What the first pass finds of a layer.

    units: int64 (U,), all of the layer's where `all_units`. sketch: of their activations, None when the pass is over
    and their levels, float32 (U,), are known. maps: see `kept_maps`.
    """

    units: np.ndarray
    all_units: bool
    top: TopImages
    sketch: Sketch | None
    levels: np.ndarray | None = None
    maps: np.ndarray | None = None

    def of(self, hidden: Tensor) -> Tensor:
        """The maps of the chosen units, (n, U, h, w)."""
        return hidden if self.all_units else hidden[:, torch.from_numpy(self.units).to(hidden.device)]


def nothing_chosen(name: str, layer: str, count: int, asked: Sequence[int] | None, k: int) -> Chosen:
    """Of a layer of `count` units, before the first picture. Raises InputError where `asked` names others."""
    units = np.arange(count) if asked is None else np.asarray(asked, np.int64)
    if asked is not None and (outside := [unit for unit in units.tolist() if not 0 <= unit < count]):
        raise InputError(f"{name}: layer {layer!r} has units 0 to {count - 1}, none of {outside[0]}")
    return Chosen(units, asked is None, no_images(len(units), k), Sketch(len(units)))


def arrays_of(done: int, chosen: Mapping[str, Chosen], layers: Sequence[str]) -> dict[str, np.ndarray]:
    """All that the first pass has found so far."""
    arrays = {"done": np.array(done)}
    for i, layer in enumerate(layers):
        known = chosen[layer]
        parts = {"units": known.units, "all": np.array(known.all_units)}
        parts |= {"values": known.top.values, "ids": known.top.ids, "slots": known.top.slots}
        parts |= {"levels": known.levels} if known.levels is not None else {}
        parts |= {"maps": known.maps} if known.maps is not None else {}
        parts |= known.sketch.state() if known.sketch else {}
        arrays |= {f"{i}.{name}": part for name, part in parts.items()}
    return arrays


def restored(state: Unfinished | None, layers: Sequence[str]) -> tuple[int, dict[str, Chosen]]:
    """How many pictures the saved first pass has seen, and what it found: nothing where none was saved."""
    arrays = state.load_first() if state else {}
    chosen = {}
    for i, layer in enumerate(layers if arrays else ()):
        known = {name.partition(".")[2]: part for name, part in arrays.items() if name.startswith(f"{i}.")}
        sketch = sketch_from_state(known) if "counts" in known else None
        top = TopImages(known["values"], known["ids"], known["slots"])
        chosen[layer] = Chosen(known["units"], bool(known["all"]), top, sketch, known.get("levels"), known.get("maps"))
    return int(arrays.get("done", 0)), chosen
