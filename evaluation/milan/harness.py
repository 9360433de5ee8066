"""The harness of milan: whether descriptions of units say what is true, how they are worded, and how fast they come.

Everything is asked through `predict`, as a user would: exemplars and masks of units that the version has never seen
go in, descriptions come out. So a describer with another training, another decoding, or none at all (CLIP-Dissect) is
judged by the same rule, and the baselines on the same units stand beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import RenderableType

from conceptry.evaluation.harness import Metric, Progress, Report
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.milan import metrics as m
from conceptry.evaluation.milan.cli_requests import EXEMPLARS, check_request, explain_request
from conceptry.evaluation.milan.client import CaseDescription, describe_cases, record_of
from conceptry.evaluation.milan.data import UnitData, load_units, table_units
from conceptry.evaluation.milan.plots import SUFFIXES, VIEWS, draw, draw_scores, save_records
from conceptry.evaluation.milan.summary import describe, describe_summary, draw_summary, summarise
from conceptry.models.errors import ConceptryError

DRAWN = 8


class MilanHarness:
    """See `conceptry.evaluation.harness.Harness`."""

    revision = 1
    metrics: Mapping[str, Metric] = m.METRICS
    views = VIEWS
    styles = ()
    suffixes = SUFFIXES
    beside = True
    agreement = None
    headline = (
        "property_set",
        "property_set_single",
        "clip_dissect_property_set_single",
        "net_dissect_property_set_single",
        "planted",
        "planted_shuffled",
        "colour_units",
        "clip_score",
        "bleu",
        "rougeL",
        "vocabulary",
        "length",
        "units_per_second",
    )

    def load_data(self, name: str | None, params: Mapping[str, str], size: int | None, seed: int) -> UnitData:
        return load_units(name, params, size, seed)

    def table_data(
        self, table: pd.DataFrame, labels: Sequence[object] | None, name: str, params: Mapping[str, str]
    ) -> UnitData:
        return table_units(table, labels, name, params)

    def evaluate(self, predict: Predict, data: UnitData, progress: Progress) -> Report:
        report = Report()
        asked = {} if data.cases[0].images is not None else EXEMPLARS  # of the version's own units, to be scored
        describe_cases(predict, data.cases[:1])  # what happens once only is not timed
        said = describe_cases(predict, data.cases, asked, _part(progress, "describing units", 0.0, 0.7))
        report.metrics |= m.right_names([d.description for d in said], said) | m.use_of_words(said) | m.speed(said)
        report.tables["descriptions"] = m.descriptions_table(said)
        if data.controls:
            random = describe_cases(predict, data.controls, progress=_part(progress, "random pictures", 0.7, 0.8))
            report.metrics |= m.controls(said, random)
        wording, notes = m.wording(said)
        report.metrics |= wording
        report.notes += notes
        self._baselines(data, said, report, progress)
        if any(name in report.metrics for name in m.NAMED):
            report.figures["scores"] = draw_scores(report.metrics)
        report.figures["units"] = draw(_drawn(said))
        progress("done", 1.0)
        return report

    def _baselines(self, data: UnitData, said: Sequence[CaseDescription], report: Report, progress: Progress) -> None:
        progress("baselines", 0.8)
        try:
            if data.encoder:
                report.metrics["clip_score"] = _clip_score(data, said)
            else:
                report.notes.append("clip_score is left out: the version has no clip_encoder, or it is not known here")
        except ConceptryError as error:  # an encoder that cannot be had, or whose words are others
            report.notes.append(f"clip_score is left out: {error}")
        for name, texts in data.baselines.items():
            report.metrics |= {f"{name}_{key}": score for key, score in m.right_names(texts, said).items()}
            report.tables["descriptions"][name] = texts

    def check_request(self, files: list[Path], targets: Sequence[str], params: Mapping[str, str]) -> list[str]:
        return check_request(files, targets, params)

    def records(
        self, predict: Predict, files: list[Path], params: Mapping[str, Any], targets: Sequence[str] = ()
    ) -> list[dict]:
        return explain_request(predict, files, params, targets)

    def save(self, records: list[dict], output: Path, view: str | None, style: Mapping[str, Any]) -> list[Path]:
        return save_records(records, output)

    def describe(self, records: list[dict]) -> RenderableType:
        return describe(records)

    def summarise(self, predict: Predict, data: UnitData, label: str | None, progress: Progress) -> dict:
        return summarise(predict, data, label, _part(progress, "describing units", 0.0, 1.0))

    def draw_summary(self, record: dict) -> Figure:
        return draw_summary(record)

    def describe_summary(self, record: dict) -> RenderableType:
        return describe_summary(record)


def _part(progress: Progress, what: str, start: float, end: float) -> Callable[[float], None]:
    return lambda share: progress(what, start + (end - start) * share)


def _drawn(described: Sequence[CaseDescription]) -> list[dict]:
    """Records of a few units, the same number of each group, with their truth."""
    groups = {d.case.group: [e for e in described if e.case.group == d.case.group] for d in described}
    each = -(-DRAWN // len(groups))
    shown = [d for members in groups.values() for d in members[:each]][:DRAWN]
    return [record_of(d) | {"truth": sorted(d.case.truth or ()), "right": m.is_right(d)} for d in shown]


def _clip_score(data: UnitData, said: Sequence[CaseDescription]) -> float:
    texts = [d.description for d in said]
    if data.cases[0].images is not None:
        return m.clip_score(data.encoder, texts, data.embedded)
    exemplars = [d.exemplars for d in said if d.exemplars is not None]
    assert len(exemplars) == len(said)  # they were asked for
    return m.clip_score(data.encoder, texts, m.mean_embeddings(data.encoder, ((e.images, e.masks) for e in exemplars)))
