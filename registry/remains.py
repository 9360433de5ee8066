"""What killed processes have left behind, in the MLflow store and on this machine: found, told, and removed.

Left behind is what bears the mark of a process (`tags.owner_tag`, `folders.process_mark`) that is gone, was never
finished, and is used by no version. Nothing is guessed: of processes on other machines, and where the mark is missing
since an earlier release wrote it, an age has to be given. What bears no sign of conceptry is never looked at.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import time
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import Experiment, LoggedModel, LoggedModelStatus, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from conceptry.models.downloads import cache_directory
from conceptry.models.errors import ConceptryError
from conceptry.models.folders import left_folders, remove, system_temporary
from conceptry.models.manifest import files_in
from conceptry.registry import tags as t
from conceptry.registry.promotion import plans, settle_plans
from conceptry.registry.store import connect, name_lock

_RUN, _MODEL = re.compile(r"[0-9a-f]{32}"), re.compile(r"m-[0-9a-f]{32}")
ARTIFACTS = "artifacts"  # the kind of a folder that no run or logged model claims
_IN_PROGRESS = ("RUNNING", "SCHEDULED")
_COMPILED = "numba/**/*.tmp.*"  # of the cache; numba writes kernels under such names before they get their own
Entity = TypeVar("Entity")


@dataclass(frozen=True)
class Remain:
    """Something that was left: what kind of thing, which, why it counts as left, and how it is removed.

    doubtful: it may belong to somebody whom this machine cannot see; `remove` is for who knows better.
    """

    kind: str
    name: str
    reason: str
    remove: Callable[[], None]
    doubtful: bool = False


def remains_in_store(older_than: timedelta | None = None) -> Iterator[Remain]:
    """What is left in the store in use: runs, logged models, records of promotions, artifact folders.

    older_than: what processes of other machines began so long ago counts as left, too; None: it is doubtful.
    """
    client = connect()
    experiments = _pages(lambda token: client.search_experiments(page_token=token))
    used_runs, used_models = _used(client)
    gone: dict[str, Run] = {}
    for run in _runs(client, experiments):
        alive = _is_alive(run.data.tags, run.info.start_time, older_than)
        in_progress = run.info.status in _IN_PROGRESS
        if run.info.run_id in used_runs:
            if in_progress and alive is False:
                yield _finished(client, run)
        elif in_progress and alive is not True:
            gone[run.info.run_id] = run
            yield _removed_run(client, run, "its process is gone" if alive is False else _AWAY, alive is None)
        elif run.info.status in ("FAILED", "KILLED") and t.FINGERPRINT in run.data.tags:
            gone[run.info.run_id] = run
            yield _removed_run(client, run, "its registration failed", False)
    for model in _models(client, experiments):
        alive = _is_alive(model.tags, model.creation_timestamp, older_than)
        is_pending = model.status == LoggedModelStatus.PENDING and alive is not True
        if model.model_id not in used_models and model.source_run_id not in gone and is_pending:
            reason = "was not logged to its end, and its process is gone" if alive is False else _AWAY
            yield Remain("logged model", model.model_id, reason, partial(_remove_model, client, model), alive is None)
    for registered in _pages(lambda token: client.search_registered_models(page_token=token)):
        with name_lock(registered.name):  # whoever promotes just now has its plan done by then
            left = plans(client.get_registered_model(registered.name)) if _has_plans(registered.tags) else {}
        if left:
            reason = "its process ended before the alias was moved, or just then"
            yield Remain("promotion", registered.name, reason, partial(_settle, client, registered.name))
    for experiment in experiments:
        yield from _unclaimed(client, experiment)


def remains_on_disk(folders: Sequence[Path] = (), older_than: timedelta | None = None) -> Iterator[Remain]:
    """What is left on this machine: in the folder for temporary files, in the cache, and in `folders` or below.

    Without `folders`, those beside the current folder's files are looked for.
    """
    places = [(system_temporary(), False), (cache_directory(), True)]
    places += [(folder, True) for folder in folders] or [(Path(), False)]
    found = {path: alive for place, below in places for path, alive in left_folders(place.resolve(), below)}
    found |= dict.fromkeys(cache_directory().resolve().glob(_COMPILED))
    for path, marked_alive in found.items():
        with suppress(FileNotFoundError):  # gone since it was listed
            alive = _aged(marked_alive, path.stat().st_mtime, older_than)
            size = sum(f.stat().st_size for f in files_in(path)) if path.is_dir() else path.stat().st_size
            if alive is not True:
                reason = f"{size / 1e6:,.1f} MB; " + ("its process is gone" if alive is False else _AWAY)
                kind = "folder" if path.is_dir() else "file"
                yield Remain(kind, str(path), reason, partial(remove, path), alive is None)


_AWAY = "whether its process goes on cannot be seen from here"


def _is_alive(tags: dict[str, str], began: int | None, older_than: timedelta | None) -> bool | None:
    return _aged(t.is_owner_alive(tags), (began or 0) / 1000, older_than)


def _aged(alive: bool | None, began: float, older_than: timedelta | None) -> bool | None:
    """What is not known is settled by age, where one is given."""
    if alive is None and older_than is not None:
        return time() - began < older_than.total_seconds()
    return alive


def _used(client: MlflowClient) -> tuple[set[str], set[str]]:
    """Runs and logged models of all registered versions, whoever registered them."""
    versions = _pages(lambda token: client.search_model_versions(page_token=token))
    runs = {version.run_id for version in versions if version.run_id}
    sources = {str(version.source).removeprefix("models:/") for version in versions}
    return runs, sources | {version.model_id for version in versions if version.model_id}


def _runs(client: MlflowClient, experiments: Sequence[Experiment]) -> list[Run]:
    """Runs that conceptry began; those deleted by hand are MLflow's own affair."""
    found: dict[str, Run] = {}
    for tag in (t.OWNER, t.FINGERPRINT):
        search = partial(client.search_runs, _ids(experiments), f"tags.`{tag}` LIKE '%'", ViewType.ACTIVE_ONLY)
        found |= {run.info.run_id: run for run in _pages(lambda token, search=search: search(page_token=token))}
    return list(found.values())


def _models(client: MlflowClient, experiments: Sequence[Experiment], condition: str = "") -> list[LoggedModel]:
    """Logged models that conceptry began."""
    models = _pages(lambda token: client.search_logged_models(_ids(experiments), condition or None, page_token=token))
    return [model for model in models if t.FINGERPRINT in model.tags]


def _ids(experiments: Sequence[Experiment]) -> list[str]:
    return [experiment.experiment_id for experiment in experiments]


def _pages(search: Callable[[str | None], Sequence[Entity]]) -> list[Entity]:
    """Everything that a search finds, page after page."""
    found: list[Entity] = []
    token = None
    while True:
        page = search(token)
        found += page
        token = getattr(page, "token", None)
        if not token:
            return found


def _finished(client: MlflowClient, run: Run) -> Remain:
    run_id = run.info.run_id
    reason = "its version is complete, and its process ended before it said so: it is marked as finished"
    return Remain("run of a version", run_id, reason, partial(client.set_terminated, run_id, "FINISHED"))


def _removed_run(client: MlflowClient, run: Run, reason: str, doubtful: bool) -> Remain:
    name = f"{run.info.run_id} ({run.info.run_name})"
    return Remain("run", name, reason, partial(_remove_run, client, run), doubtful)


def _remove_run(client: MlflowClient, run: Run) -> None:
    """Remove a run with what was logged to it, its artifacts first, so that none stays whose owner is forgotten."""
    run_id = run.info.run_id
    used_runs, used_models = _used(client)  # it is some time since it was found
    if run_id in used_runs:
        raise ConceptryError("a version uses it by now")
    for model in _models(client, [client.get_experiment(run.info.experiment_id)], f"source_run_id = '{run_id}'"):
        if model.model_id in used_models:
            raise ConceptryError(f"a version uses its logged model {model.model_id} by now")
        _remove_model(client, model)
    _delete_artifacts(client, run.info.experiment_id, str(run.info.artifact_uri), run_id)
    _forget(client, "run", run_id)


def _remove_model(client: MlflowClient, model: LoggedModel) -> None:
    if model.model_id in _used(client)[1]:
        raise ConceptryError("a version uses it by now")
    _delete_artifacts(client, model.experiment_id, model.artifact_location, f"models/{model.model_id}")
    _forget(client, "logged_model", model.model_id)


def _delete_artifacts(client: MlflowClient, experiment_id: str, location: str, place: str) -> None:
    """Delete artifacts together with the folder that they have in their experiment, of which MLflow leaves a shell."""
    root = str(client.get_experiment(experiment_id).artifact_location)
    if location == f"{root}/{place}/artifacts":
        get_artifact_repository(root).delete_artifacts(place)
    else:
        get_artifact_repository(location).delete_artifacts()


def _forget(client: MlflowClient, kind: str, name: str) -> None:
    """Delete for good what is in a store that this process opens itself, as `mlflow gc` does: by these functions.

    The command cannot be told to leave everything else alone: it deletes all experiments in its trash, too. Behind a
    server, the run or logged model goes to the trash, and is gone when somebody runs `mlflow gc` there.
    """
    store = client._tracking_client.store
    delete = getattr(store, f"_hard_delete_{kind}", None) or getattr(client, f"delete_{kind}")
    delete(name)


def _has_plans(tags: dict[str, str]) -> bool:
    return any('"planned"' in record for record in t.read_family(tags, t.PROMOTION).values())


def _settle(client: MlflowClient, name: str) -> None:
    with name_lock(name):
        settle_plans(client, name)


def _unclaimed(client: MlflowClient, experiment: Experiment) -> Iterator[Remain]:
    """Artifact folders of runs and logged models that an experiment of conceptry does not know.

    They are doubtful: two stores that were made in one folder keep their artifacts in the same place, where each sees
    those of the other.
    """
    if not experiment.name.startswith("conceptry/"):
        return
    repository = get_artifact_repository(experiment.artifact_location)
    store = client._tracking_client.store
    can_see_deleted = hasattr(store, "_hard_delete_logged_model")  # else a model in the trash looks like none
    places: list[tuple[str, re.Pattern, Callable[[str], object]]] = [("", _RUN, client.get_run)]
    if can_see_deleted:
        places.append(("models", _MODEL, lambda name: store.get_logged_model(name, allow_deleted=True)))
    for place, form, find in places:
        for entry in repository.list_artifacts(place or None) or ():
            name = Path(entry.path).name
            if entry.is_dir and form.fullmatch(name) and not _is_known(find, name) and _is_full(repository, entry.path):
                where = f"{experiment.artifact_location}/{entry.path}"
                reason = "this store knows no such run or logged model; another one that shares the folder may"
                yield Remain(ARTIFACTS, where, reason, partial(repository.delete_artifacts, entry.path), doubtful=True)


def _is_full(repository: ArtifactRepository, place: str) -> bool:
    """Whether there is a file: `mlflow gc` leaves empty folders."""
    entries = repository.list_artifacts(place)
    return any(not entry.is_dir or _is_full(repository, entry.path) for entry in entries)


def _is_known(find: Callable[[str], object], name: str) -> bool:
    try:
        find(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True
