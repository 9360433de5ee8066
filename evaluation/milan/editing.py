"""Edit a network: silence the units whose descriptions name a spurious feature, and see what accuracy comes back.

Units are ordered from the last layer to the first, within a layer the surest description first. How many of them are
silenced is chosen on pictures that nothing else is scored on; the accuracies reported are those of the others. The
control silences as many units of the same layers, drawn at random.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conceptry.evaluation.milan.described import DescribedUnit
from conceptry.evaluation.milan.named_units import NamedUnits
from conceptry.models.artifacts import read_json, write_json
from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import PixelModel
from conceptry.models.milan.ablation import Labelled, Unit, accuracy_under_ablation, by_layer, random_like
from conceptry.models.milan.words import matches

STEPS = 10  # counts tried, from none to all


@dataclass(frozen=True)
class Scored:
    """Accuracies on one part of the data: described float64 (counts,), random float64 (orders, counts)."""

    part: str
    n_pictures: int
    described: np.ndarray
    random: np.ndarray


@dataclass(frozen=True)
class Edit:
    """order: the units that match, the first to silence first; counts: how many were tried; validation float64
    (counts,): mean accuracy over the parts, on the pictures that chose; chosen: the position of that count."""

    title: str
    network: str
    data: str
    words: tuple[str, ...]
    order: tuple[Unit, ...]
    n_units: int
    counts: tuple[int, ...]
    validation: np.ndarray
    chosen: int
    parts: tuple[Scored, ...]

    @property
    def silenced(self) -> tuple[Unit, ...]:
        """The units that the edit silences."""
        return self.order[: self.counts[self.chosen]]


def units_to_silence(units: Sequence[DescribedUnit], words: Sequence[str]) -> tuple[Unit, ...]:
    """The units whose description holds any of `words`, in the order of an edit. Raises InputError where none does."""
    depth = {layer: place for place, layer in enumerate(dict.fromkeys(unit.layer for unit in units))}
    found = [unit for unit in units if unit.active and matches(unit.description, words)]
    if not found:
        raise InputError(f"no description holds {', '.join(words)}; `conceptry audit` counts units by words")
    ranked = sorted(found, key=lambda unit: (-depth[unit.layer], -unit.certainty, unit.unit))
    return tuple((unit.layer, unit.unit) for unit in ranked)


def steps(n: int, power: float = 1.0) -> tuple[int, ...]:
    """Counts from 0 to n, `STEPS` of them or fewer: evenly, or the closer to 0 the denser for a `power` above 1."""
    return tuple(sorted({round(n * share**power) for share in np.linspace(0, 1, STEPS)}))


def edit_network(
    named: NamedUnits,
    words: Sequence[str],
    data: str,
    choose: Mapping[str, Labelled],
    report: Mapping[str, Labelled],
    orders: int,
    seed: int = 0,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> Edit:
    """Choose how many units to silence on the parts `choose`, and score that on the parts `report`.

    Parts have equal weight in the choice; of equally good counts the least is taken. orders: random ones, at least 2.
    """
    if orders < 2:
        raise InputError(f"expected 2 or more random orders, whose spread is shown, got {orders}")
    model, order = named.model, units_to_silence(named.units, words)
    counts = steps(len(order), power=1.5)  # few units of the last layer often suffice
    total, done = len(counts) * (len(choose) + (orders + 1) * len(report)), 0

    def curve(part: Labelled, of: Sequence[Unit]) -> np.ndarray:
        def on_count(_: int) -> None:
            nonlocal done
            done += 1
            progress("ablating", done / total)

        return accuracy_under_ablation(model, part, of, counts, on_count=on_count)

    validation = np.mean([curve(part, order) for part in choose.values()], axis=0)
    rng = np.random.default_rng(seed)
    controls = [random_like(order, named.numbers(), rng) for _ in range(orders)]
    parts = [
        Scored(name, len(part.labels), curve(part, order), np.stack([curve(part, other) for other in controls]))
        for name, part in report.items()
    ]
    return Edit(
        named.title, model.name, data, tuple(words), order, len(named.units), counts, validation,
        int(validation.argmax()), tuple(parts),
    )  # fmt: skip


def record(edit: Edit, model: PixelModel) -> dict[str, object]:
    """What the edit silences and what came of it, JSON-ready."""
    k = edit.chosen
    lineage = getattr(model, "lineage", None) or {}
    return {
        "network": edit.network,
        "network_sha256": lineage.get("explained_sha256"),
        "described_by": edit.title,
        "words": list(edit.words),
        "data": edit.data,
        "units": by_layer(edit.silenced),
        "accuracy": {
            part.part: {
                "pictures": part.n_pictures,
                "before": round(float(part.described[0]), 4),
                "after": round(float(part.described[k]), 4),
                "random_mean": round(float(part.random[:, k].mean()), 4),
                "random_sd": round(float(part.random[:, k].std(ddof=1)), 4),
            }
            for part in edit.parts
        },
    }


def write_record(edit: Edit, model: PixelModel, path: Path) -> None:
    """Write `record` as JSON; `read_units` reads back what to silence."""
    write_json(path, record(edit, model))


def read_units(path: Path) -> dict[str, list[int]]:
    """The units of a record, as `conceptry.models.milan.ablation.ablated` takes them; raises InputError for others."""
    try:
        units = read_json(path)["units"]
        return {str(layer): [int(number) for number in numbers] for layer, numbers in units.items()}
    except (OSError, json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: expected the record of an edit, with its units ({error!r})") from None
