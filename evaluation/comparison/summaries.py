"""Summaries side by side: of several classes, data sets or versions of one method."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from conceptry.evaluation.drawing.style import ACCENT, INK, MUTED, SECOND, new_figure, quiet
from conceptry.models.errors import InputError, closest, plural
from conceptry.registry.versions import Version, find_version

SIZES = {  # what a summary says of a concept, by method: the field, its format and its meaning
    "splice": ("weight", "{:.4f}", "mean weight"),
    "harsanyi": ("weight", "{:.4f}", "mean |effect|"),
    "perturbation": ("changed", "{:.1%}", "share of pixels that the sparsest change takes"),
    "milan": ("share", "{:.1%}", "share of the described units"),
}
COLOURS = (ACCENT, SECOND, "#3d9970", "#8e5bd0", "#b8860b", MUTED)


@dataclass(frozen=True)
class Side:
    """What is summarised: a version over data, or one class of it."""

    version: Version
    data: str
    label: str | None


def sides_of(first: Side, beside: Sequence[str]) -> list[Side]:
    """The first side and one for each text: NAME/NUMBER or NAME@ALIAS is another version, what holds a colon other
    data, anything else another class. Raises InputError for a version of another method, and for too many sides.
    """
    if len(beside) >= len(COLOURS):
        raise InputError(f"at most {len(COLOURS)} summaries fit side by side, got {len(beside) + 1}")
    sides = [first]
    for text in beside:
        if re.fullmatch(r"(models:/)?[^:/@]+(/\d+|@[^/@:]+)", text):
            version = find_version(text)
            if version.method != first.version.method:
                raise InputError(f"--beside {text}: is of {version.method}, not of {first.version.method}")
            sides.append(replace(first, version=version))
        elif ":" in text:
            sides.append(replace(first, data=text))
        else:
            sides.append(replace(first, label=text))
    told = [(side.version.uri, side.data, side.label) for side in sides]
    if twice := next((text for text, side in zip(beside, told[1:], strict=True) if told.count(side) > 1), None):
        raise InputError(f"--beside {twice}: is there already")
    return sides


def titles_of(sides: Sequence[Side]) -> list[str]:
    """A title for each side, of what differs between them."""
    columns = [
        [f"{side.version.name}/{side.version.version}" for side in sides],
        [side.data for side in sides],
        [side.label or "all" for side in sides],
    ]
    told = [column for column in columns if len(set(column)) > 1] or columns[:1]
    return [", ".join(parts) for parts in zip(*told, strict=True)]


def describe_beside(records: Mapping[str, dict], method: str, top: int) -> RenderableType:
    """Concepts of all summaries for the terminal, those that are largest in any of them first; `records` by title."""
    field, form, meaning = SIZES[method]
    table = Table(show_header=True, header_style="dim", box=None, padding=(0, 1, 0, 2))
    table.add_column("concept")
    for title in records:
        table.add_column(escape(title), justify="right")
    for concept in _concepts(records, field, top):
        cells = (_entry(record, concept).get(field) for record in records.values())
        table.add_row(escape(concept), *("-" if value is None else form.format(value) for value in cells))
    counts = (f"{title}: {record['count']:,}" for title, record in records.items())
    return Group(escape(f"{meaning}; {', '.join(counts)}"), table)


def draw_beside(records: Mapping[str, dict], method: str, top: int) -> Figure:
    """Bars of each concept, one for each summary."""
    field, form, meaning = SIZES[method]
    concepts, height = _concepts(records, field, top), 0.8 / len(records)
    figure = new_figure(7.6, 0.16 * (len(records) + 1) * max(len(concepts), 3) + 1.0 + 0.2 * len(records))
    axes = quiet(figure.subplots(), grid="")
    largest = 1e-9
    for k, (title, record) in enumerate(records.items()):
        sizes = [_entry(record, concept).get(field) or 0.0 for concept in concepts]
        places = np.arange(len(concepts)) + (k - (len(records) - 1) / 2) * height
        axes.barh(places, sizes, height=0.86 * height, color=COLOURS[k], label=title)
        for place, size in zip(places, sizes, strict=True):
            axes.text(size, place, f" {form.format(size)}", va="center", fontsize=8, color=MUTED)
        largest = max(largest, *sizes) if sizes else largest
    axes.set_yticks(range(len(concepts)), concepts, fontsize=10, color=INK)
    axes.set_ylim(max(len(concepts), 3) - 0.5, -0.5)
    axes.set_xlim(0, 1.18 * largest)
    axes.set_xticks([])
    axes.set_title(meaning, loc="left", fontsize=10)
    columns = 1 if max(map(len, records)) > 24 else min(len(records), 3)
    figure.legend(loc="outside lower left", frameon=False, fontsize=9, labelcolor=MUTED, ncols=columns)
    return figure


def draw_histograms(records: Mapping[str, dict], concept: str) -> Figure:
    """How many pictures give a concept which weight, in shares of all pictures of each summary.

    Raises InputError where the summaries have no such histograms, and where no picture names the concept.
    """
    if not all("edges" in record for record in records.values()):
        raise InputError("--concept draws how the weights of a word are spread over pictures, for splice versions")
    named = {entry["concept"] for record in records.values() for entry in record["concepts"]}
    if concept not in named:
        near = ", ".join(closest(concept, named) or sorted(named)[:5])
        raise InputError(f"--concept {concept}: no picture is named by it; near: {near}")
    figure = new_figure(6.6, 3.6)
    axes = quiet(figure.subplots())
    edges = next(iter(records.values()))["edges"]
    for k, (title, record) in enumerate(records.items()):
        entry = _entry(record, concept)
        shares = np.array(entry.get("histogram", [0] * (len(edges) - 1))) / record["count"]
        axes.stairs(shares, edges, color=COLOURS[k], linewidth=2, label=f"{title}: in {shares.sum():.0%}")
        axes.stairs(shares, edges, color=COLOURS[k], alpha=0.12, fill=True)
    used = max(np.flatnonzero(_entry(r, concept).get("histogram", [0])).max(initial=0) for r in records.values())
    axes.set_xlim(0, edges[min(int(used) + 2, len(edges) - 1)])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel(f"weight of {concept!r} in a picture that names it")
    images = ", ".join(plural(record["count"], "picture") for record in records.values())
    axes.set_title(f"share of all pictures ({images})", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=9, labelcolor=MUTED)
    return figure


def _concepts(records: Mapping[str, dict], field: str, top: int) -> list[str]:
    """Concepts by their largest size in any summary; those of perturbation, which are distances, by the least."""
    sizes: dict[str, list[float]] = {}
    for record in records.values():
        for entry in record["concepts"]:
            if entry.get(field) is not None:
                sizes.setdefault(entry["concept"], []).append(entry[field])
    if field == "changed":
        return sorted(sizes, key=lambda name: (min(sizes[name]), name))[:top]
    return sorted(sizes, key=lambda name: (-max(sizes[name]), name))[:top]


def _entry(record: dict, concept: str) -> dict:
    return next((entry for entry in record["concepts"] if entry["concept"] == concept), {})
