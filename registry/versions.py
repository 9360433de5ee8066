"""Registered versions of explainers: find them, list them, load them.

Only what `register` finished counts: a version carries all of its tags (tags.py) from the moment it exists, and
versions of other makers, which lack them, are left out and refused.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from conceptry.models.errors import InputError
from conceptry.models.folders import temporary_folder
from conceptry.models.manifest import PACKAGE, read_json
from conceptry.registry import tags as t
from conceptry.registry.recorded import Recorded, read_recorded
from conceptry.registry.store import check_active, connect

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import PyFuncModel

_URI = re.compile(r"^(?:models:/)?(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@]+))$")


class CodeWarning(UserWarning):
    """A version runs with other code than its own."""


class BrokenVersionWarning(UserWarning):
    """The store holds a version of which a part is gone."""


@dataclass(frozen=True)
class Measured:
    """Metrics of one version on one data set; `digest` and `data` are None where a metric names no data set."""

    data: str | None
    digest: str | None
    metrics: dict[str, float]
    at: datetime


@dataclass(frozen=True)
class Version:
    """One registered version, with its hyperparameters and what was measured of it, oldest data set first."""

    name: str
    version: int
    method: str
    fingerprint: str
    aliases: tuple[str, ...]
    params: dict[str, str]
    measured: tuple[Measured, ...]
    tags: dict[str, str]
    created: datetime
    run_id: str
    model_id: str

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"

    @cached_property
    def recorded(self) -> Recorded:
        """Digests of its files and code. Raises IntegrityError where the file that holds them is not what it was."""
        return read_recorded(self.uri, self.run_id, self.tags)

    @property
    def lineage(self) -> Mapping[str, str]:
        """What the version was made of, by name: the explained model and its digest, the encoder, the describer."""
        return self.recorded.lineage

    @property
    def evaluations(self) -> dict[str, str]:
        """Records of evaluations as JSON, by the start of the data set's digest, where a former release tagged them."""
        return t.read_family(self.tags, t.EVALUATION)

    @property
    def latest(self) -> Measured | None:
        """What was measured last."""
        return self.measured[-1] if self.measured else None

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics on the data set that was measured last: never a mixture of several."""
        return self.latest.metrics if self.latest else {}

    def measured_on(self, data: str) -> Measured | None:
        """What was measured last on the data set of that name or digest."""
        return next((m for m in reversed(self.measured) if data in (m.digest, m.data)), None)

    def metrics_on(self, digest: str | None) -> dict[str, float]:
        """The metrics on one data set, empty where the version was not evaluated on it."""
        return next((m.metrics for m in self.measured if m.digest == digest), {})


def list_versions(name: str | None = None, method: str | None = None) -> list[Version]:
    """List registered versions, ordered by name and number.

    A version whose run or logged model is gone from the store is left out, with a BrokenVersionWarning that names it.

    Args:
        name: of the registered model; all of them by default.
        method: "splice", "harsanyi", "perturbation" or "milan"; all of them by default.
    """
    client = connect()
    kept = [v for v in _complete(client, name) if method in (None, v.tags[t.METHOD])]
    found = []
    for version in kept:
        try:
            found.append(_version(client, version))
        except InputError as error:
            warnings.warn(f"left out: {error}", BrokenVersionWarning, stacklevel=2)
    return sorted(found, key=lambda v: (v.name, v.version))


def versions_of(name: str) -> list[Version]:
    """The versions of one registered model. Raises InputError, which names the models there are, where it has none."""
    versions = list_versions(name)
    if not versions:
        known = ", ".join(registered_names()) or "none yet: conceptry register splice"
        raise InputError(f"no version of {name!r} is registered; there is {known}")
    return versions


def registered_names() -> list[str]:
    """The names that conceptry has registered versions under, in order."""
    return sorted({v.name for v in _complete(connect(), None)})


def find_version(uri: str) -> Version:
    """Find one version, with its hyperparameters and what was measured of it.

    Args:
        uri: `models:/NAME/NUMBER`, `models:/NAME@ALIAS`, `NAME/NUMBER` or `NAME@ALIAS`.

    Raises:
        InputError: where the form is another, where there is no such version, or conceptry did not register it.
    """
    match = _URI.match(uri)
    if not match:
        raise InputError(f"expected models:/NAME/NUMBER or models:/NAME@ALIAS, got {uri!r}")
    client, name = connect(), match["name"]
    try:
        if match["version"]:
            found = client.get_model_version(name, match["version"])
        else:
            found = client.get_model_version_by_alias(name, match["alias"])
    except MlflowException:
        raise InputError(_not_found(client, uri, name)) from None
    if not _is_complete(found):
        raise InputError(f"{uri} was not registered by conceptry")
    return _version(client, found)


def version_of_model(model_id: str) -> Version | None:
    """The first version whose logged model that is; None where it is of no version in this store."""
    client = connect()
    found = client.search_model_versions(f"source_path = 'models:/{_quotable(model_id)}'")
    complete = sorted((v for v in found if _is_complete(v)), key=lambda v: (v.name, int(v.version)))
    return _version(client, complete[0]) if complete else None


def load(uri: str, **model_config: Any) -> "PyFuncModel":
    """Load a version for `predict`, once the digests of all its files are checked.

    The code that runs is that of the conceptry installed here, since this process has imported it already; a
    CodeWarning says where the version carries other code. Where its own code is to run, load it with
    `mlflow.pyfunc.load_model` in a process that has not imported conceptry, as the harness and the server do.

    Args:
        uri: as `find_version` takes it.
        **model_config: overrides the version's configuration, as `device="cuda"`.

    Returns:
        MLflow's model: `predict(table, params=...)` gives a row for each row of the table.

    Raises:
        InputError: where there is no such version, or one of its files is not what was registered.
    """
    import mlflow.pyfunc

    from conceptry.registry.integrity import verify

    version: Any = find_version(uri)  # pyright knows this file by two names, one of them of the checkout
    warn_of_other_code(version)
    verify(version)
    return mlflow.pyfunc.load_model(version.uri, model_config=model_config or None)


def check_loggable(version: Version) -> None:
    """Raise InputError, with the way back, where nothing can be logged to the version's run, since it is deleted."""
    client = connect()
    run = client.get_run(version.run_id)
    check_active(client.get_experiment(run.info.experiment_id))
    if run.info.lifecycle_stage == LifecycleStage.DELETED:
        raise InputError(
            f"{version.uri}: its run {version.run_id} is deleted, so nothing can be logged to it; restore it by "
            f"mlflow runs restore --run-id {version.run_id}"
        )


def read_package_file(version: Version, file: str) -> dict[str, Any]:
    """A JSON file of a version's package, such as `explained/explained.json`; empty where there is none."""
    from mlflow.artifacts import download_artifacts

    with temporary_folder("file") as folder:
        try:
            path = download_artifacts(f"{version.uri}/artifacts/{PACKAGE}/{file}", dst_path=str(folder))
        except (MlflowException, OSError):
            return {}
        return read_json(Path(path))


def warn_of_other_code(version: Version) -> None:
    """Warn the caller's caller where a version that is about to run here carries other code than conceptry's own."""
    from conceptry.registry.packaging import code_digest

    if version.recorded.code_sha256 != code_digest():
        warnings.warn(
            f"{version.uri} was registered with other code than the conceptry installed here, which runs it now",
            CodeWarning,
            stacklevel=3,
        )


def _is_complete(version: ModelVersion) -> bool:
    return t.is_complete(version.tags) and version.status == "READY" and bool(version.run_id and version.source)


def _version(client: MlflowClient, found: ModelVersion) -> Version:
    """What the store holds of a version. Raises InputError that names it where its run or logged model is gone."""
    assert found.run_id is not None
    assert found.source is not None
    part = f"run {found.run_id}"
    try:
        run = client.get_run(found.run_id)
        part = "logged model"
        model_id = _model_id(found)
        measured = _measured(client, model_id)
    except (MlflowException, OSError) as error:
        if not _is_gone(error):
            raise
        raise InputError(
            f"models:/{found.name}/{found.version}: its {part} is gone from the store, deleted for good (mlflow gc); "
            "the other versions work; register it anew, and delete this one in the UI of MLflow"
        ) from None
    return Version(
        name=found.name,
        version=int(found.version),
        method=found.tags[t.METHOD],
        fingerprint=found.tags.get(t.FINGERPRINT) or run.data.tags[t.FINGERPRINT],
        aliases=tuple(sorted(_aliases(client, found))),
        params=dict(run.data.params),
        measured=measured,
        tags=dict(found.tags),
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        run_id=found.run_id,
        model_id=model_id,
    )


def _is_gone(error: Exception) -> bool:
    """Whether the store does not know what was asked for; anything else, such as no connection, is not that."""
    return isinstance(error, FileNotFoundError) or getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST"


def _model_id(found: ModelVersion) -> str:
    """The logged model behind a version; a copy of a version names that version as its source instead."""
    assert found.source is not None
    if found.source.startswith("models:/m-"):
        return found.source.removeprefix("models:/")
    from mlflow.models import get_model_info

    model_id = get_model_info(f"models:/{found.name}/{found.version}").model_id
    assert model_id is not None
    return model_id


def _measured(client: MlflowClient, model_id: str) -> tuple[Measured, ...]:
    """The newest value of each metric, by data set, the data set measured last at the end."""
    by_data: dict[tuple[str | None, str | None], dict[str, Metric]] = {}
    for metric in sorted(client.get_logged_model(model_id).metrics or [], key=lambda m: m.timestamp):
        by_data.setdefault((metric.dataset_name, metric.dataset_digest), {})[metric.key] = metric
    measured = [
        Measured(
            data,
            digest,
            {key: metric.value for key, metric in metrics.items()},
            datetime.fromtimestamp(max(metric.timestamp for metric in metrics.values()) / 1000, UTC),
        )
        for (data, digest), metrics in by_data.items()
    ]
    return tuple(sorted(measured, key=lambda m: m.at))


def _aliases(client: MlflowClient, found: ModelVersion) -> list[str]:
    aliases = client.get_registered_model(found.name).aliases
    return [alias for alias, number in aliases.items() if str(number) == str(found.version)]


def _complete(client: MlflowClient, name: str | None) -> list[ModelVersion]:
    """What the store holds of versions that conceptry has registered, of `name` or of all."""
    filters = f"name = '{_quotable(name)}'" if name else ""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(filters, page_token=token)
        found += page
        token = page.token
        if not token:
            return [v for v in found if _is_complete(v)]


def _not_found(client: MlflowClient, uri: str, name: str) -> str:
    try:
        model = client.get_registered_model(name)
    except MlflowException:
        return f"{uri}: no registered model {name!r}; there is {', '.join(registered_names()) or 'none yet'}"
    numbers = ", ".join(str(v.version) for v in list_versions(name)) or "none"
    return f"{uri}: no such version; versions: {numbers}; aliases: {', '.join(sorted(model.aliases)) or 'none'}"


def _quotable(name: str) -> str:
    if "'" in name:
        raise InputError(f"a model name holds no quotes, got {name!r}")
    return name


def check_known(uri: str, signature: "ModelSignature | None", given: Mapping[str, Any]) -> None:
    """Raise InputError for parameters that a version with that signature does not know."""
    known = [spec.name for spec in signature.params] if signature and signature.params else []
    if unknown := sorted(given.keys() - set(known)):
        raise InputError(f"{uri} has no parameter {unknown[0]!r}; expected one of {', '.join(known) or 'none'}")
