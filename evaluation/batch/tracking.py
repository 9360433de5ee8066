"""The MLflow run of a batch: what was asked of which data, how many rows have an answer, and why others have none."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag, LoggedModelInput, Metric, Param

from conceptry.registry.store import connect, ensure_experiment
from conceptry.registry.tags import owner_tag
from conceptry.registry.versions import Version

EXPERIMENT = "conceptry/batch"
ERRORS = "errors.json"


class Run:
    """One run, written to through a client, so that no active run of the process is touched."""

    def __init__(self, version: Version, name: str, params: Mapping[str, Any]) -> None:
        self._client, self._version = connect(), version
        experiment = ensure_experiment(self._client, EXPERIMENT)
        run = self._client.create_run(experiment.experiment_id, run_name=name, tags=owner_tag())
        self.run_id = run.info.run_id
        self._client.log_batch(self.run_id, params=[Param(key, str(value)[:6000]) for key, value in params.items()])

    def data(self, name: str, digest: str) -> None:
        """The data set, and the version that it is given to."""
        dataset = MetaDataset(HTTPDatasetSource(f"conceptry:{name}"), name=name[-500:], digest=digest[:36])
        tags = [InputTag("mlflow.data.context", "batch")]
        models = [LoggedModelInput(self._version.model_id)]
        self._client.log_inputs(self.run_id, [DatasetInput(dataset._to_mlflow_entity(), tags)], models)

    def metrics(self, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, 0) for name, value in values.items()]
        self._client.log_batch(self.run_id, metrics=metrics)

    def errors(self, counts: Sequence[Mapping[str, Any]]) -> None:
        """A table of sentences with the number of rows that each was said of, and the id of one of them."""
        if counts:
            self._client.log_table(self.run_id, pd.DataFrame(list(counts)), ERRORS)

    def end(self, status: str) -> None:
        self._client.set_terminated(self.run_id, status)


@contextmanager
def tracked(version: Version, name: str, params: Mapping[str, Any]) -> Iterator[Run]:
    """A run for the length of a block, which says how the block has ended."""
    run = Run(version, name, params)
    try:
        yield run
    except KeyboardInterrupt:
        run.end("KILLED")
        raise
    except BaseException:
        run.end("FAILED")
        raise
    run.end("FINISHED")
