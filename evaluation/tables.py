"""Tables for the terminal and for files: comparisons, listings, single versions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from conceptry.evaluation.cells import csv_text
from conceptry.evaluation.comparison.compared import OTHER_REVISIONS, ComparedVersions
from conceptry.evaluation.comparison.leaders import RULE
from conceptry.evaluation.harness import Evaluation, Metric, evaluation_of
from conceptry.evaluation.intervals import Difference, Interval
from conceptry.evaluation.reports import evaluation_records
from conceptry.evaluation.terminal import Terminal
from conceptry.models.errors import plural
from conceptry.models.folders import writing
from conceptry.registry.comparison import Comparison
from conceptry.registry.promotion import Promotion
from conceptry.registry.versions import Version

DATA_SUFFIXES = (".txt", ".csv", ".json")  # of files that hold what was found rather than a figure of it


def comparison_table(
    comparison: Comparison, everything: bool = False, compared: ComparedVersions | None = None
) -> Table:
    """One column for each version: hyperparameters that differ, then metrics, the leaders of each row in bold.

    compared: the samples behind the metrics; without them there are no intervals, and nobody leads.
    """
    compared = compared or ComparedVersions(comparison)
    first, names = comparison.versions[0], dict.fromkeys(v.name for v in comparison.versions)
    table = Table(
        title=f"{escape(', '.join(names))} ({first.method})", title_justify="left", header_style="", box=SIMPLE_HEAD
    )
    table.add_column("")
    for version in comparison.versions:
        table.add_column(escape("\n".join([comparison.heading(version), *version.aliases])), justify="right")
    for key in comparison.differing:
        table.add_row(escape(key), *(escape(_short(v.params.get(key, ""))) for v in comparison.versions))
    table.add_section()
    for name in compared.shown_metrics(everything):
        title = f"{escape(name)} {compared.metric(name).arrow}".strip()
        table.add_row(title, *(_cell(compared, version, name) for version in comparison.versions))
    captions = []
    if comparison.data:
        captions.append(f"measured on {escape(comparison.data)} (SHA-256 {(comparison.digest or '')[:8]})")
    elif not comparison.comparable:
        captions.append("measured on different data: not to be ranked; evaluate all of them on the same")
    if not compared.has_one_meaning:
        captions.append(f"not to be ranked: {OTHER_REVISIONS}")
    if any(compared.intervals.values()):
        captions.append("±: half of the 95 % interval of a mean over samples")
        captions[-1] += f"; {RULE}" if len(compared.samples) > 1 else ""
    table.caption = "\n".join(captions) or None
    table.caption_justify = "left"
    return table


def agreement_table(agreed: pd.DataFrame) -> RenderableType:
    """Table of how far versions agree in pairs, one row and one column for each."""
    table = Table(header_style="", box=SIMPLE_HEAD)
    headings = {key: key if isinstance(key, str) else f"v{key}" for key in agreed.columns}
    for heading in ("", *headings.values()):
        table.add_column(escape(heading), justify="right")
    for key, row in agreed.iterrows():
        table.add_row(escape(headings[key]), *(f"{value:.2f}" for value in row))
    return Group("agreement of the kept patterns (mean Jaccard index)", table)


def comparison_records(
    comparison: Comparison, agreed: pd.DataFrame | None = None, compared: ComparedVersions | None = None
) -> list[dict[str, Any]]:
    """Comparison as data: one record for each version, with how it differs from the others where that is known."""
    compared = compared or ComparedVersions(comparison)
    keys = [comparison.key(v) for v in comparison.versions]
    return [
        {
            "name": v.name,
            "version": v.version,
            "aliases": list(v.aliases),
            "params": {key: v.params.get(key) for key in comparison.differing},
            "data": comparison.data,
            "metrics": comparison.scores[key],
            "scores": score_records(comparison.scores[key], compared.intervals.get(key, {})),
            "differences": {
                str(other): {name: _difference_record(found) for name, found in differences.items()}
                for other in keys
                if other != key and (differences := compared.differences(key, other))
            },
            **({} if agreed is None else {"agreement": agreed.loc[key].to_dict()}),
        }
        for key, v in zip(keys, comparison.versions, strict=True)
    ]


def score_records(metrics: Mapping[str, float], intervals: Mapping[str, Interval]) -> dict[str, dict[str, Any]]:
    """Each metric with the bounds of its 95 % interval, None where it is no mean over samples."""
    bounds = {name: (found.low, found.high) for name, found in intervals.items()}
    return {
        name: dict(zip(("mean", "low", "high"), (value, *bounds.get(name, (None, None))), strict=True))
        for name, value in metrics.items()
    }


def _difference_record(found: Difference) -> dict[str, Any]:
    return {
        "mean": found.mean, "low": found.low, "high": found.high, "samples": found.count,
        "larger": found.first_larger, "smaller": found.second_larger, "beyond_chance": found.beyond_chance,
    }  # fmt: skip


def summary_title(record: dict[str, Any]) -> str:
    """Title of a summary: the data, or a class of it."""
    return f"{record['label']} ({record['data']})" if record["label"] else record["data"]


_LISTS = ("edges", "histogram")  # of summaries, which have no place in a row


def save_summary(evaluation: Evaluation, record: dict[str, Any], output: Path) -> None:
    """Write a summary to a file: as data or as text, by its suffix, or else as a figure."""
    if output.suffix in DATA_SUFFIXES:
        facts = {name: value for name, value in record.items() if name not in ("concepts", *_LISTS)}
        rows = [facts | {k: v for k, v in entry.items() if k not in _LISTS} for entry in record["concepts"]]
        write_data(output, json.dumps(record, indent=2), rows, evaluation.describe_summary(record))
    else:
        evaluation.draw_summary(record).savefig(output)


def write_data(output: Path, data: str, rows: Sequence[Mapping[str, Any]], text: RenderableType) -> None:
    """Write what was found by the suffix of `output`: `data`, JSON text; `rows` as CSV; or `text` as it is printed."""
    with writing(output):
        if output.suffix == ".json":
            output.write_text(f"{data}\n", encoding="utf-8")
        elif output.suffix == ".csv":
            output.write_text(csv_text(pd.DataFrame(rows)), encoding="utf-8", newline="\n")
        else:
            with output.open("w", encoding="utf-8") as stream:
                Terminal(file=stream, width=130, emoji=False, highlight=False).print(text)


def versions_table(versions: Sequence[Version]) -> Table:
    """One row for each version."""
    table = Table(header_style="", box=SIMPLE_HEAD)
    for heading in ("version", "method", "aliases", "registered", "evaluated", "what"):
        table.add_column(heading)
    for v in versions:
        evaluated = len({m.digest for m in v.measured if m.digest})
        what = ", ".join(f"{key}={value}" for key, value in list(v.params.items())[:4])
        table.add_row(
            escape(f"{v.name}/{v.version}"),
            v.method,
            escape(", ".join(v.aliases)),
            f"{v.created:%Y-%m-%d %H:%M}",
            plural(evaluated, "data set") if evaluated else "no",
            escape(what),
        )
    return table


def version_tables(version: Version, history: Sequence[Promotion]) -> list[Table]:
    """Tables of all that is known of one version: identity, hyperparameters, metrics, digests, promotions."""
    recorded = version.recorded
    identity = {
        "uri": version.uri,
        "method": version.method,
        "aliases": ", ".join(version.aliases) or "none",
        "registered": f"{version.created:%Y-%m-%d %H:%M:%S} UTC",
        "run": version.run_id,
        "logged model": version.model_id,
        "fingerprint": version.fingerprint,
    }
    metrics = {}
    for name, value in sorted(version.metrics.items()):
        metric = _metric(version.method, name)
        metrics[name] = f"{value:{metric.format}}  {metric.meaning}"
    evaluations = {
        record["data"]: f"{record['count']} {record['unit']}, {record['at']}, SHA-256 {record['digest'][:16]}"
        for record in evaluation_records(version)
    }
    for measured in version.measured:  # the record of an evaluation comes last, after the metrics that make it count
        evaluations.setdefault(measured.data or "unnamed data", f"{measured.at:%Y-%m-%dT%H:%M:%S+00:00}")
    promoted = {
        p.at: f"{p.alias}: {p.previous or 'none'} -> {p.version} by {p.by} ({p.rule}; data: {p.data or 'none'})"
        for p in history
        if version.version in (p.version, p.previous)
    }
    parts = {
        "version": identity,
        "hyperparameters": version.params,
        "metrics": metrics,
        "evaluated on": evaluations,
        "lineage": dict(recorded.lineage),
        "digests": {
            "manifest": recorded.manifest_sha256,
            "code": recorded.code_sha256 or "unknown",
            **{f"sha256.{file}": digest for file, digest in recorded.files.items()},
        },
        "promotions": promoted,
    }
    return [_pairs(title, values) for title, values in parts.items() if values]


def _pairs(title: str, values: dict[str, str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in values.items():
        table.add_row(escape(key), escape(str(value)))
    return table


def _metric(method: str, name: str) -> Metric:
    return evaluation_of(method).metric(name) or Metric(None, ".4g", "")


def _cell(compared: ComparedVersions, version: Version, name: str) -> str:
    key = compared.comparison.key(version)
    value = compared.comparison.scores[key].get(name)
    if value is None:
        return ""
    form = compared.metric(name).format
    text = f"{value:{form}}"
    if key in compared.leaders(name):
        text = f"[bold]{text}[/bold]"
    if found := compared.interval(version, name):
        text += f" [dim]±{(found.high - found.low) / 2:{form}}[/dim]"
    return text


def _short(value: str, width: int = 28) -> str:
    return value if len(value) <= width else f"…{value[1 - width :]}"
