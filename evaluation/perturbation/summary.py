"""Neighbouring classes: the sparsest changes that turn a data set, or one class of it, into each other class.

| field | meaning |
|---|---|
| flipped | share of pictures for which a change toward the class flips the prediction |
| changed | share of pixels that the sparsest such change takes, mean over those that flip |
| confidence | probability of the class after it, mean over those that flip |
| change | mean of |change| over those that flip, as base64 of a PNG, scaled to its largest |
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from conceptry.evaluation.data import items_of
from conceptry.evaluation.drawing.images import image_text
from conceptry.evaluation.drawing.style import ACCENT, INK, MUTED, new_figure, quiet
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.perturbation.client import CaseExplanation, explain_cases
from conceptry.evaluation.perturbation.columns import SMALL, pixels_of, shortened
from conceptry.evaluation.perturbation.data import Case, CaseData
from conceptry.evaluation.tables import summary_title
from conceptry.models.errors import InputError, plural
from conceptry.models.images import decode_image, png_bytes
from conceptry.models.method import Progress

SEARCH = {"mode": "counterfactual", "sparsest": True, "optimizer": "l1q_frank_wolfe"}  # which has the q to search over
IMAGES = 8  # of the class, or of each class: a search takes many solves


def summarise(predict: Predict, data: CaseData, label: str | None, progress: Progress) -> dict:
    """List every other class with `flipped`, `changed` and `confidence`, the nearest first; JSON-ready.

    Takes the first 8 pictures of the class `label`, for None of every class. Nearest: the fewest changed pixels.
    Raises InputError for data with fewer than two labels.
    """
    cases = items_of(data.cases, label, data.name)
    classes = data.classes
    if len(classes) < 2 or not any(case.label for case in cases):
        raise InputError(f"{data.name} needs at least two labels, to go from one class toward another")
    taken = [case for name in classes for case in [c for c in cases if c.label == name][:IMAGES]]
    pairs = [Case(case.image, case.label, name) for case in taken for name in classes if name != case.label]
    explained = explain_cases(predict, pairs, SEARCH, lambda share: progress("sparsest counterfactuals", share))
    toward = {name: [e for e in explained if e.case.target == name] for name in classes}
    concepts = [_concept(name, found) for name, found in toward.items() if found]
    return {
        "data": data.name,
        "label": label,
        "count": len(taken),
        "concepts": sorted(concepts, key=lambda entry: (entry["changed"] is None, entry["changed"] or 0.0)),
    }


def _concept(name: str, explained: Sequence[CaseExplanation]) -> dict:
    flipped = [e for e in explained if e.answer["success"]]
    known = [float(np.mean([value(e) for e in flipped])) if flipped else None for value in (_changed, _confidence)]
    change = np.zeros(1)
    if flipped:
        # Amplified changes are relative to the largest of each picture: an average of where, not of how much.
        deltas = [np.asarray(decode_image(e.answer["delta"]), dtype=np.float64) / 127.5 - 1 for e in flipped]
        change = np.abs(np.mean([np.abs(delta).mean(axis=-1) for delta in deltas], axis=0))
    grey = np.rint(255 * change / (change.max() or 1.0)).astype(np.uint8)
    image = image_text(png_bytes(Image.fromarray(grey))) if flipped else None
    share = len(flipped) / len(explained)
    return {"concept": name, "flipped": share, "changed": known[0], "confidence": known[1], "change": image}


def _changed(explained: CaseExplanation) -> float:
    return float(explained.answer["changed"])


def _confidence(explained: CaseExplanation) -> float:
    return explained.confidence


def _facts(record: dict) -> str:
    return f"{plural(record['count'], 'picture')}, sparsest change toward each other class"


def describe_summary(record: dict) -> RenderableType:
    """Summary for the terminal: a line of facts, then one line for each class, the nearest first."""
    table = Table(show_header=True, header_style="dim", box=None, padding=(0, 1, 0, 2))
    table.add_column("toward")
    for heading in ("pixels changed", "flipped", "confidence"):
        table.add_column(heading, justify="right")
    for entry in record["concepts"]:
        known = ("", "") if entry["changed"] is None else (f"{entry['changed']:.1%}", f"{entry['confidence']:.2f}")
        table.add_row(escape(entry["concept"]), known[0], f"{entry['flipped']:.0%}", known[1])
    return Group(f"{escape(summary_title(record))}: {_facts(record)}", table)


def draw_summary(record: dict) -> Figure:
    """Draw bars of the pixels changed toward each class, the nearest first, and an image of where they lie."""
    entries = record["concepts"]
    height = 0.55 * max(len(entries), 2) + 0.9
    names = [shortened(entry["concept"]) for entry in entries]
    left = 0.3 + 0.085 * max(map(len, names), default=1)  # inches for the names
    width = 6.2 + left
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    top, each = 1 - 0.7 / height, 0.55 / height
    axes = quiet(
        figure.add_axes(((left + 0.75) / width, top - each * len(entries), 5.3 / width, each * len(entries))), grid=""
    )
    changed = np.array([entry["changed"] or 0.0 for entry in entries])
    axes.barh(range(len(entries)), changed, height=0.5, color=ACCENT)
    axes.set_yticks([])
    axes.set_ylim(len(entries) - 0.5, -0.5)
    axes.set_xlim(0, float(changed.max(initial=1e-9)) * 1.7)
    axes.set_xticks([])
    for position, entry in enumerate(entries):
        if entry["changed"] is None:
            note = "no change flips the prediction"
        else:
            note = f"{entry['changed']:.1%} of the pixels, flips {entry['flipped']:.0%}"
        axes.annotate(note, (changed[position], position), xytext=(5, 0), textcoords="offset points", va="center",
                      fontsize=9, color=MUTED)  # fmt: skip
        middle = top - each * (position + 0.5)
        figure.text(
            left / width, middle, names[position], ha="right", va="center", fontsize=10, color=INK, parse_math=False
        )
        if entry["change"]:
            _show(figure, entry["change"], ((left + 0.1) / width, middle - each * 0.45, 0.495 / width, each * 0.9))
    figure.text(
        0.15 / width, 1 - 0.12 / height, summary_title(record), va="top", fontsize=11, color=INK, parse_math=False
    )
    figure.text(
        0.15 / width, 1 - 0.36 / height, f"{_facts(record)}, and where it lies", va="top", fontsize=9, color=MUTED
    )
    return figure


def _show(figure: Figure, image: str, place: tuple[float, float, float, float]) -> None:
    axes = figure.add_axes(place)
    pixels = pixels_of(image)[..., 0]
    smooth = "nearest" if max(pixels.shape) <= SMALL else "antialiased"
    axes.imshow(pixels, cmap="Blues", interpolation=smooth)
    axes.set_axis_off()
