"""Audit a network: which of its units are described by given words, and how many they are beside another network's.

| term | meaning |
|---|---|
| audited | a registered version, a folder that `conceptry describe` wrote, or a table of layer, unit, description |
| match | a unit whose description holds any of the words, see `conceptry.models.milan.words` |
| share | matches among all units of a layer, those that are never active included |
"""

import base64
import csv
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conceptry.evaluation.drawing.strips import CELL, Strip, strip
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.units.describe import RECORD, articles
from conceptry.evaluation.units.records import DescribedUnit, read_descriptions, table_at
from conceptry.evaluation.units.sources import ask, registered_units
from conceptry.models.manifest import read_json
from conceptry.models.milan.words import FUNCTION_WORDS, matched, word_counts

COLUMNS = ("audited", "layer", "unit", "description", "score", "pmi", "words")


@dataclass(frozen=True)
class Match:
    """A unit, the words that its description holds, and its exemplars where they are at hand."""

    unit: DescribedUnit
    words: tuple[str, ...]
    strip: Strip | None = None


@dataclass(frozen=True)
class Audit:
    """What was found in one network. title, about: what was audited; units: the number of units of each layer, in
    order; matches: in the order of layers and units; vocabulary: the words of all its descriptions."""

    title: str
    about: str
    units: Mapping[str, int]
    matches: Sequence[Match]
    vocabulary: frozenset[str]

    def count(self, layer: str | None = None, word: str | None = None) -> int:
        """How many units match, of one layer or all, by one word or any."""
        fits = (layer is None or m.unit.layer == layer for m in self.matches)
        return sum(fit and (word is None or word in m.words) for fit, m in zip(fits, self.matches, strict=True))

    def share(self, layer: str | None = None) -> float:
        """The share of units that match, from 0 to 1, of one layer or of all."""
        total = self.units.get(layer, 0) if layer is not None else sum(self.units.values())
        return self.count(layer) / total if total else 0.0


def audit_version(
    predict: Predict, version: Any, words: Sequence[str], params: Mapping[str, Any], pictures: bool = True
) -> Audit:
    """Describe all units of a version, and ask for the exemplars of those that match."""
    layers = registered_units(version)
    units = list(
        ask(predict, [(layer, n) for layer, numbers in layers.items() for n in numbers], params, exemplars=False)
    )
    matches = find_matches(units, words)
    if pictures:
        again = ask(predict, [(m.unit.layer, m.unit.unit) for m in matches], params, exemplars=True)
        matches = [Match(m.unit, m.words, _strip_of(unit)) for m, unit in zip(matches, again, strict=True)]
    return _audit(version.uri.removeprefix("models:/"), version.params["model"], units, matches)


def audit_folder(
    path: Path, words: Sequence[str], params: Mapping[str, Any] | None = None, pictures: bool = True
) -> Audit:
    """A folder that `conceptry describe` wrote, or a table of descriptions; a table has no exemplars.

    Raises InputError where it is neither.
    """
    units = read_descriptions(table_at(path, params or {}))
    matches = find_matches(units, words)
    if pictures and (path / RECORD).is_file():
        files = read_json(path / RECORD)["layers"]
        on_pages = {layer: articles(path / file) for layer, file in files.items() if (path / file).is_file()}
        matches = [Match(m.unit, m.words, _strip_in(on_pages.get(m.unit.layer, {}).get(m.unit.unit))) for m in matches]
    name = path.resolve().name if path.is_dir() else path.name
    return _audit(name, str(path), units, matches)


def find_matches(units: Sequence[DescribedUnit], words: Sequence[str]) -> list[Match]:
    """The units that `words` match, without exemplars."""
    found = [Match(unit, matched(unit.description, words)) for unit in units if unit.active]
    return [match for match in found if match.words]


def unknown_words(audits: Sequence[Audit], words: Sequence[str]) -> dict[str, list[str]]:
    """The words that no description holds, each with words that are spelt like it and are in one."""
    vocabulary = sorted(frozenset().union(*(audit.vocabulary for audit in audits)) - FUNCTION_WORDS)
    missing = [word for word in words if not any(audit.count(word=word) for audit in audits)]
    return {word: difflib.get_close_matches(word.casefold(), vocabulary, n=3, cutoff=0.6) for word in missing}


def write_matches(audits: Sequence[Audit], path: Path) -> None:
    """A table of all matches: `COLUMNS`; the words are separated by "; "."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for audit in audits:
            for match in audit.matches:
                unit = match.unit
                scores = ["" if value is None else f"{value:.6g}" for value in (unit.score, unit.pmi)]
                writer.writerow([audit.title, unit.layer, unit.unit, unit.description, *scores, "; ".join(match.words)])


def _audit(title: str, about: str, units: Sequence[DescribedUnit], matches: Sequence[Match]) -> Audit:
    counts: dict[str, int] = {}
    for unit in units:
        counts[unit.layer] = counts.get(unit.layer, 0) + 1
    vocabulary = frozenset(word_counts((unit.description for unit in units), left_out=()))
    order = {layer: place for place, layer in enumerate(counts)}
    ordered = sorted(matches, key=lambda m: (order[m.unit.layer], m.unit.unit))
    return Audit(title, about, counts, ordered, vocabulary)


def _strip_of(unit: DescribedUnit) -> Strip | None:
    return None if unit.exemplars is None else strip(unit.exemplars.images, unit.exemplars.masks, CELL)


def _strip_in(article: str | None) -> Strip | None:
    """The strip in the HTML of a unit."""
    found = re.findall(
        r'<img[^>]* width="(\d+)" height="(\d+)" data-k="(\d+)"[^>]* src="data:[^,]*,([^"]*)"', article or ""
    )
    if not found:
        return None
    width, height, k, picture = found[0]
    overlay = base64.b64decode(found[1][3]) if len(found) > 1 else None
    return Strip(base64.b64decode(picture), overlay, int(k), int(width) // int(k), int(height))
