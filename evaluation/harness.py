"""Evaluate versions of any method: run its harness in the version's process, log what came out to the version.

A method's harness lives in `conceptry.evaluation.NAME` as `HARNESS`, an object with the attributes of `Harness`. It
sees a version only through `predict`, so it judges every version by the same rule, whatever code the version carries.
"""

import importlib
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import mlflow
import pandas as pd
from matplotlib.figure import Figure
from mlflow.artifacts import load_text
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag
from mlflow.exceptions import MlflowException
from rich.console import RenderableType

from conceptry.evaluation.data import EvaluationData
from conceptry.evaluation.isolation.client import Predict, VersionProcess
from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.method import METHODS
from conceptry.registry.comparison import Comparison
from conceptry.registry.store import connect
from conceptry.registry.tags import EVALUATION
from conceptry.registry.versions import Version, find_version

ARTIFACTS = "evaluation"


@dataclass(frozen=True)
class Metric:
    """How a metric is read: which direction is better (None: neither), how it is printed, what it means."""

    better: Literal["higher", "lower"] | None
    format: str
    meaning: str


@dataclass
class Report:
    """What a harness found: metrics by name, tables and figures by file stem, notes on what it could not measure."""

    metrics: dict[str, float] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


Progress = Callable[[str, float], None]
"""Called with what is being done and the share done so far, 0 to 1."""


class Harness(Protocol):
    """What a method brings to evaluation.

    revision: rises whenever a metric changes its meaning; headline: metrics that `compare` shows; views: kinds of
    picture of an explanation, the default first; suffixes: of the files that `save` can write; beside: whether `save`
    draws records of two versions, told apart by their key `version`; agreement: from the tables `patterns` of several
    versions, by `Comparison.key`, to their agreement in pairs, or None.
    """

    revision: int
    metrics: Mapping[str, Metric]
    headline: tuple[str, ...]
    views: tuple[str, ...]
    styles: tuple[str, ...]
    suffixes: tuple[str, ...]
    beside: bool
    agreement: Callable[[Mapping[Any, pd.DataFrame]], pd.DataFrame] | None

    def load_data(self, name: str | None, params: Mapping[str, str], size: int | None, seed: int) -> Any:
        """The data set called `name`; for None the one that suits a version with these hyperparameters.

        `size` limits it to a draw by `seed`. Raises InputError for names that it does not know.
        """
        ...

    def table_data(
        self, table: pd.DataFrame, labels: Sequence[object] | None, name: str, params: Mapping[str, str]
    ) -> Any:
        """Data from a table, as `mlflow.models.evaluate` hands it over; params: the version's hyperparameters."""
        ...

    def evaluate(self, predict: Predict, data: Any, progress: Progress) -> Report:
        """Measure a version on data."""
        ...

    def check_request(self, files: list[Path], targets: Sequence[str], params: Mapping[str, str]) -> list[str]:
        """The classes to explain by: `targets`, or those that a version with these hyperparameters takes by itself.

        Raises InputError for what cannot be explained, before anything is loaded: a file, the lack of one where the
        method needs it, classes where it takes none.
        """
        ...

    def records(
        self, predict: Predict, files: list[Path], params: Mapping[str, Any], targets: Sequence[str] = ()
    ) -> list[dict]:
        """Explain files: one JSON-ready record for each; `targets`: the classes that the method explains by."""
        ...

    def save(self, records: list[dict], output: Path, view: str | None, style: Mapping[str, Any]) -> list[Path]:
        """Write pictures of records to `output`, whose suffix is one of `suffixes`; returns the files written.

        view: one of `views`, None for the first; style: how it is drawn, by names among `styles`.
        """
        ...

    def describe(self, records: list[dict]) -> RenderableType:
        """The records for the terminal."""
        ...

    def summarise(self, predict: Predict, data: Any, label: str | None, progress: Progress) -> dict:
        """What a version says of data on average, or of its class `label`: a JSON-ready record.

        Its `concepts` are sorted, the most important first. Raises InputError where nothing has the label.
        """
        ...

    def draw_summary(self, record: dict) -> Figure:
        """A picture of a summary."""
        ...

    def describe_summary(self, record: dict) -> RenderableType:
        """A summary for the terminal."""
        ...


def harness_of(method: str) -> Harness:
    """The harness of a method of the contract."""
    assert method in METHODS
    return importlib.import_module(f"conceptry.evaluation.{method}").HARNESS


def check_given(method: str, files: Sequence[Path], targets: Sequence[str], most: int = 0) -> list[str]:
    """The targets. Raises InputError without files and for more than `most` classes: methods that explain files."""
    if not files:
        raise InputError(f"{method} explains files: name at least one")
    if len(targets) > most:
        takes = f"takes {most} class" if most else "takes no class"
        raise InputError(f"{method} {takes} to explain by, got --target {', '.join(targets)}")
    return list(targets)


def check_beside(versions: Sequence[Version]) -> None:
    """Raise InputError for several versions that cannot be drawn below one another."""
    for version in versions[1:]:
        if version.method != versions[0].method:
            raise InputError(f"{version.uri} is of the method {version.method}, {versions[0].uri} of another")
        if not harness_of(version.method).beside:
            raise InputError(f"{version.method} draws one version at a time, got --beside {version.uri}")
    if repeated := [v for number, v in enumerate(versions) if v.uri in {other.uri for other in versions[:number]}]:
        raise InputError(f"{repeated[0].uri} is given twice; expected versions that differ")


def version_titles(versions: Sequence[Version]) -> list[str]:
    """Titles that tell versions apart in one figure: each with the hyperparameters in which they differ.

    The model that is explained comes first, by its name alone; at most two others follow. Where the versions do not
    differ, as a single one, the model is named.
    """
    keys = [key for key in dict.fromkeys(key for v in versions for key in v.params) if key != "model"]
    differing = [key for key in keys if len({v.params.get(key) for v in versions}) > 1][:2]
    by_model = not differing or len({v.params.get("model") for v in versions}) > 1
    titles = []
    for v in versions:
        parts = [v.params["model"]] if by_model and "model" in v.params else []
        parts += [f"{key}={v.params[key]}" for key in differing if key in v.params]
        titles.append(f"{v.name}/{v.version}" + (f" ({', '.join(parts)})" if parts else ""))
    return titles


@dataclass(frozen=True)
class Evaluation:
    """A version, the data it was evaluated on, what was found, and the device that it ran on."""

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
) -> Evaluation:
    """Evaluate the version `uri` in a process of its own and log metrics, tables and figures to it.

    `data` is data, a name that the method's harness knows, or None for what suits the version. Raises ConceptryError
    where the version or the data cannot be loaded; nothing is logged then.
    """
    version = find_version(uri)
    harness = harness_of(version.method)
    if not isinstance(data, EvaluationData):
        progress("reading data", 0.0)
        data = harness.load_data(data, version.params, size, seed)
    assert isinstance(data, EvaluationData)
    progress("loading the version", 0.0)
    with VersionProcess(version.uri, device) as predict:
        used, report = predict.device_in_use, harness.evaluate(predict, data, progress)
    if not report.metrics:
        raise ConceptryError(f"{data.name} holds nothing that {version.method} can be measured on")
    log_report(version, data, report)
    return Evaluation(find_version(version.uri), data, report, used)


def log_report(version: Version, data: EvaluationData, report: Report) -> None:
    """Log a report where the UI shows it: the metrics on the version's logged model and on its source run.

    The logged model's page shows the former, the page that compares versions only the latter.
    """
    client = connect()
    described = MetaDataset(HTTPDatasetSource(f"conceptry:{data.name}"), name=data.name, digest=data.logged_digest)
    client.log_inputs(
        version.run_id,
        [DatasetInput(described._to_mlflow_entity(), [InputTag("mlflow.data.context", "evaluation")])],
    )
    mlflow.log_metrics(report.metrics, run_id=version.run_id, model_id=version.model_id, dataset=described)
    folder = _artifact_folder(data.name, data.logged_digest)
    for stem, table in report.tables.items():
        client.log_text(version.run_id, table.to_csv(index=False), f"{folder}/{stem}.csv")
    for stem, figure in report.figures.items():
        client.log_figure(version.run_id, figure, f"{folder}/{stem}.png")
    record = {
        "data": data.name,
        "digest": data.digest,
        "count": len(data),
        "unit": data.unit,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": harness_of(version.method).revision,
        "notes": report.notes,
    }
    client.set_model_version_tag(version.name, str(version.version), f"{EVALUATION}{_key(data)}", json.dumps(record))


def report_table(version: Version, data: str, digest: str, stem: str) -> pd.DataFrame | None:
    """A table that the evaluation of `version` on data left, None where it left none of that name."""
    with suppress(MlflowException, OSError):
        text = load_text(f"runs:/{version.run_id}/{_artifact_folder(data, digest)}/{stem}.csv")
        return pd.read_csv(io.StringIO(text), dtype={"sample": str}, keep_default_na=False)
    return None


def agreement(comparison: Comparison) -> pd.DataFrame | None:
    """How far the versions say the same of the same samples, from 0 to 1, for methods that can tell; else None."""
    harness = harness_of(comparison.versions[0].method)
    if harness.agreement is None or comparison.data is None or comparison.digest is None:
        return None
    tables = {
        comparison.key(v): table
        for v in comparison.versions
        if (table := report_table(v, comparison.data, comparison.digest, "patterns")) is not None
    }
    return harness.agreement(tables) if len(tables) > 1 else None


def _artifact_folder(data: str, digest: str) -> str:
    """Of its own for each data set, so that evaluations on several do not overwrite each other."""
    return f"{ARTIFACTS}/{re.sub(r'[^A-Za-z0-9]+', '-', data).strip('-')[-40:]}-{digest[:8]}"


def is_evaluated(version: Version, data: EvaluationData) -> bool:
    """Whether this revision of the harness has evaluated `version` on the same data."""
    with suppress(KeyError, ValueError):
        return json.loads(version.evaluations[_key(data)])["revision"] == harness_of(version.method).revision
    return False


def _key(data: EvaluationData) -> str:
    return data.digest[:16]
