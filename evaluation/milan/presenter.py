"""Present units with their descriptions: from files and targets to units, from a version's answers to text and figures.

A target is LAYER:UNIT, LAYER:FIRST-LAST, or LAYER for all of its units; a file is a table (.csv) of the columns layer
and unit. Of more units than a figure has room for, the clearest are shown: those of the greatest log-likelihood, from
each layer in turn, no description twice.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from conceptry.evaluation.data import csv_rows
from conceptry.evaluation.drawing.images import image_of, image_text
from conceptry.evaluation.drawing.strips import shaded
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.milan.client import (
    EXEMPLARS,
    CaseDescription,
    UnitCase,
    describe_cases,
    own_case,
    record_of,
)
from conceptry.evaluation.milan.data import own_ranges
from conceptry.evaluation.milan.plots import COLUMNS, SUFFIXES, VIEWS, save_records, unit_name
from conceptry.evaluation.presenter import Presenter, Shown
from conceptry.models.errors import InputError, closest
from conceptry.models.images import png_bytes

SHOWN = 20  # units that a figure has room for
CLEAREST = 8
EXEMPLARS_SHOWN = 5  # beside the descriptions of several versions
CANDIDATES = 256  # from which those are chosen: large networks have thousands
_RANGE = re.compile(r"(?P<layer>.+):(?P<first>\d{1,9})(?:-(?P<last>\d{1,9}))?")


@dataclass(frozen=True)
class Request:
    """Units to describe. targets: those named by targets, as LAYER:FIRST-LAST; cases: these and those of files."""

    targets: Sequence[str]
    cases: Sequence[UnitCase]


def check_request(files: Sequence[Path], targets: Sequence[str], params: Mapping[str, str]) -> Request:
    """The units to describe; all of them where neither files nor targets are given.

    Raises InputError for a file that is no table of units, and for layers and units that the version does not have.
    """
    known = own_ranges(params)
    cases = []
    for file in files:
        for line, case in enumerate(_read_table(file), start=2):
            _check(case.layer, case.unit, case.unit, known, f"{file}, line {line}: ")
            cases.append(case)
    if not files and not targets:
        targets = list(known)
    ranges = [name for target in targets for name in _expanded(target, known)]
    return Request(ranges, [*cases, *(case for target in ranges for case in _cases(target))])


def explain_request(predict: Predict, request: Request, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One record for each unit, with its exemplars; of more than 20 units for the 8 clearest.

    Raises ConceptryError for what the version refuses.
    """
    cases = request.cases
    if len(cases) > SHOWN:
        spread = range(0, len(cases), -(-len(cases) // CANDIDATES))
        cases = clearest(describe_cases(predict, [cases[k] for k in spread], params))
    return [record_of(unit) for unit in describe_cases(predict, cases, {**EXEMPLARS, **params})]


def clearest(units: Sequence[CaseDescription], count: int = CLEAREST) -> list[UnitCase]:
    """Units of the surest descriptions, from each layer in turn, no description twice; in the order given."""
    layers: dict[str, list[int]] = {}
    for k, d in enumerate(units):
        if d.description:
            layers.setdefault(d.case.layer, []).append(k)
    for ranked in layers.values():
        ranked.sort(key=lambda k: -(units[k].log_likelihood or 0.0))
    found: list[int] = []
    descriptions: set[str] = set()
    while len(found) < count and any(layers.values()):
        for ranked in layers.values():
            while ranked and units[ranked[0]].description in descriptions:
                ranked.pop(0)
            if ranked and len(found) < count:
                descriptions.add(units[ranked[0]].description)
                found.append(ranked.pop(0))
    return [units[k].case for k in sorted(found)] or [d.case for d in units[:count]]


def _expanded(target: str, known: Mapping[str, Sequence[tuple[int, int]]]) -> list[str]:
    """Write a target as LAYER:FIRST-LAST, several where the units of a whole layer have gaps."""
    found = _RANGE.fullmatch(target)
    if target in known or not found:
        _check_layer(target, known, "")
        return [f"{target}:{first}-{last}" for first, last in known[target]]
    first = int(found["first"])
    last = int(found["last"] or first)
    if last < first:
        raise InputError(f"--target {target}: expected LAYER:FIRST-LAST in ascending order")
    _check(found["layer"], first, last, known, "")
    return [f"{found['layer']}:{first}-{last}"]


def _cases(target: str) -> list[UnitCase]:
    layer, _, numbers = target.rpartition(":")
    first, _, last = numbers.partition("-")
    return [own_case(layer, unit) for unit in range(int(first), int(last) + 1)]


def _read_table(file: Path) -> list[UnitCase]:
    if file.suffix.lower() != ".csv":
        raise InputError(f"{file}: milan describes units: expected a table (.csv) of layer and unit, or --target")
    columns, rows = csv_rows(file)
    if missing := [name for name in ("layer", "unit") if name not in columns]:
        raise InputError(f"{file}: has no column {missing[0]}; it has {', '.join(columns) or 'none'}")
    if not rows:
        raise InputError(f"{file}: holds no rows")
    for line, row in enumerate(rows, start=2):
        if not re.fullmatch(r"\d{1,9}", (row["unit"] or "").strip()):
            raise InputError(f"{file}, line {line}: expected the number of a unit, got {row['unit']!r}")
    return [own_case((row["layer"] or "").strip(), int(row["unit"])) for row in rows]


def _check_layer(layer: str, known: Mapping[str, Any], where: str) -> None:
    if layer not in known:
        near = closest(layer, known) or list(known)[:5]
        raise InputError(
            f"{where}there is no layer {layer!r} in this version; expected LAYER or LAYER:UNIT with a layer such as "
            f"{', '.join(near)}"
        )


def _check(layer: str, first: int, last: int, known: Mapping[str, Sequence[tuple[int, int]]], where: str) -> None:
    """Raise InputError unless the units from `first` to `last` are all registered."""
    _check_layer(layer, known, where)
    unit = first
    for low, high in known[layer]:
        if low <= unit <= high:
            unit = min(high, last) + 1
    if unit <= last:
        ranges = ", ".join(f"{low} to {high}" if high > low else f"{low}" for low, high in known[layer][:5])
        raise InputError(f"{where}layer {layer} has no unit {unit} in this version; expected {ranges}")


OTHERS = 2


def describe(records: Sequence[dict]) -> RenderableType:
    """One line for each unit: its description, how sure that is, and the next best descriptions; a table a version."""
    versions = list(dict.fromkeys(record.get("version", "") for record in records))
    parts: list[RenderableType] = []
    for version in versions:
        table = Table(box=None, header_style="dim", padding=(0, 1, 0, 2))
        table.add_column("", no_wrap=True)
        table.add_column("description")
        table.add_column("score", justify="right", no_wrap=True)
        table.add_column("PMI", justify="right", no_wrap=True)
        table.add_column("or")
        for record in records:
            if record.get("version", "") == version:
                others = "; ".join(entry["text"] for entry in record["alternatives"][:OTHERS])
                numbers = (f"{record['score']:.2f}", f"{record['pmi']:.2f}") if record["description"] else ("", "")
                text = escape(record["description"]) or "[dim]inactive[/dim]"
                table.add_row(escape(unit_name(record)), text, *numbers, f"[dim]{escape(others)}[/dim]")
        parts += [escape(version), table] if version else [table]
    return Group(*parts, "")


def rows_of(record: dict) -> list[dict]:
    """One row of a table for the unit."""
    return [{name: record[name] for name in COLUMNS}]


def explain_items(predict: Predict, items: Sequence[UnitCase]) -> list[dict[str, Any]]:
    """One record for each unit of evaluation data, with what it is known to be."""
    described = describe_cases(predict, items, {} if items[0].images is not None else EXEMPLARS)
    return [record_of(unit) | {"truth": sorted(unit.case.truth or ())} for unit in described]


def shown(record: dict) -> tuple[Shown, Shown]:
    """The first exemplars of the unit, bright where it is active, and its descriptions."""
    images = []
    for image, mask in list(zip(record["images"], record["masks"], strict=True))[:EXEMPLARS_SHOWN]:
        pixels = np.moveaxis(np.asarray(image_of(image)), -1, 0)[None]
        inside = (np.asarray(image_of(mask).convert("L")) > 127).astype(np.uint8)[None, None]
        images.append(("", image_text(png_bytes(Image.fromarray(shaded(pixels, inside)[0])))))
    truth = f"known to be: {', '.join(record['truth'])}" if record.get("truth") else ""
    said = record["description"] or "inactive"
    others = tuple((entry["text"], entry["score"]) for entry in record["alternatives"][:OTHERS])
    return Shown(tuple(images), truth), Shown(text=said, bars=others, gist=said)


PRESENTER = Presenter(
    views=VIEWS,
    suffixes=SUFFIXES,
    check_request=check_request,
    records=explain_request,
    describe=describe,
    save=save_records,
    rows=rows_of,
    explain_items=explain_items,
    shown=shown,
    beside=True,
)
