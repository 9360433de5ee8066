"""The record of a described unit, and the table that keeps such records: descriptions.csv.

Its first three columns, layer, unit and description, are those of the original's tables, which are read too.
"""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from conceptry.evaluation.cells import original, write_rows
from conceptry.evaluation.drawing.strips import Strip
from conceptry.models.errors import InputError, plural
from conceptry.models.manifest import replacing

FILE = "descriptions.csv"
COLUMNS = (
    "layer", "unit", "description", "score", "log_likelihood", "pmi", "activation", "active", "alternatives"
)  # fmt: skip
SCORES = ("score", "log_likelihood", "pmi")


class Exemplars(Protocol):
    """Exemplars of a unit, see `conceptry.models.milan.exemplars.records.UnitExemplars`."""

    @property
    def images(self) -> np.ndarray: ...
    @property
    def masks(self) -> np.ndarray: ...
    @property
    def ids(self) -> np.ndarray | None: ...
    @property
    def activations(self) -> np.ndarray | None: ...


@dataclass(frozen=True)
class UnitDescription:
    """One unit: its description ("" if it is not `active`), how well that fits, and the next best descriptions.

    Attributes:
        layer, unit: the name of its layer and its number there.
        score: what ranked the description; None, like the other scores, where it is not known.
        log_likelihood: log p(description | exemplars).
        pmi: log_likelihood less log p(description).
        activation: activation of the unit on its strongest exemplar.
        alternatives: text and scores of each, the best first.
        exemplars: None where they are not at hand.
        strip: the exemplars drawn side by side, None where they are not.
    """

    layer: str
    unit: int
    description: str
    score: float | None = None
    log_likelihood: float | None = None
    pmi: float | None = None
    activation: float | None = None
    active: bool = True
    alternatives: tuple[Mapping[str, Any], ...] = ()
    exemplars: Exemplars | None = None
    strip: Strip | None = None

    @property
    def scores(self) -> dict[str, float]:
        """Scores by name as answers and tables of versions hold them: 0 where there is none."""
        return {name: getattr(self, name) or 0.0 for name in SCORES}

    @property
    def certainty(self) -> float:
        """How sure the description is: its log-likelihood, else its score, else its PMI, which favours odd texts."""
        for value in (self.log_likelihood, self.score, self.pmi):
            if value is not None:
                return value
        return float("-inf")


def number(value: object) -> float | None:
    """A finite float, or None for what is missing."""
    if value is None or value == "":
        return None
    found = float(value)  # type: ignore[arg-type]  # an error where it is no number
    return found if math.isfinite(found) else None


def write_descriptions(units: Iterable[UnitDescription], path: Path) -> None:
    """Write the table; a reader sees the old or the new one, never a part."""
    with replacing(path) as partial:
        write_rows(partial, COLUMNS, map(_row, units))


def read_descriptions(path: Path) -> list[UnitDescription]:
    """The units of a table with at least the columns layer, unit and description; layers stay text.

    Raises InputError, naming file and line, for a missing column, a unit that is no number, or a unit given twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            if missing := [name for name in COLUMNS[:3] if name not in (rows.fieldnames or ())]:
                raise InputError(f"{path}: has no column {missing[0]}; expected at least {', '.join(COLUMNS[:3])}")
            units = [_parsed(row, f"{path}, line {rows.line_num}") for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table of descriptions ({error})") from None
    seen: set[tuple[str, int]] = set()
    for unit in units:
        if (key := (unit.layer, unit.unit)) in seen:
            raise InputError(f"{path}: layer {unit.layer}, unit {unit.unit} is there twice")
        seen.add(key)
    return units


def table_at(path: Path, params: Mapping[str, Any]) -> Path:
    """The table of descriptions that `path` is, or that lies in that folder.

    Raises InputError where there is none, and where there are `params` of a search: it holds descriptions already.
    """
    if params:
        raise InputError(f"--params are of a search by a version; {path} holds descriptions already")
    table = path / FILE if path.is_dir() else path
    if not table.is_file():
        raise InputError(f"{path}: expected a folder with {FILE} in it, or such a table")
    return table


def summary(units: Sequence[UnitDescription]) -> str:
    """Counts in words: units, different descriptions, units that are never active."""
    active = [unit for unit in units if unit.active]
    distinct = len({unit.description for unit in active})
    text = f"{plural(len(units), 'unit')}, {plural(distinct, 'different description')}"
    dead = len(units) - len(active)
    return text + (f", {dead:,} never active" if dead else "")


def _row(unit: UnitDescription) -> list[object]:
    alternatives = json.dumps([_rounded(each) for each in unit.alternatives], ensure_ascii=False)
    scores = [_text(getattr(unit, name)) for name in (*SCORES, "activation")]
    return [unit.layer, unit.unit, unit.description, *scores, "true" if unit.active else "false", alternatives]


def _parsed(row: dict[str, str | None], where: str) -> UnitDescription:
    try:
        scores: dict[str, Any] = {name: number(row.get(name)) for name in (*SCORES, "activation")}
        alternatives = json.loads(row.get("alternatives") or "[]")
        unit = int(row["unit"] or "")
        if not isinstance(alternatives, list) or not all(isinstance(each, dict) for each in alternatives):
            raise ValueError
    except (ValueError, TypeError):
        raise InputError(
            f"{where}: expected numbers for unit and scores, a JSON list for alternatives, got {row}"
        ) from None
    description = original(row["description"] or "")
    active = (row.get("active") or str(bool(description))).lower() == "true"
    known: dict[str, Any] = {"active": active, "alternatives": tuple(alternatives)}
    return UnitDescription(original(row["layer"] or ""), unit, description, **scores, **known)


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _rounded(alternative: Mapping[str, Any]) -> dict[str, Any]:
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in alternative.items()}


def expect_version(uri: str) -> None:
    """Raises InputError where `uri`, which is no path that exists, is not the name of a version either."""
    if ("/" not in uri and "@" not in uri) or uri.endswith(".csv"):
        raise InputError(f"{uri}: no such folder or table of descriptions; a version is NAME/NUMBER or NAME@ALIAS")
