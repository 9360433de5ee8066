"""Write explanations as files: And-Or graphs, pattern pictures, overviews, and pages to explore a graph in."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from conceptry.evaluation.harsanyi.data import Sample
from conceptry.evaluation.harsanyi.graph_figure import draw_graph, save_graph
from conceptry.evaluation.harsanyi.graph_page import write_page
from conceptry.evaluation.harsanyi.pattern_pictures import draw_explanation, draw_patterns
from conceptry.models.errors import InputError
from conceptry.models.harsanyi.graph import AndOrGraph
from conceptry.models.images import decode_image

VIEWS = ("graph", "patterns", "explanation")
# of the view graph; see `draw_graph`
STYLES: dict[str, type] = {"title": str, "highlight": str, "colours": str, "max_patterns": int, "rows": int}


def save_records(records: list[dict], output: Path, view: str, style: Mapping[str, Any]) -> list[Path]:
    """Write each record to a file, numbered where there are several; returns the files.

    Suffix .html gives a page, any other a picture of the kind `view`. `style` holds options of `draw_graph`, of which a
    page takes the title only. Raises InputError for a style that does not go with the file.
    """
    _check_style(style, view, output.suffix)
    numbered = [output.with_stem(f"{output.stem}-{k}") for k in range(len(records))]
    files = [output] if len(records) == 1 else numbered
    for record, file in zip(records, files, strict=True):
        record = record | {"file": Path(record["file"]).name}
        title = style.get("title") or f"{record['target']}: {record['file']}"
        options: dict[str, Any] = {**style, "title": title}
        if file.suffix == ".html":
            write_page(AndOrGraph.from_json(record["graph"]), file, title)
        elif view == "graph":
            figure = draw_graph(AndOrGraph.from_json(record["graph"]), **options)
            save_graph(figure, file)
        else:
            save_graph(_drawn(record, view), file)
    return files


def picture_of(sample: Sample) -> dict[str, str]:
    """The picture of a sample that is one, as base64 of its file, so that a record can be written as JSON."""
    content = sample.values.get("image")
    return {"picture": base64.b64encode(content).decode()} if isinstance(content, bytes) else {}


def _drawn(record: dict, view: str) -> Figure:
    if "picture" in record:
        segments = np.asarray(record["sample"]["segments"])
        picture = decode_image(base64.b64decode(record["picture"])).resize(segments.shape[::-1])
        record = record | {"sample": record["sample"] | {"picture": picture, "segments": segments}}
    return draw_patterns(record) if view == "patterns" else draw_explanation(record)


def _check_style(style: Mapping[str, Any], view: str, suffix: str) -> None:
    allowed = ("title",) if suffix == ".html" else tuple(STYLES) if view == "graph" else ()
    for name, value in style.items():
        if name not in allowed:
            what = "an HTML page" if suffix == ".html" else f"the view {view}"
            raise InputError(f"{what} has no style {name!r}; expected {', '.join(allowed) or 'none'}")
        if not isinstance(value, STYLES[name]) or isinstance(value, bool):
            raise InputError(f"the style {name} must be of type {STYLES[name].__name__}, got {value!r}")
