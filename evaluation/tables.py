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
from conceptry.evaluation.harness import Evaluation, Metric, evaluation_of
from conceptry.evaluation.reports import evaluation_records
from conceptry.evaluation.terminal import Terminal
from conceptry.models.errors import plural
from conceptry.models.folders import writing
from conceptry.registry.comparison import Comparison
from conceptry.registry.promotion import Promotion
from conceptry.registry.versions import Version

DATA_SUFFIXES = (".txt", ".csv", ".json")  # of files that hold what was found rather than a figure of it


def comparison_table(comparison: Comparison, everything: bool = False) -> Table:
    """One column for each version: hyperparameters that differ, then metrics, the best of each row in bold."""
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
    for name in _shown_metrics(comparison, everything):
        metric = _metric(first.method, name)
        values = [comparison.scores[comparison.key(version)].get(name) for version in comparison.versions]
        table.add_row(f"{escape(name)} {metric.arrow}".strip(), *_cells(values, metric, comparison.comparable))
    if comparison.data:
        table.caption = f"measured on {escape(comparison.data)} (SHA-256 {(comparison.digest or '')[:8]})"
    elif not comparison.comparable:
        table.caption = "measured on different data: not to be ranked; evaluate all of them on the same"
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


def comparison_records(comparison: Comparison, agreed: pd.DataFrame | None = None) -> list[dict[str, Any]]:
    """Comparison as data: one record for each version, with its agreement with the others where that is known."""
    return [
        {
            "name": v.name,
            "version": v.version,
            "aliases": list(v.aliases),
            "params": {key: v.params.get(key) for key in comparison.differing},
            "data": comparison.data,
            "metrics": comparison.scores[comparison.key(v)],
            **({} if agreed is None else {"agreement": agreed.loc[comparison.key(v)].to_dict()}),
        }
        for v in comparison.versions
    ]


def summary_title(record: dict[str, Any]) -> str:
    """Title of a summary: the data, or a class of it."""
    return f"{record['label']} ({record['data']})" if record["label"] else record["data"]


def save_summary(evaluation: Evaluation, record: dict[str, Any], output: Path) -> None:
    """Write a summary to a file: as data or as text, by its suffix, or else as a figure."""
    if output.suffix in DATA_SUFFIXES:
        facts = {name: value for name, value in record.items() if name != "concepts"}
        rows = [facts | entry for entry in record["concepts"]]
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


def _shown_metrics(comparison: Comparison, everything: bool) -> list[str]:
    headline = evaluation_of(comparison.versions[0].method).headline
    shown = [name for name in headline if name in comparison.metrics]
    return shown + [name for name in comparison.metrics if name not in shown] if everything else shown


def _metric(method: str, name: str) -> Metric:
    return evaluation_of(method).metric(name) or Metric(None, ".4g", "")


def _cells(values: Sequence[float | None], metric: Metric, ranked: bool) -> list[str]:
    present = [value for value in values if value is not None]
    best = (
        {"higher": max, "lower": min, None: lambda _: None}[metric.better](present)
        if ranked and len(present) > 1
        else None
    )
    texts = ["" if value is None else f"{value:{metric.format}}" for value in values]
    # Equal as printed counts as equal: bold marks a difference that the reader can see.
    bold = f"{best:{metric.format}}" if best is not None and len(set(filter(None, texts))) > 1 else None
    return [f"[bold]{text}[/bold]" if text and text == bold else text for text in texts]


def _short(value: str, width: int = 28) -> str:
    return value if len(value) <= width else f"…{value[1 - width :]}"
