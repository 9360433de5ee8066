"""Every file of a registered version against what was recorded when it was registered: code and entry file, too.

The package of a version has a manifest, which the version itself checks when it is loaded. That is too late for its
code: what checks is what might have been changed. So the registry keeps a digest of each file and folder at the top of
the logged model, and whoever is about to run a version asks `verify` first.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from mlflow.exceptions import MlflowException

from conceptry.models.errors import IntegrityError
from conceptry.models.manifest import MLFLOW_META, PACKAGE, digest_of_files, files_in, sha256_file
from conceptry.models.manifest import verify as verify_package
from conceptry.registry.versions import Version

logger = logging.getLogger(__name__)


def digests_of(folder: Path) -> dict[str, str]:
    """SHA-256 by name of what lies in the folder of a logged model; of a folder over its files."""
    return {
        entry.name: digest_of_files(entry, files_in(entry)) if entry.is_dir() else sha256_file(entry)
        for entry in sorted(folder.iterdir())
        if entry.name != MLFLOW_META
    }


def fetched(model_id: str, destination: Path | None = None) -> Path:
    """The folder of a logged model: a copy in `destination`, or without one where its store keeps it, if that is here.

    Raises IntegrityError where it is gone.
    """
    from mlflow.artifacts import download_artifacts

    try:
        return Path(download_artifacts(f"models:/{model_id}", dst_path=destination and str(destination)))
    except (MlflowException, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise IntegrityError(
            f"models:/{model_id}: its files cannot be fetched from the MLflow store ({reason})"
        ) from None


def verify(version: Version) -> int:
    """Check all files of a version; returns their number.

    Raises:
        IntegrityError: naming the first file or folder that has changed, is missing, or was not there, and links.
    """
    return _check(version, fetched(version.model_id))


def checked_copy(version: Version, destination: Path) -> Path:
    """A copy of a version in the folder `destination`, whose files are those that were registered; raises as `verify`.

    What happens to the store after the check does not reach it.
    """
    copy = fetched(version.model_id, destination)
    _check(version, copy)
    return copy


def _check(version: Version, folder: Path) -> int:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise IntegrityError(
                f"{version.uri}: {path.relative_to(folder)} is a link, and a version holds files alone"
            )
    count = len(files_in(folder))
    recorded = version.recorded.artifact
    if recorded is None:
        logger.warning(
            "%s was registered before all of its files were recorded: its package alone is checked; register it again",
            version.uri,
        )
        return count
    present = digests_of(folder)
    if recorded.get("artifacts") != present.get("artifacts") and (folder / "artifacts" / PACKAGE).is_dir():
        verify_package(folder / "artifacts" / PACKAGE, version.recorded.manifest_sha256)  # which names the very file
    for name in sorted(recorded.keys() | present.keys()):
        if recorded.get(name) != present.get(name):
            raise IntegrityError(
                f"{version.uri}: {_difference(name, recorded, present, (folder / name).is_dir())}; do not run it: "
                "delete the version, and register it again"
            )
    return count


def _difference(name: str, recorded: Mapping[str, str], present: Mapping[str, str], is_folder: bool) -> str:
    if name not in present:
        return f"{name} is missing"
    if name not in recorded:
        return f"{name} is not part of the version as it was registered"
    if is_folder:
        return f"a file in {name} has changed, is missing or was added since the version was registered"
    return f"{name} has changed since the version was registered"
