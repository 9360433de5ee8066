"""Patterns of a data set, or of one class of it.

| field | meaning |
|---|---|
| weight | mean |effect| of a pattern over all samples, those that do not keep it included |
| effect | mean effect over the samples that keep it |
| share | share of samples that keep it |
"""

import math
from collections import defaultdict

import numpy as np
from matplotlib.figure import Figure
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from conceptry.evaluation.data import items_of
from conceptry.evaluation.drawing.style import INK, MUTED, new_figure, quiet
from conceptry.evaluation.harsanyi.client import explain_samples
from conceptry.evaluation.harsanyi.data import SampleData
from conceptry.evaluation.harsanyi.marks import plain, shortened, sign_colour, signed
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.tables import summary_title
from conceptry.models.errors import plural
from conceptry.models.method import Progress


def pattern_name(pattern: dict) -> str:
    """Name of a pattern: its players, joined by its kind."""
    return f" {pattern['kind'].upper()} ".join(pattern["players"])


def summarise(predict: Predict, data: SampleData, label: str | None, progress: Progress) -> dict:
    """List every pattern that is kept in some sample, with weight, effect and share, heaviest first; JSON-ready."""
    samples = items_of(data.samples, label, data.name)
    effects: dict[str, list[float]] = defaultdict(list)
    kept, ratio = [], []
    for explained in explain_samples(predict, samples, lambda share: progress("explaining samples", share)):
        kept.append(explained.answer["n_kept"])
        ratio.append(explained.answer["explain_ratio"])
        for pattern in explained.answer["patterns"]:
            effects[pattern_name(pattern)].append(pattern["effect"])
    n = len(samples)
    concepts = [
        {
            "concept": name,
            "weight": math.fsum(map(abs, values)) / n,
            "effect": math.fsum(values) / len(values),
            "share": len(values) / n,
        }
        for name, values in effects.items()
    ]
    return {
        "data": data.name,
        "label": label,
        "count": n,
        "kept": math.fsum(kept) / n,
        "explain_ratio": math.fsum(ratio) / n,
        "concepts": sorted(concepts, key=lambda entry: (-entry["weight"], entry["concept"])),
    }


def _facts(record: dict) -> str:
    samples = plural(record["count"], "sample")
    return f"{samples}, {record['kept']:.1f} patterns each, explain ratio {record['explain_ratio']:.3f}"


def describe_summary(record: dict) -> RenderableType:
    """Summary for the terminal: a line of facts, then one line for each pattern."""
    table = Table(show_header=True, header_style="dim", box=None, padding=(0, 1, 0, 2))
    table.add_column("pattern")
    for heading in ("mean |effect|", "mean effect", "kept in"):
        table.add_column(heading, justify="right")
    for entry in record["concepts"]:
        table.add_row(
            escape(entry["concept"]), f"{entry['weight']:.4f}", f"{entry['effect']:+.4f}", f"{entry['share']:.0%}"
        )
    return Group(f"{escape(summary_title(record))}: {_facts(record)}", table)


def draw_summary(record: dict) -> Figure:
    """Draw the patterns as bars of their mean strength, coloured and marked by the sign of their mean effect."""
    entries = record["concepts"]
    weights = np.array([entry["weight"] for entry in entries])
    figure = new_figure(7.6, 0.3 * max(len(entries), 3) + 0.9)
    axes = quiet(figure.subplots(), grid="")
    axes.barh(range(len(entries)), weights, height=0.62, color=[sign_colour(e["effect"]) for e in entries])
    names = [shortened(entry["concept"], 230, 10) for entry in entries]
    axes.set_yticks(range(len(entries)), names, fontsize=10, color=INK, parse_math=False)
    axes.set_ylim(max(len(entries), 3) - 0.5, -0.5)
    for position, entry in enumerate(entries):
        note = f"{signed(entry['effect'])} in {entry['share']:.0%}" + (" of the samples" if not position else "")
        axes.annotate(
            note, (entry["weight"], position), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9,
            color=MUTED,
        )  # fmt: skip
    axes.set_xlim(0, float(weights.max(initial=1e-9)) * 1.5)
    axes.set_xticks([])
    title = f"{plain(summary_title(record))}\nmean |effect| of each pattern, and its mean effect where it is kept"
    axes.set_title(f"{title}; {_facts(record)}", loc="left", fontsize=10, parse_math=False)
    return figure
