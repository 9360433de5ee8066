"""MLflow runs of what is no version: trainings, batches, drift."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from conceptry.registry.store import connect, ensure_experiment
from conceptry.registry.tags import owner_tag

LONGEST_NAME, LONGEST_VALUE = 250, 6000  # that MLflow takes


class Run:
    """One run, written to through a client, so that no active run or experiment of the process is touched."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client, self.run_id = client, run_id

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Metrics of one moment, in one request."""
        now = int(time.time() * 1000)
        self.client.log_batch(self.run_id, metrics=[Metric(k, float(v), now, step) for k, v in values.items()])


@contextmanager
def new_run(experiment: str, name: str, params: Mapping[str, Any]) -> Iterator[Run]:
    """A run for the length of a block, whose status says how the block has ended."""
    client = connect()
    where = ensure_experiment(client, experiment).experiment_id
    run = Run(client, client.create_run(where, run_name=name[:LONGEST_NAME], tags=owner_tag()).info.run_id)
    try:
        client.log_batch(run.run_id, params=[Param(k, str(v)[:LONGEST_VALUE]) for k, v in params.items()])
        yield run
    except KeyboardInterrupt:
        client.set_terminated(run.run_id, "KILLED")
        raise
    except BaseException:
        client.set_terminated(run.run_id, "FAILED")
        raise
    client.set_terminated(run.run_id, "FINISHED")
