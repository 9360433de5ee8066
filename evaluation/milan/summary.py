"""Words of the descriptions of a network, or of one of its layers, and the units of each.

| field | meaning |
|---|---|
| units | units whose description holds the word, singular or plural |
| share | their share of all units that are described |
| layers | their number by layer, or by group of units |

And how units are described, for each layer in the order of the version, or group (`wording`):

| field | meaning |
|---|---|
| units, words | units that are described, and the mean number of words of a description |
| lengths | units by the number of words |
| parts | share of the units whose description has an adjective, noun, verb, preposition; see `parts_of_speech` |
"""

from collections import Counter
from collections.abc import Sequence

from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from conceptry.evaluation.data import items_of
from conceptry.evaluation.drawing.style import ACCENT, INK, MUTED, new_figure, quiet
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.milan import metrics
from conceptry.evaluation.milan.client import CaseDescription, describe_cases
from conceptry.evaluation.milan.data import UnitData
from conceptry.evaluation.tables import summary_title
from conceptry.evaluation.units.parts_of_speech import MISSING, PARTS, TAGGER_THERE, part_counts
from conceptry.models.errors import plural
from conceptry.models.method import Progress

MOST_LAYERS = 8  # that bars are stacked of
MOST_LENGTHS = 6  # columns of lengths


def summarise(predict: Predict, data: UnitData, label: str | None, progress: Progress) -> dict:
    """List every word with the units whose description holds it, the most frequent first; JSON-ready.

    label: a layer, or a group of units, None for all. Articles, prepositions and the like are left out.
    """
    from conceptry.models.milan.words import matches, word_counts  # the package imports torch

    cases = items_of(data.cases, label, data.name)
    answers = describe_cases(predict, cases, progress=lambda share: progress("describing units", share))
    units = [unit for unit in answers if unit.description]
    layers = list(dict.fromkeys(str(case.label) for case in cases))
    concepts = []
    for word in word_counts([d.description for d in units]):
        held = [str(d.case.label) for d in units if matches(d.description, [word])]
        each = {name: held.count(name) for name in layers}
        concepts.append({"concept": word, "units": len(held), "share": len(held) / len(units), "layers": each})
    return {
        "data": data.title or data.name,
        "label": label,
        "count": len(cases),
        "inactive": len(cases) - len(units),
        "descriptions": len({d.description for d in units}),
        "concepts": concepts,
        "wording": _wording(units, layers),
    }


def _wording(units: Sequence[CaseDescription], layers: Sequence[str]) -> list[dict]:
    counts = part_counts([unit.description for unit in units]) if TAGGER_THERE else [{} for _ in units]
    found = []
    for name in layers:
        own = [k for k, unit in enumerate(units) if str(unit.case.label) == name]
        lengths = Counter(int(length) for length in metrics.lengths([units[k] for k in own]))
        parts = {part: sum(counts[k][part] > 0 for k in own) / len(own) for part in PARTS if TAGGER_THERE and own}
        words = sum(length * n for length, n in lengths.items()) / max(len(own), 1)
        each = {str(length): lengths[length] for length in sorted(lengths)}  # keys of JSON are texts
        found.append({"layer": name, "units": len(own), "words": words, "lengths": each, "parts": parts})
    return found


def _wording_table(record: dict) -> RenderableType:
    """How units are described, a line for each layer."""
    longest = max((int(length) for row in record["wording"] for length in row["lengths"]), default=0)
    spans = [(n, n) for n in range(1, min(longest, MOST_LENGTHS) + 1)]
    if longest > MOST_LENGTHS:
        spans[-1] = (MOST_LENGTHS, longest)
    table = Table(show_header=True, header_style="dim", box=None, padding=(0, 1, 0, 2))
    table.add_column("layer")
    headings = [f"{first}" if first == last else f"{first} or more" for first, last in spans]
    parts = list(dict.fromkeys(part for row in record["wording"] for part in row["parts"]))
    for heading in ("units", "words", *headings, *parts):
        table.add_column(heading, justify="right")
    for row in record["wording"]:
        held = [sum(n for length, n in row["lengths"].items() if a <= int(length) <= b) for a, b in spans]
        shares = (f"{row['parts'][part]:.0%}" if row["parts"] else "" for part in parts)
        table.add_row(
            escape(row["layer"]), str(row["units"]), f"{row['words']:.1f}", *(str(n or "") for n in held), *shares
        )
    what = "units by the number of words of their description"
    what += ", and the share of them with an adjective, noun, verb, preposition" if parts else ""
    return Group("", f"{what}:", table, *([] if parts else [escape(f"note: {MISSING}")]))


def facts(record: dict) -> str:
    """Count of the units, of their different descriptions, and of those without one."""
    count, inactive = record["count"], record["inactive"]
    text = f"{plural(count, 'unit')}, {record['descriptions']:,} different descriptions"
    return text + (f", {inactive:,} inactive" if inactive else "")


def describe_summary(record: dict) -> RenderableType:
    """Summary for the terminal: a line of facts, then one line for each word, by layer where there are several."""
    layers = _layers(record)
    table = Table(show_header=True, header_style="dim", box=None, padding=(0, 1, 0, 2))
    table.add_column("word")
    for heading in ("units", "of described", *layers):
        table.add_column(escape(heading), justify="right")
    for entry in record["concepts"]:
        each = (str(entry["layers"][name] or "") for name in layers)
        table.add_row(escape(entry["concept"]), str(entry["units"]), f"{entry['share']:.1%}", *each)
    return Group(f"{escape(summary_title(record))}: {facts(record)}", table, _wording_table(record))


def draw_summary(record: dict) -> Figure:
    """Draw a bar for each word: the units whose description holds it, stacked by layer where there are several."""
    entries, layers = record["concepts"], _layers(record)
    rows = max(len(entries), 3)
    figure = new_figure(6.8, 0.27 * rows + (1.25 if layers else 0.95))
    axes = quiet(figure.subplots(), grid="")
    left = [0] * len(entries)
    for name, colour in zip(layers or ("",), _shades(len(layers) or 1), strict=True):
        widths = [entry["layers"][name] if layers else entry["units"] for entry in entries]
        axes.barh(range(len(entries)), widths, left=left, color=colour, height=0.62, label=name or None)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(
        range(len(entries)), [entry["concept"] for entry in entries], fontsize=12, color=INK, parse_math=False
    )
    axes.set_ylim(rows - 0.5, -0.5)
    widest = max((entry["units"] for entry in entries), default=1)
    axes.set_xlim(0, widest * 1.25)
    axes.set_xticks([])
    for position, entry in enumerate(entries):
        note = f"{entry['units']}   {entry['share']:.0%}" + (" of the units" if not position else "")
        axes.text(entry["units"] + widest * 0.015, position, note, va="center", fontsize=9, color=MUTED)
    if not entries:
        axes.text(0, 0, "no unit is described", va="center", fontsize=10, color=MUTED)
    axes.set_title(summary_title(record), loc="left", fontsize=12, pad=24, parse_math=False)
    axes.annotate(f"units described by each word; {facts(record)}", (0, 1), xycoords="axes fraction",
                  textcoords="offset points", xytext=(0, 8), fontsize=9, color=MUTED)  # fmt: skip
    if layers:
        figure.legend(loc="outside lower left", ncols=min(len(layers), 5), frameon=False, fontsize=9, labelcolor=MUTED)
    return figure


def _layers(record: dict) -> list[str]:
    """Layers to tell apart, [] where there is one, or too many."""
    names = list(record["concepts"][0]["layers"]) if record["concepts"] else []
    return names if 1 < len(names) <= MOST_LAYERS else []


def _shades(count: int) -> list[tuple[float, float, float]]:
    """Colours for layers in their order: from light to dark, so that depth is read off them."""
    if count == 1:
        return [to_rgb(ACCENT)]
    ramp = LinearSegmentedColormap.from_list("depth", ["#bcd3f8", ACCENT, "#12295c"])
    return [ramp(k / (count - 1))[:3] for k in range(count)]
