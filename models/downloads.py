"""Files fetched from their authors' repositories when the user names one: pinned by SHA-256, atomic, cached."""

import hashlib
import logging
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from conceptry.models.errors import ConceptryError, IntegrityError
from conceptry.models.manifest import replace_atomically, sha256_file

logger = logging.getLogger(__name__)
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class RemoteFile:
    """A file of a public repository and the digest it must have."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def cache_directory() -> Path:
    """`$CONCEPTRY_CACHE`, or `conceptry` in the user's cache folder."""
    if configured := os.environ.get("CONCEPTRY_CACHE"):
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "conceptry"


def made_directory(directory: Path) -> Path:
    """`directory`, made where it is not there; ConceptryError that names the way out where it cannot be made."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConceptryError(
            f"{directory}: cannot be written ({error.strerror or error}); name a folder that can be by the variable "
            "CONCEPTRY_CACHE"
        ) from None
    return directory


def fetch(file: RemoteFile, directory: str | Path | None = None) -> Path:
    """The local path of `file`, downloaded at the first call into `directory`, or else the user's cache.

    Raises IntegrityError where the bytes that came do not have the pinned digest (nothing is kept), and
    ConceptryError where nothing came.
    """
    directory = cache_directory() if directory is None else Path(directory)
    target = directory / f"{file.sha256[:12]}-{file.name}"
    if target.is_file() and sha256_file(target) == file.sha256:
        return target
    logger.warning("downloading %s", file.url)
    try:
        with urllib.request.urlopen(file.url, timeout=TIMEOUT_SECONDS) as response:
            content = response.read()
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise ConceptryError(
            f"{file.url}: cannot be downloaded ({reason}); fetch it on a machine with network access and give its path"
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise IntegrityError(f"{file.url}: expected SHA-256 {file.sha256}, got {digest}; nothing was kept")
    made_directory(directory)
    replace_atomically(target, content)
    return target
