"""What the MLflow run of a batch holds besides numbers: which data by which version, and why rows have no answer."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag, LoggedModelInput

from conceptry.evaluation.runs import Run
from conceptry.registry.versions import Version

EXPERIMENT = "conceptry/batch"
ERRORS = "errors.json"


def log_data(run: Run, version: Version, name: str, digest: str) -> None:
    """Log the data set, and the version that it is given to."""
    dataset = MetaDataset(HTTPDatasetSource(f"conceptry:{name}"), name=name[-500:], digest=digest[:36])
    tags = [InputTag("mlflow.data.context", "batch")]
    models = [LoggedModelInput(version.model_id)]
    run.client.log_inputs(run.run_id, [DatasetInput(dataset._to_mlflow_entity(), tags)], models)


def log_errors(run: Run, counts: Sequence[Mapping[str, Any]]) -> None:
    """Log a table of sentences with the number of rows that each was said of, and the id of one of them."""
    if counts:
        run.client.log_table(run.run_id, pd.DataFrame(list(counts)), ERRORS)
