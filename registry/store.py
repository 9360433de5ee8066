"""The MLflow store in use: one client, a sqlite file created safely, experiments found or made.

Which store it is, is MLflow's affair: MLFLOW_TRACKING_URI, `mlflow.set_tracking_uri`, or `mlflow.db` in the current
folder.
"""

import hashlib
from contextlib import suppress
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException

from conceptry.models.downloads import cache_directory, made_directory
from conceptry.models.errors import InputError

# Without this tag the UI opens an experiment as one of generative AI, and hides runs and models.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


def connect() -> MlflowClient:
    """A client of the store in use, whose tables exist.

    Several processes that open a fresh sqlite file at once break it for good, so the first touch happens under a
    lock beside the file.
    """
    for uri in {mlflow.get_tracking_uri(), mlflow.get_registry_uri()}:
        if uri.startswith("sqlite:///") and ":memory:" not in uri:
            database = Path(uri.removeprefix("sqlite:///"))
            database.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{database}.lock"):
                # Making the client opens the store; both halves of it make tables of their own.
                client = MlflowClient(uri, uri)
                client.search_experiments(max_results=1)
                client.search_registered_models(max_results=1)
    return MlflowClient()


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
