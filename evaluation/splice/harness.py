"""Evaluate SpLiCE versions: sparsity, fidelity, what the words say, what the recomposition still knows, and speed.

Everything is asked through `predict`, as a user would: pictures, prompts and captions go in, decompositions and
embeddings come out, so the same code judges a version in any runtime and with any code of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from conceptry.evaluation.data import PictureData, load_data, table_data
from conceptry.evaluation.drawing.images import image_text
from conceptry.evaluation.harness import Metric, Progress, Report, check_given
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.splice import experiments
from conceptry.evaluation.splice import metrics as m
from conceptry.evaluation.splice.client import explain_pictures
from conceptry.evaluation.splice.plots import VIEWS, draw, draw_frontier, draw_summary
from conceptry.evaluation.splice.summary import describe_summary, summarise
from conceptry.models.images import open_image

FRONTIER_PICTURES = 256
FIELDS = ("concepts", "l0", "cosine", "gap")  # of an answer that a record holds
HIGH_GAP = 1e-5  # above any tolerance worth registering: the row did not converge

_METRICS = {
    "l0": Metric("lower", ".2f", "words per picture, mean"),
    "l0_std": Metric(None, ".2f", "words per picture, standard deviation"),
    "cosine": Metric("higher", ".3f", "cosine of z and z_hat, mean"),
    "cosine_std": Metric(None, ".3f", "cosine of z and z_hat, standard deviation"),
    "gap": Metric("lower", ".1e", "duality gap, mean"),
    "gap_std": Metric(None, ".1e", "duality gap, standard deviation"),
    "gap_max": Metric("lower", ".1e", "duality gap, largest"),
    "zero_shot": Metric("higher", ".3f", "zero-shot accuracy with z"),
    "zero_shot_recomposed": Metric("higher", ".3f", "zero-shot accuracy with z_hat"),
    "zero_shot_ratio": Metric("higher", ".3f", "zero-shot accuracy with z_hat over that with z"),
    "suppressed_accuracy": Metric(None, ".3f", "zero-shot accuracy with z_hat, the word of the class suppressed"),
    "suppressed_accuracy_drop": Metric("higher", ".3f", "zero-shot accuracy that suppressing the class's word costs"),
    "retrieval": Metric("higher", ".3f", "picture-to-caption recall at 1 with z"),
    "retrieval_recomposed": Metric("higher", ".3f", "picture-to-caption recall at 1 with z_hat"),
    "concept_precision": Metric("higher", ".3f", "share of named words that are true"),
    "encode_ms": Metric("lower", ".2f", "milliseconds per picture to decode and encode it, batch 64"),
    "solve_ms": Metric("lower", ".3f", "milliseconds per picture to solve and recompose, batch 64"),
}


def _recall_metric(name: str) -> Metric:
    kind = name.removeprefix("recall_")
    if kind.endswith("_all"):
        return Metric("higher", ".3f", f"share of pictures whose {kind.removesuffix('_all')} words are all named")
    return Metric("higher", ".3f", f"share of true {kind} words that are named")


class _MetricTable(dict[str, Metric]):
    """The fixed metrics, and one for each kind of true words that data brings along."""

    def __missing__(self, name: str) -> Metric:
        if name.startswith("recall_"):
            return _recall_metric(name)
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self or name.startswith("recall_") else default


class SpliceHarness:
    """See `conceptry.evaluation.harness.Harness`."""

    revision = 1
    views = VIEWS
    styles = ()
    suffixes = (".png", ".svg", ".pdf")
    beside = False
    agreement = None
    metrics: Mapping[str, Metric] = _MetricTable(_METRICS)
    headline = (
        "l0",
        "cosine",
        "gap_max",
        "zero_shot_recomposed",
        "zero_shot_ratio",
        "retrieval_recomposed",
        "recall_objects_all",
        "recall_colour",
        "concept_precision",
        "encode_ms",
        "solve_ms",
    )

    def load_data(self, name: str | None, params: Mapping[str, str], size: int | None, seed: int) -> PictureData:
        return load_data(name or "zoo:emoji-scenes", size, seed)

    def table_data(
        self, table: pd.DataFrame, labels: Sequence[object] | None, name: str, params: Mapping[str, str]
    ) -> PictureData:
        return table_data(table, labels, name)

    def evaluate(self, predict: Predict, data: PictureData, progress: Progress) -> Report:
        pictures = data.pictures
        explained = explain_pictures(predict, pictures, lambda share: progress("explaining pictures", 0.6 * share))
        report = Report()
        report.metrics |= {
            **m.spread(explained.l0, "l0"),
            **m.spread(explained.cosine, "cosine"),
            **m.spread(explained.gap, "gap"),
            "gap_max": float(explained.gap.max()),
        }
        progress("zero-shot and retrieval", 0.6)
        with _noted(report, "zero-shot accuracy"):
            report.metrics |= experiments.zero_shot(predict, pictures, explained)
        with _noted(report, "retrieval"):
            report.metrics |= experiments.retrieval(predict, pictures, explained)
        report.metrics |= experiments.concepts(pictures, explained)
        progress("timing", 0.7)
        report.metrics |= experiments.timing(predict, pictures, explained)
        z = explained.z[:FRONTIER_PICTURES]
        frontier = experiments.frontier(predict, z, lambda share: progress("frontier", 0.8 + 0.2 * share))
        report.tables["frontier"] = frontier
        report.figures["frontier"] = draw_frontier(frontier, report.metrics["l0"], report.metrics["cosine"])
        progress("done", 1.0)
        return report

    def check_request(self, files: list[Path], targets: Sequence[str], params: Mapping[str, str]) -> list[str]:
        given = check_given("splice", files, targets)
        for file in files:
            open_image(file)
        return given

    def records(
        self, predict: Predict, files: list[Path], params: Mapping[str, Any], targets: Sequence[str] = ()
    ) -> list[dict]:
        contents = [file.read_bytes() for file in files]
        rows = predict(pd.DataFrame({"image": contents}), params).rows.to_dict("records")
        return [
            {"file": str(file), "image": image_text(content)} | {name: row[name] for name in FIELDS}
            for file, content, row in zip(files, contents, rows, strict=True)
        ]

    def save(self, records: list[dict], output: Path, view: str | None, style: Mapping[str, Any]) -> list[Path]:
        draw(records, view, **style).savefig(output)
        return [output]

    def summarise(self, predict: Predict, data: PictureData, label: str | None, progress: Progress) -> dict:
        return summarise(predict, data, label, lambda share: progress("explaining pictures", share))

    def draw_summary(self, record: dict) -> Figure:
        return draw_summary(record)

    def describe_summary(self, record: dict) -> RenderableType:
        return describe_summary(record)

    def describe(self, records: list[dict]) -> RenderableType:
        return Group(*(_described(record) for record in records))


def _described(record: dict) -> RenderableType:
    title = f"{escape(record['file'])}: {record['l0']} words, cosine {record['cosine']:.3f}"
    if record["gap"] > HIGH_GAP:
        title += f", gap {record['gap']:.1e}"
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 2))
    for entry in record["concepts"]:
        table.add_row(escape(entry["concept"]), f"{entry['weight']:.4f}")
    return Group(title, table, "")


@contextmanager
def _noted(report: Report, what: str) -> Iterator[None]:
    """Leave out metrics where the version refuses a class name or a caption, and say why."""
    try:
        yield
    except experiments.REFUSALS as error:
        report.notes.append(f"{what} is left out: {getattr(error, 'message', error)}")
