"""Evaluate versions of any method: measure each in a process of its own, and log the report to the version.

A method's `Evaluation` sees a version only through `predict`, so it judges every version by the same rule, whatever
code the version carries.
"""

import importlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd
from matplotlib.figure import Figure
from rich.console import RenderableType

from conceptry.evaluation.data import EvaluationData
from conceptry.evaluation.isolation.client import Predict, VersionProcess
from conceptry.evaluation.reports import Report, log_report, record_on, report_table
from conceptry.models.errors import ConceptryError, InputError, closest
from conceptry.models.method import METHODS, Progress
from conceptry.registry.comparison import Comparison
from conceptry.registry.versions import Version, check_loggable, find_version

BASIC = "basic"  # the group of metrics that every method has


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


@dataclass(frozen=True)
class MetricGroup:
    """Metrics that are measured together: what they say, and whether they are measured unless others are asked for."""

    meaning: str
    by_default: bool = True


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
        measure: (predict, data, progress, groups) -> (group, report) of each of `groups`, as soon as it is measured.
        groups: groups of metrics by name, in the order in which they are measured.
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
    measure: Callable[[Predict, Any, Progress, Collection[str]], Iterator[tuple[str, Report]]]
    summarise: Callable[[Predict, Any, str | None, Progress], dict]
    draw_summary: Callable[[dict], Figure]
    describe_summary: Callable[[dict], RenderableType]
    groups: Mapping[str, MetricGroup] = field(default_factory=lambda: {BASIC: MetricGroup("what it finds and costs")})
    family: Callable[[str], Metric | None] = lambda name: None
    known_of: Callable[[Version], Mapping[str, str]] = lambda version: version.params
    agreement: Callable[[Mapping[Any, pd.DataFrame]], pd.DataFrame] | None = None

    def metric(self, name: str) -> Metric | None:
        """Look up how the metric `name` is read; None where it is not one of the method."""
        return self.metrics.get(name) or self.family(name)

    def headlines(self, metrics: Mapping[str, float]) -> dict[str, str]:
        """Those of `metrics` that people look for first, as they read them."""
        known = ((name, self.metric(name)) for name in self.headline if name in metrics)
        return {name: f"{name} {metrics[name]:{read.format}} {read.arrow}" for name, read in known if read}

    def chosen(self, groups: Collection[str] | None) -> list[str]:
        """Names of groups in the order of measuring; for None those by default. Raises InputError for unknown names."""
        if groups is None:
            return [name for name, group in self.groups.items() if group.by_default]
        if unknown := [name for name in groups if name not in self.groups]:
            near = closest(unknown[0], self.groups) or self.groups
            raise InputError(f"{unknown[0]!r} is no group of metrics here; expected one of {', '.join(near)}")
        return [name for name in self.groups if name in groups]

    def evaluate(
        self, predict: Predict, data: Any, progress: Progress, groups: Collection[str] | None = None
    ) -> Report:
        """Measure `groups` of metrics (default: those by default) of a version, without logging anything."""
        whole = Report()
        for _, report in self.measure(predict, data, progress, self.chosen(groups)):
            whole.add(report)
        return whole


def evaluation_of(method: str) -> Evaluation:
    """The evaluation of a method of the contract."""
    assert method in METHODS
    return importlib.import_module(f"conceptry.evaluation.{method}.harness").EVALUATION


@dataclass(frozen=True)
class VersionReport:
    """A version, the data it was evaluated on, the report, the device that it ran on, and the groups of metrics.

    groups: those that were measured just now, none where all of them were there.
    """

    version: Version
    data: EvaluationData
    report: Report
    device: str
    groups: tuple[str, ...] = ()


def evaluate(
    uri: str,
    data: EvaluationData | str | None = None,
    *,
    size: int | None = None,
    seed: int = 0,
    device: str = "auto",
    groups: Collection[str] | None = None,
    missing: bool = False,
    progress: Progress = lambda what, share: None,
) -> VersionReport:
    """Evaluate the version `uri` in a process of its own and log metrics, tables and figures to it.

    `data` is data, a name that the method knows, or None for what suits the version. `groups` of metrics (default:
    those by default) are logged one by one, as each is measured; with `missing` only those that are not there yet.
    Raises ConceptryError where the version or the data cannot be loaded; nothing is logged then.
    """
    version = find_version(uri)
    check_loggable(version)
    evaluation = evaluation_of(version.method)
    asked = evaluation.chosen(groups)
    drawn: dict[str, int | None] = {}
    if not isinstance(data, EvaluationData):
        drawn = {"size": size, "seed": seed}
        progress("reading data", 0.0)
        data = evaluation.load_data(data, evaluation.known_of(version), size, seed)
    if missing:
        asked = [group for group in asked if not is_evaluated(version, data, (group,))]
    whole, used = Report(), ""
    if asked:
        is_known = is_evaluated(version, data, ())
        progress("loading the version", 0.0)
        with VersionProcess(version.uri, device) as predict:
            used = predict.device_in_use
            for group, report in evaluation.measure(predict, data, progress, asked):
                is_known = is_known or bool(report.metrics)
                if is_known:  # beside others a group that finds nothing was measured as well, and says why
                    headlines = evaluation.headlines(report.metrics)
                    about = {"revision": evaluation.revision, "headlines": headlines, "drawn": drawn}
                    log_report(version, data, report, (group,), **about)
                whole.add(report)
        if not is_known:
            raise ConceptryError(f"{data.name} holds nothing that {version.method} can be measured on")
    return VersionReport(find_version(version.uri), data, whole, used, tuple(asked))


def is_evaluated(version: Version, data: EvaluationData, groups: Collection[str] | None = None) -> bool:
    """Whether this revision of the evaluation has measured `groups` (default: those by default) on the same data."""
    record = record_on(version, data.logged_name, data.digest)
    evaluation = evaluation_of(version.method)
    if record is None or record["revision"] != evaluation.revision:
        return False
    return set(evaluation.chosen(groups)) <= set(record.get("groups", (BASIC,)))


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
