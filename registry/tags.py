"""The tags that conceptry writes on runs, logged models, versions and registered models; spelled out here alone."""

import socket
from collections.abc import Mapping

from conceptry.models.folders import is_alive, process_mark

_PREFIX = "conceptry."
METHOD = f"{_PREFIX}method"
FINGERPRINT = f"{_PREFIX}fingerprint"
MANIFEST = f"{_PREFIX}manifest_sha256"
CODE = f"{_PREFIX}code_sha256"
ARTIFACT = f"{_PREFIX}artifact_sha256"  # of everything at the top of the logged model, as JSON
OWNER = f"{_PREFIX}owner"  # the process that writes a run or a logged model: its mark, @ and the name of its machine
FILE = f"{_PREFIX}sha256."  # + path of a file of the package
EVALUATION = f"{_PREFIX}evaluation."  # + start of a data set's digest
PROMOTION = f"{_PREFIX}promotion."  # + time

_IDENTITY = (METHOD, FINGERPRINT, MANIFEST, CODE, ARTIFACT, OWNER)
_FAMILIES = (FILE, EVALUATION, PROMOTION)


def lineage_tags(lineage: Mapping[str, str]) -> dict[str, str]:
    """Tags that say where a version comes from: {"explained_sha256": ...} with the names that the store knows."""
    return {f"{_PREFIX}{name}": value for name, value in lineage.items()}


def read_lineage(tags: Mapping[str, str]) -> dict[str, str]:
    """What `lineage_tags` wrote, among all tags of a version."""
    return {
        tag.removeprefix(_PREFIX): value
        for tag, value in tags.items()
        if tag.startswith(_PREFIX) and tag not in _IDENTITY and not tag.startswith(_FAMILIES)
    }


def read_family(tags: Mapping[str, str], family: str) -> dict[str, str]:
    """The values of the tags of one family, `FILE`, `EVALUATION` or `PROMOTION`, by what follows it, in order."""
    return {tag.removeprefix(family): tags[tag] for tag in sorted(tags) if tag.startswith(family)}


def owner_tag() -> dict[str, str]:
    """The tag that names this process, for what would be half done if it were killed now."""
    return {OWNER: f"{process_mark()}@{socket.gethostname()}"}


def is_owner_alive(tags: Mapping[str, str]) -> bool | None:
    """Whether the process goes on that `owner_tag` named; None where this machine cannot tell, or there is no tag."""
    mark, _, _ = tags.get(OWNER, "").partition("@")
    return is_alive(mark) if mark else None
