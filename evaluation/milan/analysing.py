"""Analyse a network: how its accuracy falls as units are ablated in an order that their descriptions give.

| by | which units, in which order |
|---|---|
| words | those whose descriptions hold given words, the surest description first |
| length | all that are active, the longest description first, counted in words |
| score | all that are active, the surest description first (see `DescribedUnit.certainty`) |

Beside each order stand random ones of as many units of the same layer: what lies apart from them is what the
descriptions know.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conceptry.evaluation.milan.described import DescribedUnit
from conceptry.evaluation.milan.editing import Scored, steps
from conceptry.evaluation.milan.named_units import NamedUnits
from conceptry.models.errors import InputError
from conceptry.models.milan.ablation import Labelled, Unit, accuracy_under_ablation, random_like
from conceptry.models.milan.words import matches

BY = ("words", "length", "score")
COLUMNS = ("layer", "part", "order", "ablated", "accuracy")


@dataclass(frozen=True)
class LayerAnalysis:
    """One layer: the units in their order, the counts that were ablated, and accuracies on each part of the data."""

    layer: str
    n_units: int
    order: tuple[Unit, ...]
    counts: tuple[int, ...]
    parts: tuple[Scored, ...]


def units_in_order(
    units: Sequence[DescribedUnit], by: str, words: Sequence[str] = (), reverse: bool = False
) -> list[Unit]:
    """The units of a layer to ablate, the first first (see the table); inactive ones have no description and are left
    out. reverse: the other end first. Ties: the lower number first.
    """
    if by not in BY:
        raise InputError(f"by must be one of {', '.join(BY)}, got {by!r}")
    if (by == "words") != bool(words):
        raise InputError("words are what units are chosen by; give them with by words, and with nothing else")
    chosen = [unit for unit in units if unit.active and (by != "words" or matches(unit.description, words))]
    sign = 1 if reverse else -1
    value = (lambda unit: float(len(unit.description.split()))) if by == "length" else (lambda unit: unit.certainty)
    return [(unit.layer, unit.unit) for unit in sorted(chosen, key=lambda unit: (sign * value(unit), unit.unit))]


def analyse_network(
    named: NamedUnits,
    data: Mapping[str, Labelled],
    by: str,
    words: Sequence[str],
    orders: int,
    seed: int = 0,
    reverse: bool = False,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> list[LayerAnalysis]:
    """Ablate units of each layer on its own. Layers without a unit to ablate are left out.

    Raises InputError where no layer has any, and for fewer than 2 random orders.
    """
    if orders < 2:
        raise InputError(f"expected 2 or more random orders, whose spread is shown, got {orders}")
    known = named.numbers()
    chosen = {
        layer: units_in_order([u for u in named.units if u.layer == layer], by, words, reverse) for layer in known
    }
    chosen = {layer: order for layer, order in chosen.items() if order}
    if not chosen:
        raise InputError(
            f"no description holds {', '.join(words)}; `conceptry audit` counts units by words"
            if words
            else f"{named.title}: has no active units"
        )
    rng = np.random.default_rng(seed)
    found = []
    total, done = sum(len(steps(len(order))) for order in chosen.values()) * len(data) * (orders + 1), 0
    for layer, order in chosen.items():
        counts = steps(len(order))
        controls = [random_like(order, known, rng) for _ in range(orders)]

        def curve(part: Labelled, of: Sequence[Unit], layer: str = layer, counts: tuple = counts) -> np.ndarray:
            def on_count(_: int) -> None:
                nonlocal done
                done += 1
                progress(layer, done / total)

            return accuracy_under_ablation(named.model, part, of, counts, on_count=on_count)

        parts = [
            Scored(name, len(part.labels), curve(part, order), np.stack([curve(part, other) for other in controls]))
            for name, part in data.items()
        ]
        found.append(LayerAnalysis(layer, len(known[layer]), tuple(order), counts, tuple(parts)))
    return found


def write_curves(layers: Sequence[LayerAnalysis], by: str, path: Path) -> None:
    """A table of all accuracies: `COLUMNS`; order is `by`, or random with its number from 1."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for each in layers:
            for part in each.parts:
                names = [by, *(f"random {k}" for k in range(1, len(part.random) + 1))]
                for name, accuracies in zip(names, [part.described, *part.random], strict=True):
                    for count, accuracy in zip(each.counts, accuracies, strict=True):
                        writer.writerow([each.layer, part.part, name, count, f"{accuracy:.6g}"])
