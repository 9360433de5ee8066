"""From options, or from an explainer object, to a registered version, once.

Order of events: build in a temporary folder, look for the fingerprint, log everything to a run, and only then create
the version with all of its tags in one call. A process killed on the way leaves at most an unfinished run with its
logged model, which bear the mark of their process; `remains` finds them.
"""

import io
import re
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.models import Model, ModelSignature

from conceptry.models.errors import InputError
from conceptry.models.manifest import PACKAGE
from conceptry.models.method import Package, load_method, make_options
from conceptry.registry import tags as t
from conceptry.registry.descriptions import describe_version
from conceptry.registry.integrity import digests_of, fetched
from conceptry.registry.packaging import StagedPackage, pinned, stage_package
from conceptry.registry.recorded import Recorded, log_recorded
from conceptry.registry.store import connect, ensure_experiment, name_lock
from conceptry.registry.versions import Version, find_version, list_versions

Write = Callable[[Path], Package]
"""Writes a package folder and says what is in it."""


@dataclass(frozen=True)
class Registration:
    """The version, whether this call created it (else it existed already), and notes on how it works."""

    version: Version
    created: bool
    notes: tuple[str, ...] = ()


def register(
    method: str,
    options: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    max_work: int | None = None,
) -> Registration:
    """Register an explainer of `method` with `options` as the next version of the model `name` (default: the method).

    A version with equal artifacts, hyperparameters and code is not registered twice: the existing one is returned.

    Args:
        method: "splice", "harsanyi", "perturbation" or "milan".
        options: those of `conceptry register METHOD`, with underscores: `{"encoder": "zoo:emoji", "l1_penalty": 0.2}`.
        name: of the registered model.
        description: of the version, in Markdown; by default it says what is explained, by what, and how it scores.
        max_work: the most that a server of the version does for one request, in the unit of the method's `Work`.

    Returns:
        The version, whether this call created it, and notes on how it works.

    Raises:
        InputError: for unknown methods, options and values; nothing is stored then.
    """
    explainer = load_method(method)
    name = _checked_name(name or method)
    connect()  # before the package is built: an explained model may come from the same store
    with stage_package(
        explainer, partial(explainer.build, make_options(explainer, options or {})), max_work
    ) as package:
        return register_package(package, name, description)


def register_package(
    package: StagedPackage, name: str, description: str | None = None, logged_name: str | None = None
) -> Registration:
    """Register a staged package as the next version of `name`, or find the version that it equals.

    logged_name: name of its logged model, by default `name` with the start of the version's fingerprint.
    """
    name = _checked_name(name)
    client = connect()
    notes = tuple(package.about.notes)
    equal = _equal_version(package, name)
    if equal is None:
        signature = _check_example(package)  # takes seconds, in which another process may register the same
        with name_lock(name):
            equal = _equal_version(package, name)
            if equal is None:
                created = _create(client, package, signature, name, description, logged_name)
                return Registration(created, True, notes)
    with name_lock(name):  # whoever creates it just now has done so by then
        _complete(client, equal, package.about, description)
    return Registration(equal, False, notes)


def _equal_version(package: StagedPackage, name: str) -> Version | None:
    """The version of `name` that equals the package. Raises InputError where the versions are of another method."""
    for version in list_versions(name):
        if version.method != package.method.name:
            raise InputError(f"{name} holds versions of the method {version.method}; choose another name")
        if version.fingerprint == package.fingerprint:
            return version
    return None


def log_package(package: StagedPackage, run: Run, name: str | None = None) -> str:
    """Log a staged package to `run` without registering it; return the logged model's URI."""
    return _log_model(connect(), package, _check_example(package), run, name)


def save_package(package: StagedPackage, path: Path) -> None:
    """Save a staged package as an MLflow model in the new folder `path`."""
    import mlflow.pyfunc

    mlflow.pyfunc.save_model(path, **_model_arguments(package, _check_example(package)))


def _check_example(package: StagedPackage) -> ModelSignature:
    """The signature of the package. One that cannot be read back, or cannot answer its own example, is never logged."""
    from conceptry.models.devices import resolve_device  # imports torch, which the other commands do without

    explainer = package.method.explainer_class()(package.manifest_sha256)
    explainer.load(package.directory, resolve_device("auto"))
    explainer.explain(pd.DataFrame(dict(package.about.example)), {})
    return explainer.signature


def _create(
    client: MlflowClient,
    package: StagedPackage,
    signature: ModelSignature,
    name: str,
    description: str | None,
    logged_name: str | None,
) -> Version:
    experiment = ensure_experiment(client, f"conceptry/{name}")
    shown = {t.METHOD: package.method.name} | t.shown_tags(package.about.tags, package.about.params)
    run = client.create_run(
        experiment.experiment_id,
        run_name=f"{name} {package.fingerprint[:8]}",
        tags=shown | {t.FINGERPRINT: package.fingerprint} | t.owner_tag(),
    )
    run_id = run.info.run_id
    try:
        for key, value in package.about.params.items():
            client.log_param(run_id, key, value)
        model_uri = _log_model(client, package, signature, run, logged_name or f"{name}-{package.fingerprint[:8]}")
        recorded = Recorded(
            package.fingerprint,
            package.manifest_sha256,
            package.code_sha256,
            artifact=digests_of(fetched(model_uri.removeprefix("models:/"))),
            files=package.digests(),
            lineage=dict(package.about.tags),
        )
        tags = shown | {t.RECORDED: log_recorded(client, run_id, recorded)}
        # MLflow prints what it did to standard error; the caller says it in its own words.
        with redirect_stderr(io.StringIO()):
            created = mlflow.register_model(model_uri, name, tags=tags)
        version = find_version(f"models:/{name}/{created.version}")
        client.update_run(run_id, name=f"{name} v{version.version}")
        describe_version(client, version, package.about, description)
    except BaseException:
        with suppress(Exception):  # where it is the store that fails, what comes first is what counts
            client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")
    return version


def _complete(client: MlflowClient, version: Version, about: Package, description: str | None) -> None:
    """Do what a process did not come to that was killed when it had created the version."""
    run = client.get_run(version.run_id)
    if run.info.status == "RUNNING" and t.is_owner_alive(run.data.tags) is False:
        client.set_terminated(version.run_id, "FINISHED")
    if not client.get_model_version(version.name, str(version.version)).description:
        describe_version(client, version, about, description)


def _log_model(
    client: MlflowClient, package: StagedPackage, signature: ModelSignature, run: Run, name: str | None
) -> str:
    """Log the pyfunc to `run` whatever run or experiment the caller has active; returns the logged model's URI."""
    import mlflow.pyfunc

    name = name or package.method.name
    logged = client.create_logged_model(
        run.info.experiment_id,
        name=name,
        source_run_id=run.info.run_id,
        params={key: str(value) for key, value in package.about.params.items()},
        tags={t.METHOD: package.method.name, t.FINGERPRINT: package.fingerprint} | t.owner_tag(),
    )
    Model.log(
        artifact_path=None,
        flavor=mlflow.pyfunc,
        name=name,
        model_id=logged.model_id,
        run_id=run.info.run_id,
        **_model_arguments(package, signature),
    )
    return f"models:/{logged.model_id}"


def _model_arguments(package: StagedPackage, signature: ModelSignature) -> dict[str, Any]:
    """What MLflow's pyfunc flavor is told of the model, whether it is saved or logged."""
    return {
        "python_model": str(package.entry),
        "artifacts": {PACKAGE: str(package.directory)},
        "model_config": {"device": "auto", "max_work": package.max_work},
        "code_paths": [str(package.code / "conceptry")],
        "signature": signature,
        "input_example": pd.DataFrame(dict(package.about.example)),
        "pip_requirements": pinned(package.about.requirements),
        "metadata": {t.METHOD: package.method.name, t.MANIFEST: package.manifest_sha256},
    }


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
        raise InputError(f"a model name is made of letters, digits, '.', '_' and '-' (at most 128), got {name!r}")
    return name
