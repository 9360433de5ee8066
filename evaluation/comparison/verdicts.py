"""Sentences that say which version is better on what, and by how much, beyond chance."""

from collections.abc import Sequence
from dataclasses import dataclass

from conceptry.evaluation.comparison.compared import ComparedVersions
from conceptry.evaluation.intervals import Difference
from conceptry.registry.versions import Version

CHAMPION = "champion"
MOST = 4  # metrics of one kind in a sentence


@dataclass(frozen=True)
class Verdict:
    """How a version differs from the one it is held against, on the headline metrics: by how much it is better, worse.

    better, worse: metrics with their amount; same: metrics on which chance explains the difference.
    """

    version: Version
    reference: Version
    better: tuple[tuple[str, str], ...]
    worse: tuple[tuple[str, str], ...]
    same: tuple[str, ...]


def reference_of(versions: Sequence[Version]) -> Version:
    """The version that the others are held against: the champion, else one with another alias, else the first."""
    return min(versions, key=lambda v: (CHAMPION not in v.aliases, not v.aliases, versions.index(v)))


def verdicts(compared: ComparedVersions) -> list[Verdict]:
    """A verdict on each measured version but the reference, in their order."""
    comparison = compared.comparison
    measured = [v for v in comparison.versions if comparison.key(v) in compared.samples]
    if len(measured) < 2:
        return []
    reference = reference_of(measured)
    found = []
    for version in measured:
        if version is reference:
            continue
        differences = compared.differences(comparison.key(version), comparison.key(reference))
        kinds: tuple[list, list, list] = [], [], []
        for name in compared.shown_metrics():
            read = compared.metric(name)
            if name in differences and read.better is not None:
                difference = differences[name]
                if difference.beyond_chance:
                    worse = (difference.mean > 0) != (read.better == "higher")
                    kinds[worse].append((name, amount(difference, read.format)))
                else:
                    kinds[2].append(name)
        found.append(Verdict(version, reference, *map(tuple, kinds)))
    return found


def amount(difference: Difference, form: str) -> str:
    """A difference without its direction, with its interval: "0.08 [0.04, 0.12]"."""
    found = difference if difference.mean >= 0 else difference.reversed
    return f"{legible(found.mean, form)} [{legible(found.low, form)}, {legible(found.high, form)}]"


def legible(value: float, form: str) -> str:
    """A value as its metric is printed, with one more digit where that would be 0."""
    text = f"{value:{form}}"
    return f"{value:.1g}" if value and not float(text.replace(",", "")) else text
