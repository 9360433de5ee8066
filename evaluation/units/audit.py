"""Audit a network: which of its units are described by given words, and how many they are beside another network's.

| term | meaning |
|---|---|
| audited | a registered version, a folder that `conceptry describe` wrote, or a table of layer, unit, description |
| match | a unit whose description holds any of the words, see `conceptry.models.milan.words` |
| share | matches among all units of a layer, those that are never active included |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conceptry.evaluation.cells import write_rows
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.milan.client import describe_own_units
from conceptry.evaluation.units.folder import read_folder
from conceptry.evaluation.units.html.unit import with_strip
from conceptry.evaluation.units.records import UnitDescription, read_descriptions, table_at
from conceptry.evaluation.units.sources import registered_units
from conceptry.models.errors import closest
from conceptry.models.milan.words import FUNCTION_WORDS, matching_words, word_counts
from conceptry.registry.versions import Version

COLUMNS = ("audited", "layer", "unit", "description", "score", "pmi", "words")


@dataclass(frozen=True)
class Match:
    """A unit, with its strip where exemplars are at hand, and the words that its description holds."""

    unit: UnitDescription
    words: tuple[str, ...]


@dataclass(frozen=True)
class Audit:
    """The units of one network that match.

    Attributes:
        title, about: what was audited.
        units: the number of units of each layer, in order.
        matches: in the order of layers and units.
        vocabulary: the words of all its descriptions.
    """

    title: str
    about: str
    units: Mapping[str, int]
    matches: Sequence[Match]
    vocabulary: frozenset[str]

    def count(self, layer: str | None = None, word: str | None = None) -> int:
        """Count the units that match, of one layer or all, by one word or any."""
        fits = (layer is None or m.unit.layer == layer for m in self.matches)
        return sum(fit and (word is None or word in m.words) for fit, m in zip(fits, self.matches, strict=True))

    def share(self, layer: str | None = None) -> float:
        """The share of units that match, from 0 to 1, of one layer or of all."""
        total = self.units.get(layer, 0) if layer is not None else sum(self.units.values())
        return self.count(layer) / total if total else 0.0


def audit_version(
    predict: Predict, version: Version, words: Sequence[str], params: Mapping[str, Any], exemplars: bool = True
) -> Audit:
    """Describe all units of a version, and ask for the exemplars of those that match, unless `exemplars` is false."""
    numbers = registered_units(version)
    wanted = [(layer, unit) for layer, own in numbers.items() for unit in own]
    units = list(describe_own_units(predict, wanted, params, exemplars=False))
    matches = find_matches(units, words)
    if exemplars:
        again = describe_own_units(predict, [(m.unit.layer, m.unit.unit) for m in matches], params, exemplars=True)
        matches = [Match(with_strip(unit), match.words) for unit, match in zip(again, matches, strict=True)]
    return _audit(version.uri.removeprefix("models:/"), version.params["model"], units, matches)


def audit_folder(
    path: Path, words: Sequence[str], params: Mapping[str, Any] | None = None, exemplars: bool = True
) -> Audit:
    """Audit a folder that `conceptry describe` wrote, or a table of descriptions, which has no exemplars.

    Raises InputError where it is neither.
    """
    units = read_descriptions(table_at(path, params or {}))
    matches = find_matches(units, words)
    if exemplars and (folder := read_folder(path)) is not None:
        units_drawn = folder.with_strips([match.unit for match in matches])
        matches = [Match(unit, match.words) for unit, match in zip(units_drawn, matches, strict=True)]
    name = path.resolve().name if path.is_dir() else path.name
    return _audit(name, str(path), units, matches)


def find_matches(units: Sequence[UnitDescription], words: Sequence[str]) -> list[Match]:
    """Units that `words` match, without exemplars."""
    found = [Match(unit, matching_words(unit.description, words)) for unit in units if unit.active]
    return [match for match in found if match.words]


def unknown_words(audits: Sequence[Audit], words: Sequence[str]) -> dict[str, list[str]]:
    """Words that no description holds, each with words of descriptions that are spelt like it."""
    vocabulary = sorted(frozenset().union(*(audit.vocabulary for audit in audits)) - FUNCTION_WORDS)
    missing = [word for word in words if not any(audit.count(word=word) for audit in audits)]
    return {word: closest(word.casefold(), vocabulary, cutoff=0.6) for word in missing}


def write_matches(audits: Sequence[Audit], path: Path) -> None:
    """Write a table of all matches: `COLUMNS`; the words are separated by "; "."""
    rows = []
    for audit in audits:
        for match in audit.matches:
            unit = match.unit
            scores = ["" if value is None else f"{value:.6g}" for value in (unit.score, unit.pmi)]
            rows.append([audit.title, unit.layer, unit.unit, unit.description, *scores, "; ".join(match.words)])
    write_rows(path, COLUMNS, rows)


def _audit(title: str, about: str, units: Sequence[UnitDescription], matches: Sequence[Match]) -> Audit:
    counts: dict[str, int] = {}
    for unit in units:
        counts[unit.layer] = counts.get(unit.layer, 0) + 1
    vocabulary = frozenset(word_counts((unit.description for unit in units), left_out=()))
    order = {layer: place for place, layer in enumerate(counts)}
    ordered = sorted(matches, key=lambda m: (order[m.unit.layer], m.unit.unit))
    return Audit(title, about, counts, ordered, vocabulary)
