"""Present what SpLiCE versions say of images: their words, as text and as figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from conceptry.evaluation.drawing.images import image_text
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.presenter import Presenter, check_files
from conceptry.evaluation.splice.plots import SUFFIXES, VIEWS, save_records
from conceptry.models.images import read_image

FIELDS = ("concepts", "l0", "cosine", "gap")  # of an answer that a record holds
HIGH_GAP = 1e-5  # above any tolerance worth registering: the row did not converge


def check_request(files: Sequence[Path], targets: Sequence[str], params: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """Name and content of each image. Raises InputError for a file that is none, and for classes."""
    check_files("splice", files, targets)
    return [(str(file), read_image(file)[0]) for file in files]


def explain_request(
    predict: Predict, request: Sequence[tuple[str, bytes]], params: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """One record for each image, with the image."""
    rows = predict(pd.DataFrame({"image": [content for _, content in request]}), params).rows.to_dict("records")
    return [
        {"file": name, "image": image_text(content)} | {field: row[field] for field in FIELDS}
        for (name, content), row in zip(request, rows, strict=True)
    ]


def describe(records: Sequence[dict]) -> RenderableType:
    """List the words of each image for the terminal, one a line."""
    return Group(*(_words(record) for record in records))


def _words(record: dict) -> RenderableType:
    title = f"{escape(record['file'])}: {record['l0']} words, cosine {record['cosine']:.3f}"
    if record["gap"] > HIGH_GAP:
        title += f", gap {record['gap']:.1e}"
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 2))
    for entry in record["concepts"]:
        table.add_row(escape(entry["concept"]), f"{entry['weight']:.4f}")
    return Group(title, table, "")


PRESENTER = Presenter(
    views=VIEWS,
    suffixes=SUFFIXES,
    check_request=check_request,
    records=explain_request,
    describe=describe,
    save=save_records,
    unprinted=("image",),
)
