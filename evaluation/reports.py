"""What an evaluation finds, logged where MLflow's pages show it, group of metrics by group, and read again.

A run has a folder `evaluation/DATA-DIGEST` for each data set that its version was evaluated on:

| file | what |
|---|---|
| `samples.json` | a row for each sample, a column for each metric that is a mean over samples |
| `STEM.json`, `STEM.png` | the other tables and figures |
| `record.json` | data, its digest and draw, unit, time, revision, groups, notes, intervals; the last to be written |

Metrics are on the version's logged model and on its source run: the logged model's page shows the former, the page that
compares versions only the latter.
"""

import io
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.artifacts import load_dict, load_text
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

from conceptry.evaluation.data import EvaluationData
from conceptry.evaluation.intervals import SAMPLE, mean_intervals
from conceptry.models.errors import ConceptryError
from conceptry.models.method import Progress
from conceptry.registry.descriptions import describe_measured
from conceptry.registry.store import connect
from conceptry.registry.versions import Version

ARTIFACTS, RECORD, SAMPLES = "evaluation", "record.json", "samples"
HEADLINES = 3  # metrics in a description


@dataclass
class Report:
    """Metrics by name, tables and figures by file stem, and notes on what could not be measured.

    samples: a row for each sample, which the column `sample` names, and a column for each metric that is a mean over
    samples, NaN where it says nothing of one. Intervals and paired differences come from it. See `add_samples`.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    samples: pd.DataFrame = field(default_factory=pd.DataFrame)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add_samples(self, keys: Sequence[str], columns: Mapping[str, Any]) -> None:
        """Add metrics that are means over samples.

        keys: what identifies each sample in the reports of all versions; columns: values by metric, one for each key.
        """
        added = pd.DataFrame({name: np.asarray(values, dtype=float) for name, values in columns.items()})
        self.metrics |= {str(name): float(mean) for name, mean in added.mean().items() if np.isfinite(mean)}
        added.insert(0, SAMPLE, sample_names(keys))
        self.samples = _joined(self.samples, added)

    def add(self, other: "Report") -> None:
        """Add what another report of the same version and data holds."""
        self.metrics |= other.metrics
        self.samples = _joined(self.samples, other.samples)
        self.tables |= other.tables
        self.figures |= other.figures
        self.notes += other.notes


def sample_names(keys: Sequence[str]) -> list[str]:
    """Names of samples in tables: the same sample twice is two samples, in the same order for every version."""
    names = pd.Series(list(keys), dtype=str)
    repeats = names.groupby(names).cumcount()
    return names.where(repeats == 0, names + " #" + (repeats + 1).astype(str)).tolist()


def trial_reports(
    trials: Mapping[str, Callable[..., None]], groups: Collection[str], progress: Progress, *given: Any
) -> Iterator[tuple[str, Report]]:
    """Report of each of `groups` that is a trial, with a note where the version or the data do not allow it.

    trials: by group; each takes what is `given`, the report that it adds to, and whom to tell the share that is done.
    """
    for group in groups:
        if group in trials:
            report = Report()
            try:
                trials[group](*given, report, lambda share, group=group: progress(group, share))
            except (ConceptryError, MlflowException) as error:  # of a process of its own, and of one in this process
                report.notes.append(f"{group} is left out: {getattr(error, 'message', error)}")
            yield group, report


def log_report(
    version: Version,
    data: EvaluationData,
    report: Report,
    groups: Sequence[str],
    *,
    revision: int,
    headlines: Mapping[str, str],
    drawn: Mapping[str, int | None] | None = None,
) -> None:
    """Log a report on `groups` of metrics, beside those that this revision has measured on the same data before.

    headlines: the metrics that people look for first, with their values as they read them; drawn: size and seed by
    which the data can be loaded again by its name.
    """
    client = connect()
    dataset = MetaDataset(HTTPDatasetSource(f"conceptry:{data.name}"), name=data.logged_name, digest=data.logged_digest)
    client.log_inputs(
        version.run_id,
        [DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", "evaluation")])],
    )
    folder = _artifact_folder(data.logged_name, data.logged_digest)
    former = record_on(version, data.logged_name, data.digest)
    if former and former["revision"] != revision:
        former = None
    samples = report.samples
    if former and (known := report_table(version, data.logged_name, data.logged_digest, SAMPLES)) is not None:
        samples = _joined(known, samples)
    for stem, table in (*report.tables.items(), *([] if samples.empty else [(SAMPLES, samples)])):
        log_table(client, version.run_id, table, f"{folder}/{stem}.json")
    for stem, figure in report.figures.items():
        client.log_figure(version.run_id, figure, f"{folder}/{stem}.png")
    # MLflow lists metrics in the order in which they came: those that people look for come first.
    metrics = {name: report.metrics[name] for name in dict.fromkeys((*headlines, *report.metrics))}
    # In one call, and after what they are read with: a version counts as measured once it has them.
    mlflow.log_metrics(metrics, run_id=version.run_id, model_id=version.model_id, dataset=dataset)
    if former is None:
        scores = ", ".join(list(headlines.values())[:HEADLINES])
        describe_measured(client, version, scores, f"{len(data)} {data.unit} of {data.logged_name}")
    record = {
        "data": data.name,
        "digest": data.digest,
        "count": len(data),
        "unit": data.unit,
        **(drawn or {}),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision,
        "groups": list(dict.fromkeys((*(former or {}).get("groups", ()), *groups))),
        "notes": list(dict.fromkeys((*(former or {}).get("notes", ()), *report.notes))),
        "intervals": {name: [found.low, found.high] for name, found in mean_intervals(samples).items()},
    }
    client.log_dict(version.run_id, record, f"{folder}/{RECORD}")  # the last of all: it says that the rest is there


def log_table(client: MlflowClient, run_id: str, table: pd.DataFrame, file: str) -> None:
    """Log a table as MLflow's pages show it, in place of one that is there: MLflow itself would append to it."""
    logged = json.loads(client.get_run(run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
    if any(each["path"] == file for each in logged):
        client.log_text(run_id, str(table.to_json(orient="split", index=False, date_format="iso")), file)
    else:
        client.log_table(run_id, table, file)


def log_page(version: Version, data: str | None, digest: str | None, name: str, text: str) -> str:
    """Log an HTML page beside the evaluation on data, or above all of them for None; return where it lies."""
    folder = _artifact_folder(data, digest) if data and digest else ARTIFACTS
    connect().log_text(version.run_id, text, f"{folder}/{name}")
    return f"{folder}/{name}"


def report_table(version: Version, data: str, digest: str, stem: str) -> pd.DataFrame | None:
    """Table `stem` that the evaluation of `version` on data left, None where there is none."""
    folder = f"runs:/{version.run_id}/{_artifact_folder(data, digest)}"
    with suppress(MlflowException, OSError):
        return pd.DataFrame(**load_dict(f"{folder}/{stem}.json"))
    with suppress(MlflowException, OSError):  # as it was logged by a former release
        text = load_text(f"{folder}/{stem}.csv")
        return pd.read_csv(io.StringIO(text), dtype={SAMPLE: str}, keep_default_na=False)
    return None


def evaluation_records(version: Version) -> list[dict]:
    """What was recorded of each evaluation of a version, see `record.json` above."""
    records = [record_on(version, m.data, m.digest) for m in version.measured if m.data and m.digest]
    return [record for record in records if record is not None]


def record_on(version: Version, data: str, digest: str) -> dict | None:
    """The record of the evaluation on data of that name and digest, of which the start is enough; None without one."""
    record = None
    if text := version.evaluations.get(digest[:16]):  # as it was logged by a former release
        record = json.loads(text)
    with suppress(MlflowException, OSError):
        record = load_dict(f"runs:/{version.run_id}/{_artifact_folder(data, digest)}/{RECORD}")
    return record if record and record["digest"].startswith(digest) else None


def _joined(known: pd.DataFrame, added: pd.DataFrame) -> pd.DataFrame:
    """Both tables of samples as one; columns of `added` replace those of the same name."""
    if known.empty or added.empty:
        return added if known.empty else known
    rest = known.drop(columns=[name for name in added.columns if name != SAMPLE], errors="ignore")
    # An outer join would sort the samples; theirs is the order of the data.
    order = pd.Index(dict.fromkeys((*known[SAMPLE], *added[SAMPLE])), name=SAMPLE)
    return pd.concat([each.set_index(SAMPLE).reindex(order) for each in (rest, added)], axis=1).reset_index()


def _artifact_folder(data: str, digest: str) -> str:
    """Artifact folder of one data set; one folder each, so that evaluations do not overwrite each other."""
    return f"{ARTIFACTS}/{re.sub(r'[^A-Za-z0-9]+', '-', data).strip('-')[-40:]}-{digest[:8]}"
