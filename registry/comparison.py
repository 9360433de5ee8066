"""Versions of one registered model side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from conceptry.models.errors import InputError
from conceptry.registry.versions import Version, list_versions


@dataclass(frozen=True)
class Comparison:
    """Versions, the hyperparameters in which they differ, and their metrics on one data set.

    data, digest: the data set that all evaluated versions share, the one measured last where there are several; None
    where they share none, and `scores` then holds what was measured last of each: not to be ranked.
    scores: metrics by version number; metrics: the name of every metric in it.
    """

    versions: tuple[Version, ...]
    differing: tuple[str, ...]
    data: str | None
    digest: str | None
    scores: dict[int, dict[str, float]]

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(sorted({key for scores in self.scores.values() for key in scores}))

    @property
    def comparable(self) -> bool:
        """Whether the scores come from one data set."""
        return self.digest is not None or sum(map(bool, self.scores.values())) < 2


def compare(name: str, numbers: Sequence[int] = ()) -> Comparison:
    """Compare all versions of `name`, or those of `numbers`. Raises InputError for a version that is not there."""
    versions = list_versions(name)
    if not versions:
        raise InputError(f"{name}: conceptry has registered no version of that name here")
    if numbers:
        by_number = {v.version: v for v in versions}
        if missing := [n for n in numbers if n not in by_number]:
            known = ", ".join(map(str, by_number))
            raise InputError(f"{name} has no version {missing[0]}; versions: {known}")
        versions = [by_number[n] for n in dict.fromkeys(numbers)]
    keys = dict.fromkeys(key for v in versions for key in v.params)
    differing = tuple(key for key in keys if len({v.params.get(key) for v in versions}) > 1)
    return on_shared_data(tuple(versions), differing)


def on_shared_data(versions: tuple[Version, ...], differing: tuple[str, ...]) -> Comparison:
    """The comparison on the newest data set that all evaluated versions were measured on."""
    evaluated = [v for v in versions if v.measured]
    newest_first = sorted((m for v in evaluated for m in v.measured), key=lambda m: m.at, reverse=True)
    for candidate in newest_first:
        if candidate.digest and all(v.metrics_on(candidate.digest) for v in evaluated):
            scores = {v.version: v.metrics_on(candidate.digest) for v in versions}
            return Comparison(versions, differing, candidate.data, candidate.digest, scores)
    return Comparison(versions, differing, None, None, {v.version: v.metrics for v in versions})
