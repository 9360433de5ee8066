"""From files and targets on the command line to units, and from a version's answers to records.

A target is LAYER:UNIT, LAYER:FIRST-LAST, or LAYER for all of its units; a file is a table (.csv) of the columns layer
and unit. Of more units than a picture has room for, the clearest are drawn: those of the greatest log-likelihood, from
each layer in turn, no description twice.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conceptry.evaluation.data import csv_rows
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.milan.client import CaseDescription, UnitCase, describe_cases, own_case, record_of
from conceptry.evaluation.milan.data import own_ranges
from conceptry.models.errors import InputError

DRAWN = 20  # units that a picture has room for
CLEAREST = 8
ASKED = 256  # from which those are chosen: large networks have thousands
EXEMPLARS: Mapping[str, Any] = {"exemplars": True}
_RANGE = re.compile(r"(?P<layer>.+):(?P<first>\d{1,9})(?:-(?P<last>\d{1,9}))?")


def check_request(files: Sequence[Path], targets: Sequence[str], params: Mapping[str, str]) -> list[str]:
    """The units to describe, as targets LAYER:FIRST-LAST; where neither files nor targets are given, all units.

    Raises InputError for a file that is no table of units, and for layers and units that the version does not have.
    """
    known = own_ranges(params)
    for file in files:
        for line, case in enumerate(_read_table(file), start=2):
            _check(case.layer, case.unit, case.unit, known, f"{file}, line {line}: ")
    if not files and not targets:
        targets = list(known)
    return [name for target in targets for name in _expanded(target, known)]


def explain_request(
    predict: Predict, files: Sequence[Path], params: Mapping[str, Any], targets: Sequence[str]
) -> list[dict[str, Any]]:
    """One record for each unit, with its exemplars; of more than 20 units for the 8 clearest.

    Raises ConceptryError for what the version refuses.
    """
    cases = [case for file in files for case in _read_table(file)]
    cases += [case for target in targets for case in _cases(target)]
    if len(cases) > DRAWN:
        spread = range(0, len(cases), -(-len(cases) // ASKED))
        cases = clearest(describe_cases(predict, [cases[k] for k in spread], params))
    return [record_of(described) for described in describe_cases(predict, cases, {**EXEMPLARS, **params})]


def clearest(described: Sequence[CaseDescription], count: int = CLEAREST) -> list[UnitCase]:
    """The surest descriptions, from each layer in turn, no description twice; in the order they were asked."""
    layers: dict[str, list[int]] = {}
    for k, d in enumerate(described):
        if d.description:
            layers.setdefault(d.case.layer, []).append(k)
    for ranked in layers.values():
        ranked.sort(key=lambda k: -(described[k].log_likelihood or 0.0))
    chosen: list[int] = []
    said: set[str] = set()
    while len(chosen) < count and any(layers.values()):
        for ranked in layers.values():
            while ranked and described[ranked[0]].description in said:
                ranked.pop(0)
            if ranked and len(chosen) < count:
                said.add(described[ranked[0]].description)
                chosen.append(ranked.pop(0))
    return [described[k].case for k in sorted(chosen)] or [d.case for d in described[:count]]


def _expanded(target: str, known: Mapping[str, Sequence[tuple[int, int]]]) -> list[str]:
    """A target as LAYER:FIRST-LAST, several where the units of a whole layer have gaps."""
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
        near = difflib.get_close_matches(layer, known, n=3, cutoff=0.4) or list(known)[:5]
        raise InputError(
            f"{where}there is no layer {layer!r} in this version; expected LAYER or LAYER:UNIT with a layer such as "
            f"{', '.join(near)}"
        )


def _check(layer: str, first: int, last: int, known: Mapping[str, Sequence[tuple[int, int]]], where: str) -> None:
    """Raises InputError unless the units from `first` to `last` are all registered."""
    _check_layer(layer, known, where)
    unit = first
    for low, high in known[layer]:
        if low <= unit <= high:
            unit = min(high, last) + 1
    if unit <= last:
        ranges = ", ".join(f"{low} to {high}" if high > low else f"{low}" for low, high in known[layer][:5])
        raise InputError(f"{where}layer {layer} has no unit {unit} in this version; expected {ranges}")
