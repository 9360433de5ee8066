"""What killed processes have left is found and removed; what is alive, used or somebody else's stays."""

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from conceptry.models.folders import process_mark
from conceptry.registry import tags as t
from conceptry.registry.remains import remains_in_store
from conceptry.registry.store import ensure_experiment


@pytest.fixture
def client(store, tiny_version) -> MlflowClient:
    return MlflowClient()


def begun(client: MlflowClient, owner: str, *, logged: bool = True, **tags: str) -> tuple[str, str | None]:
    """A run, and a logged model of it, as a registration begins them; `owner` is the mark of its process."""
    experiment = ensure_experiment(client, "conceptry/remains")
    known = {t.OWNER: f"{owner}@here", t.METHOD: "splice", t.FINGERPRINT: "0" * 64} | tags
    run = client.create_run(experiment.experiment_id, tags=known)
    client.log_text(run.info.run_id, "half", "half.txt")
    if not logged:
        return run.info.run_id, None
    model = client.create_logged_model(experiment.experiment_id, "splice", run.info.run_id, known)
    return run.info.run_id, model.model_id


def dead_mark() -> str:
    machine, _, _ = process_mark().split("-")
    with subprocess.Popen(["true"]) as child:
        pass
    return f"{machine}-{child.pid}-1"


def found(name: str, older_than: timedelta | None = None) -> list:
    return [remain for remain in remains_in_store(older_than) if name in remain.name]


def test_a_run_whose_process_is_gone_is_removed_with_all_that_belongs_to_it(client) -> None:
    run_id, model_id = begun(client, dead_mark())
    folder = Path(client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    (remain,) = found(run_id)
    assert (remain.kind, remain.reason, remain.doubtful) == ("run", "its process is gone", False)
    assert found(str(model_id)) == []  # it goes with its run
    remain.remove()
    for find, name in ((client.get_run, run_id), (client.get_logged_model, model_id)):
        with pytest.raises(MlflowException, match="not found"):
            find(name)
    assert not folder.exists()
    assert found(run_id) == []


def test_what_is_alive_used_or_not_of_conceptry_stays(client, tiny_version) -> None:
    """Two processes at once: this one registers, while another looks for what was left."""
    own, _ = begun(client, process_mark())
    foreign = client.create_run("0").info.run_id
    client.set_tag(tiny_version.run_id, t.OWNER, f"{dead_mark()}@here")
    with subprocess.Popen(["sleep", "60"]) as child:
        machine, _, _ = process_mark().split("-")
        others, _ = begun(client, f"{machine}-{child.pid}-0")
        seen = " ".join(remain.name for remain in remains_in_store())
        child.kill()
    for name in (own, others, foreign, tiny_version.run_id, tiny_version.model_id):
        assert name not in seen
    found(others)[0].remove()
    client.delete_run(own)


def test_of_other_machines_only_an_age_is_believed(client) -> None:
    run_id, _ = begun(client, "00000000-1-1", logged=False)
    (remain,) = found(run_id)
    assert remain.doubtful
    assert found(run_id, timedelta(days=1)) == []
    (remain,) = found(run_id, timedelta(0))
    assert not remain.doubtful
    remain.remove()


def test_a_version_that_was_complete_gets_its_run_finished(client, tiny_version) -> None:
    client.set_tag(tiny_version.run_id, t.OWNER, f"{dead_mark()}@here")
    client.update_run(tiny_version.run_id, status="RUNNING")
    (remain,) = found(tiny_version.run_id)
    remain.remove()
    assert client.get_run(tiny_version.run_id).info.status == "FINISHED"


def test_a_removal_is_refused_where_a_version_has_come_to_use_it(client) -> None:
    run_id, model_id = begun(client, dead_mark())
    (remain,) = found(run_id)
    client.create_registered_model("late")
    client.create_model_version("late", f"models:/{model_id}", run_id)
    with pytest.raises(Exception, match="a version uses it by now"):
        remain.remove()
    client.delete_registered_model("late")
    found(run_id)[0].remove()


def test_folders_that_no_run_claims_are_doubtful(client) -> None:
    experiment = ensure_experiment(client, "conceptry/remains")
    folder = Path(experiment.artifact_location.removeprefix("file://")) / ("ab" * 16)
    folder.mkdir(parents=True)
    assert found("ab" * 16) == []  # `mlflow gc` leaves such shells
    (folder / "file").touch()
    (remain,) = found("ab" * 16)
    assert (remain.kind, remain.doubtful) == ("artifacts", True)
    remain.remove()
    assert not folder.exists()
