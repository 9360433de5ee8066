"""The MLflow store in use: one client, a sqlite file created safely, experiments found or made.

Which store it is, is MLflow's affair: MLFLOW_TRACKING_URI, `mlflow.set_tracking_uri`, or `mlflow.db` in the current
folder.
"""

import errno
import hashlib
import re
from contextlib import suppress
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException

from conceptry.models.downloads import cache_directory, made_directory
from conceptry.models.errors import InputError
from conceptry.models.manifest import replacing

# Without this tag the UI opens an experiment as one of generative AI, and hides runs and models.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
_opened: set[tuple[str, int]] = set()  # databases whose tables this process has seen: URI and number of the file


def connect() -> MlflowClient:
    """A client of the store in use, whose tables exist.

    Several processes that open a fresh sqlite file at once break it for good, so the first touch happens under a
    lock beside the file.
    """
    for uri in {mlflow.get_tracking_uri(), mlflow.get_registry_uri()}:
        if uri.startswith("sqlite:///") and ":memory:" not in uri:
            database = Path(uri.removeprefix("sqlite:///"))
            if database.exists() and (uri, database.stat().st_ino) in _opened:
                continue
            try:
                database.parent.mkdir(parents=True, exist_ok=True)
                with FileLock(f"{database}.lock"):
                    if not database.exists() or not database.stat().st_size:
                        with replacing(database) as partial:  # a process that ends while tables are made leaves none
                            _make_tables(f"sqlite:///{partial}")
                    _make_tables(uri)
                _opened.add((uri, database.stat().st_ino))
            except OSError:  # no lock can be had: what can only be read has its tables
                if not database.is_file():
                    raise
    return MlflowClient()


def _make_tables(uri: str) -> None:
    """Have MLflow make the tables of a store, those that are missing: each half of a client makes its own."""
    client = MlflowClient(uri, uri)
    client.search_experiments(max_results=1)
    client.search_registered_models(max_results=1)


def ensure_experiment(client: MlflowClient, name: str) -> Experiment:
    """The experiment called `name`, made if it is missing. Raises InputError where it is deleted."""
    found = client.get_experiment_by_name(name)
    if found is None:
        with suppress(MlflowException):  # somebody else made it in between; anything else wrong shows below
            client.create_experiment(name, tags=EXPERIMENT_TAGS)
        found = client.get_experiment_by_name(name)
    assert found is not None
    return check_active(found)


def check_active(experiment: Experiment) -> Experiment:
    """The experiment; InputError where it lies among the deleted ones, where runs cannot be logged to it."""
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        raise InputError(
            f"the experiment {experiment.name!r} is deleted, so nothing can be logged to it; restore it by "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}, or choose another name"
        )
    return experiment


def name_lock(name: str) -> FileLock:
    """A lock over one registered model, for the processes of this user on this machine.

    It makes "look for the version, create it if missing" one step. A remote store has no lock to offer: two machines
    that register the same version at the same moment get two versions with one fingerprint.
    """
    key = hashlib.sha256(f"{mlflow.get_registry_uri()}\n{name}".encode()).hexdigest()[:16]
    directory = made_directory(cache_directory() / "locks")
    return FileLock(directory / f"{key}.lock")


def refusal(error: BaseException) -> str | None:
    """What a store, its database, its server or the file system says against a request, in one sentence that helps.

    None for any other error.
    """
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None and inner not in chain:
        chain.append(inner)
    for each in chain:
        if isinstance(each, OSError) and (advice := _OF_SYSTEM.get(each.errno or 0)):
            file = each.filename2 or each.filename  # of two, the second is the one that was to be written
            return f"{f'{file}: ' if file else ''}{(each.strerror or str(each)).lower()}; {advice}"
    text = " ".join(str(each) for each in chain)
    for sign, sentence in _OF_STORE.items():
        if re.search(sign, text, re.IGNORECASE):
            return f"the MLflow store {_shown_uri()} {sentence}"
    return None


_WRITABLE = "nothing was registered or changed; name a folder or store that can be written, and run the command again"
_SPACE = "nothing half done is listed; make room, run the command again, and let conceptry gc remove what it left"
_OF_SYSTEM = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: _SPACE,
    errno.EROFS: _WRITABLE,
    errno.EACCES: _WRITABLE,
    errno.EPERM: _WRITABLE,
}
_OF_STORE = {
    r"readonly database|read-only file system|unable to open database file": f"cannot be written: {_WRITABLE}",
    r"database or disk is full|disk I/O error|no space left": f"has no room left: {_SPACE}",
    r"table \S+ already exists|no such table": (
        "is half made, by a process that ended before its tables were there; remove its file, which can hold nothing, "
        "or name another one by --tracking-uri"
    ),
    r"database is locked": "is locked by another process that does not let go; run the command again",
    r"database disk image is malformed|file is not a database": (
        "is damaged, or no database of MLflow; restore it from a copy, or name another store by --tracking-uri"
    ),
    r"(code|status|error)\W*403\b|403 client error|permission.denied": (
        "does not let this user do that; ask who runs it for the permission, or log in as somebody else"
    ),
    r"(code|status|error)\W*401\b|401 client error|not authenticated": (
        "asks for a name and a password, or refuses those that it gets; set MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    ),
    r"connection refused|max retries exceeded|service not known|failed to resolve|timed out|connection aborted": (
        "cannot be reached; check the address, and that the server is running"
    ),
}


def _shown_uri() -> str:
    """The address of the store in use, without the password that it may hold."""
    return re.sub(r"(?<=://)[^/@]*@", "", mlflow.get_tracking_uri())
