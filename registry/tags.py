"""The tags that conceptry writes on runs, logged models, versions and registered models; spelled out here alone.

MLflow's pages list all tags of a version, so those are for people: the method, what is explained, the vocabulary, the
rule that made it champion. Whatever else is known of a version is in files of its run (recorded.py), and one tag holds
the digest of that file.
"""

import socket
from collections.abc import Mapping

from conceptry.models.folders import is_alive, process_mark

_PREFIX = "conceptry."
METHOD = f"{_PREFIX}method"
FINGERPRINT = f"{_PREFIX}fingerprint"  # of runs and logged models
RECORDED = f"{_PREFIX}recorded_sha256"  # of the file that holds all digests of a version
RULE = f"{_PREFIX}rule."  # + alias: how the version was chosen for it
PROMOTION = f"{_PREFIX}promotion."  # + time

# In the MLmodel file, and on versions that were registered before there was a file of digests.
MANIFEST = f"{_PREFIX}manifest_sha256"
# Only on such versions.
CODE = f"{_PREFIX}code_sha256"
ARTIFACT = f"{_PREFIX}artifact_sha256"  # of everything at the top of the logged model, as JSON
OWNER = f"{_PREFIX}owner"  # the process that writes a run or a logged model: its mark, @ and the name of its machine
FILE = f"{_PREFIX}sha256."  # + path of a file of the package
EVALUATION = f"{_PREFIX}evaluation."  # + start of a data set's digest

CONTENT, DIGITS = "_digest", 8  # of hyperparameters: the end of the name of a content's digest, and its digits

_IDENTITY = (METHOD, FINGERPRINT, RECORDED, MANIFEST, CODE, ARTIFACT, OWNER)
_FAMILIES = (FILE, EVALUATION, PROMOTION, RULE)
_FOR_MACHINES = ("_sha256", "_id")  # ends of names in a lineage
_SHOWN = ("vocabulary",)  # hyperparameters that say what a version is about


def shown_tags(lineage: Mapping[str, str], params: Mapping[str, object]) -> dict[str, str]:
    """Tags that say to people what a version is made of."""
    named = {name: value for name, value in lineage.items() if not name.endswith(_FOR_MACHINES)}
    named |= {name: str(params[name]) for name in _SHOWN if name in params}
    return {f"{_PREFIX}{name}": value for name, value in named.items()}


def is_complete(tags: Mapping[str, str]) -> bool:
    """Whether conceptry has registered the version with these tags."""
    return METHOD in tags and (RECORDED in tags or {FINGERPRINT, MANIFEST} <= tags.keys())


def read_lineage(tags: Mapping[str, str]) -> dict[str, str]:
    """Where a version comes from, as tags had it before there was a file of digests: {"explained_sha256": ...}."""
    return {
        tag.removeprefix(_PREFIX): value
        for tag, value in tags.items()
        if tag.startswith(_PREFIX) and tag not in _IDENTITY and not tag.startswith(_FAMILIES)
    }


def read_family(tags: Mapping[str, str], family: str) -> dict[str, str]:
    """The values of the tags of one family, as `PROMOTION` or `RULE`, by what follows it, in order."""
    return {tag.removeprefix(family): tags[tag] for tag in sorted(tags) if tag.startswith(family)}


def owner_tag() -> dict[str, str]:
    """The tag that names this process, for what would be half done if it were killed now."""
    return {OWNER: f"{process_mark()}@{socket.gethostname()}"}


def is_owner_alive(tags: Mapping[str, str]) -> bool | None:
    """Whether the process goes on that `owner_tag` named; None where this machine cannot tell, or there is no tag."""
    mark, _, _ = tags.get(OWNER, "").partition("@")
    return is_alive(mark) if mark else None
