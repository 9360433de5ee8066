"""MLflow's own door: save, log and load explainers that were made in Python, as any flavor of MLflow does.

`register` builds a version from names; here an object becomes one: a `Splice` over one's own encoder, a `Milan` with a
describer just trained. Both ways end in the same package, with the same digests: equal explainers are one version.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import mlflow
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.models import Model, get_model_info

from conceptry.models.errors import InputError
from conceptry.models.manifest import PACKAGE, verify
from conceptry.models.method import METHODS, Method, Package, load_method
from conceptry.registry import tags as t
from conceptry.registry.integrity import verify as verify_version
from conceptry.registry.packaging import stage_package
from conceptry.registry.registration import log_package, register_package, save_package
from conceptry.registry.store import connect
from conceptry.registry.versions import find_version, warn_of_other_code

if TYPE_CHECKING:
    from mlflow.models.model import ModelInfo


class ConceptExplainer(Protocol):
    """What the explainers of all methods are: named by their `method`, and able to write their package folder."""

    method: ClassVar[str]

    def to_package(self, directory: Path) -> Package: ...


def save_model(explainer: ConceptExplainer, path: str | Path) -> None:
    """Save an explainer as an MLflow model in the folder `path`, which `mlflow models serve` and `load_model` take.

    Args:
        explainer: a `Splice`, `Harsanyi`, `Perturbation` or `Milan`.
        path: a folder that does not exist yet.

    Raises:
        InputError: for another object, an explainer that cannot be packaged (its sentence says why), and where
            something is at `path`.
    """
    path = Path(path)
    if path.exists():
        raise InputError(f"{path}: exists already; name a new folder")
    with stage_package(method_of(explainer), explainer.to_package) as package:
        save_package(package, path)


def log_model(
    explainer: ConceptExplainer,
    name: str | None = None,
    *,
    registered_model_name: str | None = None,
    description: str | None = None,
    max_work: int | None = None,
) -> "ModelInfo":
    """Log an explainer to MLflow and, where a name is given, register it as that model's next version.

    Args:
        explainer: a `Splice`, `Harsanyi`, `Perturbation` or `Milan`.
        name: name of the logged model; by default that of its method, for a registered version the registered name
            with the start of its fingerprint.
        registered_model_name: the registered model that gets a new version. A version with equal artifacts,
            hyperparameters and code is not registered twice: its info is returned then.
        description: description of the version.
        max_work: the most that a server of it does for one request, instead of what its method says.

    Returns:
        MLflow's info of the model: `model_uri` loads it, `registered_model_version` is its number. A registered version
        has a run of its own in the experiment `conceptry/NAME`; without a registered name the model belongs to the
        active run, or to a new one.

    Raises:
        InputError: for another object, and for an explainer that cannot be packaged (its sentence says why).
    """
    with stage_package(method_of(explainer), explainer.to_package, max_work) as package:
        if registered_model_name is not None:
            version = register_package(package, registered_model_name, description, name).version
            info = get_model_info(version.uri)
            info.registered_model_version = version.version
            return info
        if description is not None:
            raise InputError("a description belongs to a registered version; give registered_model_name as well")
        connect()
        active = mlflow.active_run()
        with nullcontext(active) if active else mlflow.start_run(tags=t.owner_tag()) as run:
            return get_model_info(log_package(package, run, name))


def load_model(uri: str | Path, device: str = "auto") -> Any:
    """Load a saved, logged or registered explainer as the object that it was made from; digests are checked.

    A CodeWarning says where a version carries other code than the conceptry installed here, which is what runs.

    Args:
        uri: `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `NAME/VERSION`, `NAME@ALIAS`, `models:/m-...`, `runs:/...`,
            or the folder that `save_model` wrote.
        device: auto, cpu, cuda or cuda:INDEX.

    Returns:
        A `Splice`, `Harsanyi`, `Perturbation` or `Milan`. For a table in and a table out, as a server answers, use
        `mlflow.pyfunc.load_model`.

    Raises:
        InputError: where there is no such model, or conceptry did not make it.
        ConceptryError: where a file is not what was registered.
    """
    from conceptry.models.devices import resolve_device

    manifest_sha256 = None
    if Path(uri).is_dir():
        folder = Path(uri)
    else:
        uri = str(uri)
        if not _is_unregistered(uri):
            version = find_version(uri)
            warn_of_other_code(version)
            verify_version(version)
            uri, manifest_sha256 = version.uri, version.recorded.manifest_sha256
        try:
            folder = Path(download_artifacts(uri))
        except (MlflowException, OSError) as error:
            raise InputError(f"{uri}: cannot be loaded ({error})") from None
    try:
        model = Model.load(folder)
    except (MlflowException, OSError):
        raise InputError(f"{uri}: is no folder of an MLflow model") from None
    metadata = model.metadata or {}
    if t.METHOD not in metadata:
        raise InputError(f"{uri}: was not made by conceptry")
    package = folder / model.flavors["python_function"]["artifacts"][PACKAGE]["path"]
    verify(package, manifest_sha256 or metadata[t.MANIFEST])
    return load_method(metadata[t.METHOD]).read(package, resolve_device(device))


def method_of(explainer: object) -> Method:
    """The method of an explainer object. Raises InputError for anything else."""
    name = getattr(explainer, "method", None)
    if name not in METHODS or not hasattr(explainer, "to_package"):
        got = type(explainer).__name__
        raise InputError(f"expected an explainer (Splice, Harsanyi, Perturbation or Milan), got a {got}")
    return load_method(str(name))


def _is_unregistered(uri: str) -> bool:
    """Whether a URI names a logged model or an artifact, rather than a version of a registered model."""
    return uri.startswith(("models:/m-", "runs:/")) or "://" in uri
