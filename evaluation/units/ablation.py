"""Ablate units by their descriptions: analyse what a network's accuracy owes to them, or edit the network.

Analysing ablates units of each layer in an order that their descriptions give, beside random orders of as many units of
the layer: what lies apart from these is what the descriptions know.

| by | which units, in which order |
|---|---|
| words | those whose descriptions hold given words, the surest description first |
| length | all that are active, the longest description first, counted in words |
| score | all that are active, the surest description first (see `UnitDescription.certainty`) |
| adjectives, nouns, verbs, prepositions | all that are active, the description with most of them first |

Editing silences the units whose descriptions name a spurious feature, from the last layer to the first, within a layer
the surest description first. How many of them are silenced is chosen on images that nothing else is scored on; the
accuracies reported are those of the others. The control silences as many units of the same layers, drawn at random.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from conceptry.evaluation.cells import write_rows
from conceptry.evaluation.units.parts_of_speech import PARTS, part_counts
from conceptry.evaluation.units.records import UnitDescription
from conceptry.evaluation.units.refit import refitted_accuracy
from conceptry.evaluation.units.sources import NamedUnits
from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import PixelModel
from conceptry.models.manifest import read_json, write_json
from conceptry.models.method import Progress
from conceptry.models.milan.ablation import LabelledImages, Unit, accuracy_under_ablation, by_layer, random_like
from conceptry.models.milan.network import lineage_of
from conceptry.models.milan.words import matches

STEPS = 10  # counts tried, from none to all


@dataclass(frozen=True)
class PartAccuracy:
    """Accuracies on one part of the data, by how many units are ablated.

    Attributes:
        part: its name.
        n_images: how many images it has.
        described: in the order that descriptions give, float64 (counts,).
        random: in random orders, float64 (orders, counts).
    """

    part: str
    n_images: int
    described: np.ndarray
    random: np.ndarray


@dataclass(frozen=True)
class Edit:
    """An edit of a network, with what it does to accuracy.

    Attributes:
        title: of the version or table that describes the units.
        network, data: their names.
        words: that the silenced units are described by.
        order: the units that match, the first to silence first.
        n_units: how many units are described.
        counts: how many silenced units were tried.
        validation: mean accuracy over the parts on the images that chose, float64 (counts,).
        chosen: position of the count that is silenced.
        parts: accuracies on the other images.
        refitted: accuracy by part with the last layer fitted anew instead (see `refit`); empty where not asked for.
    """

    title: str
    network: str
    data: str
    words: tuple[str, ...]
    order: tuple[Unit, ...]
    n_units: int
    counts: tuple[int, ...]
    validation: np.ndarray
    chosen: int
    parts: tuple[PartAccuracy, ...]
    refitted: Mapping[str, float] = field(default_factory=dict)

    @property
    def silenced(self) -> tuple[Unit, ...]:
        """The units that the edit silences."""
        return self.order[: self.counts[self.chosen]]


def units_to_silence(units: Sequence[UnitDescription], words: Sequence[str]) -> tuple[Unit, ...]:
    """Order the units whose description holds any of `words` for an edit. Raises InputError where none does."""
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
    choose: Mapping[str, LabelledImages],
    report: Mapping[str, LabelledImages],
    orders: int,
    seed: int = 0,
    progress: Progress = lambda what, share: None,
    refit: bool = False,
) -> Edit:
    """Choose how many units to silence on the parts `choose`, and score that on the parts `report`.

    Parts have equal weight in the choice; of equally good counts the least is taken. orders: random ones, at least 2.
    refit: whether to score the last layer fitted anew to `choose` as well.
    """
    if orders < 2:
        raise InputError(f"expected 2 or more random orders, whose spread is shown, got {orders}")
    model, order = named.model, units_to_silence(named.units, words)
    counts = steps(len(order), power=1.5)  # few units of the last layer often suffice
    total, done = len(counts) * (len(choose) + (orders + 1) * len(report)), 0

    def curve(part: LabelledImages, of: Sequence[Unit]) -> np.ndarray:
        def on_count(_: int) -> None:
            nonlocal done
            done += 1
            progress("ablating", done / total)

        return accuracy_under_ablation(model, part, of, counts, on_count=on_count)

    validation = np.mean([curve(part, order) for part in choose.values()], axis=0)
    rng = np.random.default_rng(seed)
    controls = [random_like(order, named.numbers(), rng) for _ in range(orders)]
    parts = [
        PartAccuracy(name, len(part.labels), curve(part, order), np.stack([curve(part, other) for other in controls]))
        for name, part in report.items()
    ]
    return Edit(
        named.title, model.name, data, tuple(words), order, len(named.units), counts, validation,
        int(validation.argmax()), tuple(parts), refitted_accuracy(model, choose, report, seed) if refit else {},
    )  # fmt: skip


def record(edit: Edit, model: PixelModel) -> dict[str, object]:
    """Describe the units that an edit silences and the accuracies before and after, JSON-ready."""
    k = edit.chosen
    return {
        "network": edit.network,
        "network_sha256": lineage_of(model)["explained_sha256"],
        "described_by": edit.title,
        "words": list(edit.words),
        "data": edit.data,
        "units": by_layer(edit.silenced),
        "accuracy": {
            part.part: {
                "pictures": part.n_images,
                "before": round(float(part.described[0]), 4),
                "after": round(float(part.described[k]), 4),
                "random_mean": round(float(part.random[:, k].mean()), 4),
                "random_sd": round(float(part.random[:, k].std(ddof=1)), 4),
                **({"refitted": round(edit.refitted[part.part], 4)} if edit.refitted else {}),
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


BY = ("words", "length", "score", *PARTS)
COLUMNS = ("layer", "part", "order", "ablated", "accuracy")


@dataclass(frozen=True)
class LayerAnalysis:
    """One layer: the units in their order, the counts that were ablated, and accuracies on each part of the data."""

    layer: str
    n_units: int
    order: tuple[Unit, ...]
    counts: tuple[int, ...]
    parts: tuple[PartAccuracy, ...]


def units_in_order(
    units: Sequence[UnitDescription], by: str, words: Sequence[str] = (), reverse: bool = False
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
    if by in PARTS:
        values = [float(counts[by]) for counts in part_counts([unit.description for unit in chosen])]
    else:
        values = [float(len(u.description.split())) if by == "length" else u.certainty for u in chosen]
    placed = sorted(zip(values, chosen, strict=True), key=lambda pair: (sign * pair[0], pair[1].unit))
    return [(unit.layer, unit.unit) for _, unit in placed]


def analyse_network(
    named: NamedUnits,
    data: Mapping[str, LabelledImages],
    by: str,
    words: Sequence[str],
    orders: int,
    seed: int = 0,
    reverse: bool = False,
    progress: Progress = lambda what, share: None,
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

        def curve(part: LabelledImages, of: Sequence[Unit], layer: str = layer, counts: tuple = counts) -> np.ndarray:
            def on_count(_: int) -> None:
                nonlocal done
                done += 1
                progress(layer, done / total)

            return accuracy_under_ablation(named.model, part, of, counts, on_count=on_count)

        parts = [
            PartAccuracy(
                name, len(part.labels), curve(part, order), np.stack([curve(part, other) for other in controls])
            )
            for name, part in data.items()
        ]
        found.append(LayerAnalysis(layer, len(known[layer]), tuple(order), counts, tuple(parts)))
    return found


def write_curves(layers: Sequence[LayerAnalysis], by: str, path: Path) -> None:
    """A table of all accuracies: `COLUMNS`; order is `by`, or random with its number from 1."""
    rows = []
    for each in layers:
        for part in each.parts:
            names = [by, *(f"random {k}" for k in range(1, len(part.random) + 1))]
            for name, accuracies in zip(names, [part.described, *part.random], strict=True):
                for count, accuracy in zip(each.counts, accuracies, strict=True):
                    rows.append([each.layer, part.part, name, count, f"{accuracy:.6g}"])
    write_rows(path, COLUMNS, rows)
