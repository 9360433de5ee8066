"""Turn options into a registered version, once.

Order of events: build in a temporary folder, look for the fingerprint, log everything to a run, and only then create
the version with all of its tags in one call. A process killed on the way leaves at most an unfinished run.
"""

import io
import re
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.models import Model, ModelSignature

from conceptry.models.errors import InputError
from conceptry.models.manifest import PACKAGE
from conceptry.models.method import Method, load_method, make_options
from conceptry.registry import tags as t
from conceptry.registry.packaging import Staged, pinned, staged
from conceptry.registry.store import connect, ensure_experiment, name_lock
from conceptry.registry.versions import Version, find_version, list_versions


@dataclass(frozen=True)
class Registration:
    """The version, whether this call created it (else the same one was there already), and notes on how it works."""

    version: Version
    created: bool
    notes: tuple[str, ...] = ()


def register(
    method: str,
    options: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
) -> Registration:
    """Register an explainer of `method` with `options` as the next version of the model `name` (default: the method).

    A version with equal artifacts, hyperparameters and code is not registered twice: the one there is returned.
    Raises InputError for unknown methods, options and values; nothing is stored then.
    """
    described = load_method(method)
    name = _checked_name(name or method)
    client = connect()  # before the package is built: an explained model may come from the same store
    with staged(described, make_options(described, options or {})) as package:
        signature = _check_example(described, package)
        notes = tuple(package.package.notes)
        with name_lock(name):
            for version in list_versions(name):
                if version.method != method:
                    raise InputError(f"{name} holds versions of the method {version.method}; choose another name")
                if version.fingerprint == package.fingerprint:
                    return Registration(version, False, notes)
            return Registration(_create(client, described, package, signature, name, description), True, notes)


def _check_example(method: Method, package: Staged) -> ModelSignature:
    """The signature of the package. One that cannot be read back, or cannot answer its own example, is never logged."""
    from conceptry.models.devices import resolve_device  # imports torch, which the other commands do without

    explainer = method.explainer_class()(package.manifest_sha256)
    explainer.load(package.directory, resolve_device("auto"))
    explainer.explain(pd.DataFrame(dict(package.package.example)), {})
    return explainer.signature


def _create(
    client: MlflowClient,
    method: Method,
    package: Staged,
    signature: ModelSignature,
    name: str,
    description: str | None,
) -> Version:
    experiment = ensure_experiment(client, f"conceptry/{name}")
    lineage = t.lineage_tags(package.package.tags)
    run = client.create_run(
        experiment.experiment_id,
        run_name=f"{name} {package.fingerprint[:8]}",
        tags={t.METHOD: method.name, t.FINGERPRINT: package.fingerprint, **lineage},
    )
    run_id = run.info.run_id
    try:
        for key, value in package.package.params.items():
            client.log_param(run_id, key, value)
        model_uri = _log_model(client, method, package, signature, run)
        digests = {f"{t.FILE}{path}": digest for path, digest in package.digests().items()}
        tags = {
            t.METHOD: method.name,
            t.FINGERPRINT: package.fingerprint,
            t.MANIFEST: package.manifest_sha256,
            t.CODE: package.code_sha256,
        }
        # MLflow prints what it did to standard error; the caller says it in its own words.
        with redirect_stderr(io.StringIO()):
            created = mlflow.register_model(model_uri, name, tags=tags | lineage | digests)
        if description:
            client.update_model_version(name, created.version, description)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")
    return find_version(f"models:/{name}/{created.version}")


def _log_model(client: MlflowClient, method: Method, package: Staged, signature: ModelSignature, run: Run) -> str:
    """Log the pyfunc to `run` whatever run or experiment the caller has active; returns the logged model's URI."""
    import mlflow.pyfunc

    logged = client.create_logged_model(
        run.info.experiment_id,
        name=method.name,
        source_run_id=run.info.run_id,
        params={key: str(value) for key, value in package.package.params.items()},
        tags={t.METHOD: method.name, t.FINGERPRINT: package.fingerprint},
    )
    Model.log(
        artifact_path=None,
        flavor=mlflow.pyfunc,
        name=method.name,
        model_id=logged.model_id,
        run_id=run.info.run_id,
        python_model=str(package.entry),
        artifacts={PACKAGE: str(package.directory)},
        model_config={"device": "auto"},
        code_paths=[str(package.code / "conceptry")],
        signature=signature,
        input_example=pd.DataFrame(dict(package.package.example)),
        pip_requirements=pinned(package.package.requirements),
        metadata={t.METHOD: method.name},
    )
    return f"models:/{logged.model_id}"


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
        raise InputError(f"a model name is made of letters, digits, '.', '_' and '-' (at most 128), got {name!r}")
    return name
