"""Evaluate versions of any method: measure each in a process of its own, and log the report to the version.

A method's `Evaluation` sees a version only through `predict`, so it judges every version by the same rule, whatever
code the version carries.
"""

import importlib
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import mlflow
import pandas as pd
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.artifacts import load_dict, load_text
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS
from rich.console import RenderableType

from conceptry.evaluation.data import EvaluationData
from conceptry.evaluation.isolation.client import Predict, VersionProcess
from conceptry.models.errors import ConceptryError
from conceptry.models.method import METHODS, Progress
from conceptry.registry.comparison import Comparison
from conceptry.registry.descriptions import describe_measured
from conceptry.registry.store import connect
from conceptry.registry.versions import Version, check_loggable, find_version

ARTIFACTS, RECORD = "evaluation", "record.json"
HEADLINES = 3  # metrics in a description


@dataclass(frozen=True)
class Metric:
    """Reading of a metric: which direction is better (None: neither), how it is printed, what it means."""

    better: Literal["higher", "lower"] | None
    format: str
    meaning: str

    @property
    def arrow(self) -> str:
        """The direction as tables show it."""
        return {"higher": "↑", "lower": "↓", None: ""}[self.better]


@dataclass
class Report:
    """Metrics by name, tables and figures by file stem, and notes on what could not be measured."""

    metrics: dict[str, float] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of a method's versions: `EVALUATION` in `conceptry.evaluation.NAME.harness`.

    Attributes:
        revision: rises whenever a metric changes its meaning.
        metrics: how each metric is read.
        headline: metrics that `compare` shows.
        load_data: (name, hyperparameters of the version, size, seed) -> data. For the name None the data that suit the
            version; `size` limits them to a draw by `seed`. Raises InputError for names that it does not know.
        table_data: (table, labels, name, hyperparameters) -> data, from a table as `mlflow.models.evaluate` hands it
            over.
        evaluate: (predict, data, progress) -> report: measures a version.
        summarise: (predict, data, label, progress) -> record: what a version says of data on average, or of its class
            `label`, JSON-ready. Its `concepts` are sorted, the most important first. Raises InputError where nothing
            has the label.
        draw_summary: the record of a summary as a figure.
        describe_summary: the record of a summary for the terminal.
        family: metrics whose names depend on the data, such as `recall_KIND`; None for other names.
        known_of: what reading data needs of a version, the hyperparameters above, where the method adds to them.
        agreement: from the tables `patterns` of several versions, by `Comparison.key`, to their agreement in pairs.
    """

    revision: int
    metrics: Mapping[str, Metric]
    headline: tuple[str, ...]
    load_data: Callable[[str | None, Mapping[str, str], int | None, int], EvaluationData]
    table_data: Callable[[pd.DataFrame, Sequence[object] | None, str, Mapping[str, str]], EvaluationData]
    evaluate: Callable[[Predict, Any, Progress], Report]
    summarise: Callable[[Predict, Any, str | None, Progress], dict]
    draw_summary: Callable[[dict], Figure]
    describe_summary: Callable[[dict], RenderableType]
    family: Callable[[str], Metric | None] = lambda name: None
    known_of: Callable[[Version], Mapping[str, str]] = lambda version: version.params
    agreement: Callable[[Mapping[Any, pd.DataFrame]], pd.DataFrame] | None = None

    def metric(self, name: str) -> Metric | None:
        """Look up how the metric `name` is read; None where it is not one of the method."""
        return self.metrics.get(name) or self.family(name)


def evaluation_of(method: str) -> Evaluation:
    """The evaluation of a method of the contract."""
    assert method in METHODS
    return importlib.import_module(f"conceptry.evaluation.{method}.harness").EVALUATION


@dataclass(frozen=True)
class VersionReport:
    """A version, the data it was evaluated on, the report, and the device that it ran on."""

    version: Version
    data: EvaluationData
    report: Report
    device: str


def evaluate(
    uri: str,
    data: EvaluationData | str | None = None,
    *,
    size: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = lambda what, share: None,
) -> VersionReport:
    """Evaluate the version `uri` in a process of its own and log metrics, tables and figures to it.

    `data` is data, a name that the method knows, or None for what suits the version. Raises ConceptryError
    where the version or the data cannot be loaded; nothing is logged then.
    """
    version = find_version(uri)
    check_loggable(version)
    evaluation = evaluation_of(version.method)
    if not isinstance(data, EvaluationData):
        progress("reading data", 0.0)
        data = evaluation.load_data(data, evaluation.known_of(version), size, seed)
    progress("loading the version", 0.0)
    with VersionProcess(version.uri, device) as predict:
        used, report = predict.device_in_use, evaluation.evaluate(predict, data, progress)
    if not report.metrics:
        raise ConceptryError(f"{data.name} holds nothing that {version.method} can be measured on")
    log_report(version, data, report)
    return VersionReport(find_version(version.uri), data, report, used)


def log_report(version: Version, data: EvaluationData, report: Report) -> None:
    """Log a report where the UI shows it: the metrics on the version's logged model and on its source run.

    The logged model's page shows the former, the page that compares versions only the latter.
    """
    client = connect()
    dataset = MetaDataset(HTTPDatasetSource(f"conceptry:{data.name}"), name=data.name, digest=data.logged_digest)
    client.log_inputs(
        version.run_id,
        [DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", "evaluation")])],
    )
    folder = _artifact_folder(data.name, data.logged_digest)
    for stem, table in report.tables.items():
        log_table(client, version.run_id, table, f"{folder}/{stem}.json")
    for stem, figure in report.figures.items():
        client.log_figure(version.run_id, figure, f"{folder}/{stem}.png")
    evaluation = evaluation_of(version.method)
    # MLflow lists metrics in the order in which they came: those that people look for come first.
    first = [name for name in evaluation.headline if name in report.metrics]
    metrics = {name: report.metrics[name] for name in dict.fromkeys((*first, *report.metrics))}
    # In one call, and after what they are read with: a version counts as measured once it has them.
    mlflow.log_metrics(metrics, run_id=version.run_id, model_id=version.model_id, dataset=dataset)
    scores = [
        f"{name} {metrics[name]:{read.format}} {read.arrow}" for name in first if (read := evaluation.metric(name))
    ]
    describe_measured(client, version, ", ".join(scores[:HEADLINES]), f"{len(data)} {data.unit} of {data.name}")
    record = {
        "data": data.name,
        "digest": data.digest,
        "count": len(data),
        "unit": data.unit,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": evaluation.revision,
        "notes": report.notes,
    }
    client.log_dict(version.run_id, record, f"{folder}/{RECORD}")  # the last of all: it says that the rest is there


def log_table(client: MlflowClient, run_id: str, table: pd.DataFrame, file: str) -> None:
    """Log a table as MLflow's pages show it, in place of one that is there: MLflow itself would append to it."""
    logged = json.loads(client.get_run(run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
    if any(each["path"] == file for each in logged):
        client.log_text(run_id, str(table.to_json(orient="split", index=False, date_format="iso")), file)
    else:
        client.log_table(run_id, table, file)


def report_table(version: Version, data: str, digest: str, stem: str) -> pd.DataFrame | None:
    """Table `stem` that the evaluation of `version` on data left, None where there is none."""
    folder = f"runs:/{version.run_id}/{_artifact_folder(data, digest)}"
    with suppress(MlflowException, OSError):
        return pd.DataFrame(**load_dict(f"{folder}/{stem}.json"))
    with suppress(MlflowException, OSError):  # as it was logged by a former release
        text = load_text(f"{folder}/{stem}.csv")
        return pd.read_csv(io.StringIO(text), dtype={"sample": str}, keep_default_na=False)
    return None


def agreement(comparison: Comparison) -> pd.DataFrame | None:
    """Measure how far versions say the same of the same samples, from 0 to 1; None for methods that cannot tell."""
    evaluation = evaluation_of(comparison.versions[0].method)
    if evaluation.agreement is None or comparison.data is None or comparison.digest is None:
        return None
    tables = {
        comparison.key(v): table
        for v in comparison.versions
        if (table := report_table(v, comparison.data, comparison.digest, "patterns")) is not None
    }
    return evaluation.agreement(tables) if len(tables) > 1 else None


def _artifact_folder(data: str, digest: str) -> str:
    """Artifact folder of one data set; one folder each, so that evaluations do not overwrite each other."""
    return f"{ARTIFACTS}/{re.sub(r'[^A-Za-z0-9]+', '-', data).strip('-')[-40:]}-{digest[:8]}"


def is_evaluated(version: Version, data: EvaluationData) -> bool:
    """Whether this revision of the evaluation has measured `version` on the same data."""
    record = _record(version, data.name, data.digest)
    return record is not None and record["revision"] == evaluation_of(version.method).revision


def evaluation_records(version: Version) -> list[dict]:
    """What was recorded of each evaluation of a version: data, digest, count, unit, time, revision, notes."""
    records = [_record(version, m.data, m.digest) for m in version.measured if m.data and m.digest]
    return [record for record in records if record is not None]


def _record(version: Version, data: str, digest: str) -> dict | None:
    """The record of the evaluation on data of that name and digest, of which the start is enough; None without one."""
    record = None
    if text := version.evaluations.get(digest[:16]):  # as it was logged by a former release
        record = json.loads(text)
    with suppress(MlflowException, OSError):
        record = load_dict(f"runs:/{version.run_id}/{_artifact_folder(data, digest)}/{RECORD}")
    return record if record and record["digest"].startswith(digest) else None
