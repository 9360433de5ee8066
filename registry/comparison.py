"""Versions of one method side by side."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from conceptry.models.errors import ConceptryError, InputError
from conceptry.registry.tags import CONTENT, DIGITS
from conceptry.registry.versions import Version, find_version, list_versions


@dataclass(frozen=True)
class Comparison:
    """Versions, the hyperparameters in which they differ, and their metrics on one data set.

    data, digest: the data set that all evaluated versions share, the one measured last where there are several; None
    where they share none, and `scores` then holds what was measured last of each: not to be ranked.
    scores: metrics by `key` of the version; metrics: the name of every metric in it.
    """

    versions: tuple[Version, ...]
    differing: tuple[str, ...]
    data: str | None
    digest: str | None
    scores: dict[int | str, dict[str, float]]

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(sorted({key for scores in self.scores.values() for key in scores}))

    def key(self, version: Version) -> int | str:
        """What tells a version from the others: its number, or NAME/NUMBER where there are several names."""
        return _key(version, self.versions)

    def heading(self, version: Version) -> str:
        """The key as people read it."""
        return key if isinstance(key := self.key(version), str) else f"v{key}"

    @property
    def comparable(self) -> bool:
        """Whether the scores come from one data set."""
        return self.digest is not None or sum(map(bool, self.scores.values())) < 2


def compare(name: str, numbers: Sequence[int] = ()) -> Comparison:
    """Compare the versions of a registered model, by their hyperparameters and their metrics on one data set.

    Args:
        name: of the registered model.
        numbers: of the versions, in the order of the comparison; all of them by default.

    Raises:
        InputError: for a name or a version that is not there.
    """
    versions = list_versions(name)
    if not versions:
        raise InputError(f"{name}: conceptry has registered no version of that name here")
    if numbers:
        by_number = {v.version: v for v in versions}
        if missing := [n for n in numbers if n not in by_number]:
            known = ", ".join(map(str, by_number))
            raise InputError(f"{name} has no version {missing[0]}; versions: {known}")
        versions = [by_number[n] for n in dict.fromkeys(numbers)]
    return compare_versions(versions)


def versions_named(names: Sequence[str]) -> list[Version]:
    """Each version once; a name is NAME/NUMBER or NAME@ALIAS, or NAME for all of its versions."""
    found: dict[str, Version] = {}
    for name in names:
        one = "/" in name or "@" in name
        for version in [find_version(name)] if one else compare(name).versions:
            found[version.uri] = version
    return list(found.values())


def compare_versions(versions: Sequence[Version]) -> Comparison:
    """Compare versions of one method. Raises InputError where their methods differ."""
    first = versions[0]
    if other := [v for v in versions if v.method != first.method]:
        raise InputError(
            f"only versions of one method can be compared: {first.uri} is of {first.method}, "
            f"{other[0].uri} of {other[0].method}"
        )
    differing = differing_params(versions)
    if not differing and len({v.fingerprint for v in versions}) > 1:
        versions = [replace(v, params=v.params | _parts(v)) for v in versions]
        differing = differing_params(versions)
    return on_shared_data(tuple(versions), differing)


def differing_params(versions: Sequence[Version]) -> tuple[str, ...]:
    """Hyperparameters in which versions differ; the digest of a content where its name does not tell as much."""
    keys = dict.fromkeys(key for v in versions for key in v.params)
    differing = [key for key in keys if len({v.params.get(key) for v in versions}) > 1]

    def is_told(key: str) -> bool:
        names = [v.params.get(key.removesuffix(CONTENT)) for v in versions]
        digests = [v.params.get(key) for v in versions]
        return len(set(names)) == len(set(zip(names, digests, strict=True)))

    return tuple(key for key in differing if not (key.endswith(CONTENT) and is_told(key)))


def _parts(version: Version) -> dict[str, str]:
    """Digests that tell versions of equal hyperparameters apart: of the package, of its code, of all."""
    parts = {"fingerprint": version.fingerprint}
    with suppress(ConceptryError):  # of files that were changed since; `verify` says so
        parts = {"files": version.recorded.manifest_sha256, "code": version.recorded.code_sha256 or "unknown"} | parts
    return {name: digest[:DIGITS] for name, digest in parts.items()}


def on_shared_data(versions: tuple[Version, ...], differing: tuple[str, ...]) -> Comparison:
    """The comparison on the newest data set that all evaluated versions were measured on."""
    evaluated = [v for v in versions if v.measured]
    newest_first = sorted((m for v in evaluated for m in v.measured), key=lambda m: m.at, reverse=True)
    for candidate in newest_first:
        if candidate.digest and all(v.metrics_on(candidate.digest) for v in evaluated):
            return on_data(versions, candidate.data, candidate.digest, differing)
    return Comparison(versions, differing, None, None, {_key(v, versions): v.metrics for v in versions})


def on_data(
    versions: tuple[Version, ...], data: str | None, digest: str, differing: tuple[str, ...] = ()
) -> Comparison:
    """The comparison on one data set, whoever was measured on it."""
    return Comparison(versions, differing, data, digest, {_key(v, versions): v.metrics_on(digest) for v in versions})


def _key(version: Version, among: Sequence[Version]) -> int | str:
    several = len({v.name for v in among}) > 1
    return f"{version.name}/{version.version}" if several else version.version
