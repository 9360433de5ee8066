"""What was recorded of a version when it was registered: the digests of its files and code, and where it comes from.

It is a JSON file among the artifacts of the version's run. The version has the SHA-256 of that file as a tag, so that
neither the file nor anything that it covers can change unnoticed. Versions of earlier releases have all of it as tags.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from conceptry.models.errors import IntegrityError
from conceptry.models.folders import temporary_folder
from conceptry.models.manifest import read_json, sha256_file, write_json
from conceptry.registry import tags as t

FOLDER, FILE = "registration", "recorded.json"


@dataclass(frozen=True)
class Recorded:
    """Digests (SHA-256) and lineage of a version.

    manifest_sha256: of the package's manifest; code_sha256: of the code it carries; artifact: of each file and folder
    at the top of the logged model; files: of each file of the package; lineage: what the version was made of, by name.
    code_sha256 and artifact are None for versions from before they were recorded.
    """

    fingerprint: str
    manifest_sha256: str
    code_sha256: str | None
    artifact: Mapping[str, str] | None
    files: Mapping[str, str] = field(default_factory=dict)
    lineage: Mapping[str, str] = field(default_factory=dict)


def log_recorded(client: MlflowClient, run_id: str, recorded: Recorded) -> str:
    """Write the file to the run; returns its SHA-256."""
    with temporary_folder("record") as folder:
        path = folder / FILE
        write_json(path, asdict(recorded))
        client.log_artifact(run_id, str(path), FOLDER)
        return sha256_file(path)


def read_recorded(uri: str, run_id: str, tags: Mapping[str, str]) -> Recorded:
    """What was recorded of the version `uri`. Raises IntegrityError where its file is gone or has changed."""
    if t.RECORDED not in tags:
        artifact = tags.get(t.ARTIFACT)
        return Recorded(
            tags[t.FINGERPRINT],
            tags[t.MANIFEST],
            tags.get(t.CODE),
            None if artifact is None else json.loads(artifact),
            t.read_family(tags, t.FILE),
            t.read_lineage(tags),
        )
    from mlflow.artifacts import download_artifacts

    where = f"{uri}: {FOLDER}/{FILE} of its run {run_id}, which holds its digests,"
    with temporary_folder("record") as folder:
        try:
            path = Path(download_artifacts(run_id=run_id, artifact_path=f"{FOLDER}/{FILE}", dst_path=str(folder)))
        except (MlflowException, OSError):
            raise IntegrityError(
                f"{where} cannot be fetched from the MLflow store; delete the version, and register it again"
            ) from None
        if sha256_file(path) != tags[t.RECORDED]:
            raise IntegrityError(f"{where} has changed; do not run the version: delete it, and register it again")
        return Recorded(**read_json(path))
