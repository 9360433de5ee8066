"""Versions of one registered model side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from conceptry.models.errors import InputError
from conceptry.registry.versions import Version, list_versions


@dataclass(frozen=True)
class Comparison:
    """versions, the hyperparameters in which they differ, and every metric that any of them has."""

    versions: tuple[Version, ...]
    differing: tuple[str, ...]
    metrics: tuple[str, ...]


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
    metrics = tuple(sorted({key for v in versions for key in v.metrics}))
    return Comparison(tuple(versions), differing, metrics)
