"""Present Harsanyi explanations of rows, texts, images and points: as text, graphs, figures and pages."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from conceptry.evaluation.harsanyi.client import explain_samples, record_of
from conceptry.evaluation.harsanyi.data import Sample, file_samples
from conceptry.evaluation.harsanyi.marks import trust
from conceptry.evaluation.harsanyi.patterns import strongest
from conceptry.evaluation.harsanyi.plots import STYLES, SUFFIXES, VIEWS, draw, save_records
from conceptry.evaluation.harsanyi.summary import pattern_name
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.presenter import Presenter, Shown, check_files
from conceptry.models.errors import InputError

MAX_SAMPLES = 20  # of all files
LISTED = 12  # patterns of each sample
GRAPH_DPI = 90  # of a graph among others on a page


@dataclass(frozen=True)
class Request:
    """Samples of each file, and the class to explain by, None for that of the version."""

    samples: Sequence[tuple[str, Sequence[Sample]]]
    target: str | None


def check_request(files: Sequence[Path], targets: Sequence[str], params: Mapping[str, str]) -> Request:
    """Read the samples. Raises InputError for files that hold none, for too many samples, and for several classes."""
    check_files("harsanyi", files, targets, most=1)
    samples = [(str(file), file_samples(file, params)[1]) for file in files]
    if (count := sum(len(own) for _, own in samples)) > MAX_SAMPLES:
        raise InputError(f"the files hold {count} samples; at most {MAX_SAMPLES} are explained at once")
    return Request(samples, targets[0] if targets else None)


def explain_request(predict: Predict, request: Request, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One record for each sample. Raises ConceptryError for a sample that the version refuses."""
    params = params if request.target is None else {**params, "target": request.target}
    records = []
    for file, samples in request.samples:
        for row, explained in enumerate(explain_samples(predict, samples, params=params)):
            records.append(record_of(explained, f"{file}, row {row}" if len(samples) > 1 else file))
    return records


def describe(records: Sequence[dict]) -> RenderableType:
    """List for each sample what is explained and its strongest patterns, one a line."""
    return Group(*(_pattern_lines(record) for record in records))


def _pattern_lines(record: dict) -> RenderableType:
    target, patterns = escape(record["target"]), record["patterns"]
    title = (
        f"{escape(record['file'])}: {target} {record['v_full']:+.3f}, {record['v_empty']:+.3f} at the baseline; "
        f"{record['n_kept']} patterns kept, explain ratio {record['explain_ratio']:.3f}, "
        f"squared error {record['square_error']:.2%}"
    )
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 2))
    spread = any(pattern.get("spread") is not None for pattern in patterns)
    for pattern in patterns[:LISTED]:
        around = f" ±{pattern['spread']:.3f}" if pattern.get("spread") is not None else ""
        table.add_row(f"{pattern['effect']:+.3f}{around}", escape(pattern_name(pattern)))
    if len(patterns) > LISTED:
        table.add_row("", f"and {len(patterns) - LISTED} more", style="dim")
    said = trust(record)
    hint = "" if record["believable"] else "; a larger --budget or fewer players may help"
    notes = [f"  {said}{hint}"] if said else []
    if rows := record.get("baselines"):
        notes.append(f"  mean over {rows} rows of the baseline" + (", with the standard deviation" if spread else ""))
    notes += [
        escape(f"  {name} = {value!r} is in no background row; the model took it")
        for name, value in record.get("unseen", {}).items()
    ]
    return Group(title, *notes, table, "")


def rows_of(record: dict) -> list[dict]:
    """One row of a table for each pattern that is kept."""
    return [
        {"file": record["file"], "target": record["target"], "pattern": pattern_name(p), "effect": p["effect"]}
        | ({"spread": p["spread"]} if p.get("spread") is not None else {})
        for p in record["patterns"]
    ]


def explain_items(predict: Predict, items: Sequence[Sample]) -> list[dict[str, Any]]:
    """One record for each sample of evaluation data."""
    return [record_of(explained, explained.sample.key) for explained in explain_samples(predict, items)]


def shown(record: dict) -> tuple[Shown, Shown]:
    """The sample, and its strongest patterns with their graph."""
    images = (("", record["picture"]),) if "picture" in record else ()
    stream = io.BytesIO()
    title = f"{record['target']}: the kept patterns"
    draw([record], "graph", title=title).savefig(stream, format="png", dpi=GRAPH_DPI)
    said = f"{record['target']} {record['v_full']:+.3f}, {record['v_empty']:+.3f} at the baseline"
    patterns = tuple((pattern_name(pattern), pattern["effect"]) for pattern in strongest(record))
    graph = (("", base64.b64encode(stream.getvalue()).decode()),)
    return Shown(images, _sample_text(record)), Shown(graph, said, patterns)


def _sample_text(record: dict) -> str:
    """A text as it is, and the values of a row; nothing of what is a picture or points."""
    sample = record["sample"]
    if record["modality"] == "text":
        return str(sample["text"])
    return ", ".join(f"{name} {value}" for name, value in sample.items()) if record["modality"] == "table" else ""


PRESENTER = Presenter(
    views=VIEWS,
    suffixes=SUFFIXES,
    check_request=check_request,
    records=explain_request,
    describe=describe,
    save=save_records,
    rows=rows_of,
    explain_items=explain_items,
    shown=shown,
    styles=tuple(STYLES),
)
