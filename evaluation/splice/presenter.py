"""Present what SpLiCE versions say of images and texts: their words, as text, as data and as figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from conceptry.evaluation.drawing.images import image_text
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.presenter import Presenter, Shown, check_files
from conceptry.evaluation.splice.data import AnnotatedImage
from conceptry.evaluation.splice.plots import SUFFIXES, VIEWS, said_of_sure, save_records
from conceptry.evaluation.tables import DATA_SUFFIXES, write_data
from conceptry.models.errors import plural
from conceptry.models.explainer import is_given
from conceptry.models.images import is_image_file, read_image

FIELDS = ("concepts", "l0", "cosine", "gap")  # of an answer that a record holds
SURE = "sure"  # what a record holds besides, of an encoder whose answers have been judged
HIGH_GAP = 1e-5  # above any tolerance worth registering: the row did not converge


def check_request(
    files: Sequence[Path], targets: Sequence[str], params: Mapping[str, str]
) -> list[tuple[str, bytes | None]]:
    """Name and content of each image, None for the content of what is a text rather than the name of a file.

    Raises InputError for a file that is no image, and for classes.
    """
    check_files("splice", files, targets)
    return [(str(file), read_image(file)[0] if is_image_file(str(file)) else None) for file in files]


def explain_request(
    predict: Predict, request: Sequence[tuple[str, bytes | None]], params: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """One record for each image, with the image, and for each text."""
    asked = [{"text": name} if content is None else {"image": content} for name, content in request]
    rows = predict(pd.DataFrame(asked), params).rows.to_dict("records")
    return [
        ({"text": name} if content is None else {"file": name, "image": image_text(content)})
        | {field: row[field] for field in FIELDS}
        | ({SURE: row[SURE]} if is_given(row.get(SURE)) else {})
        for (name, content), row in zip(request, rows, strict=True)
    ]


def save(records: Sequence[dict], output: Path, view: str | None, style: Mapping[str, Any]) -> list[Path]:
    """Write all records to one file, as data or as a figure by its suffix; return it."""
    if output.suffix not in DATA_SUFFIXES:
        return save_records(records, output, view, style)
    rows = [row for record in records for row in rows_of(record)]
    write_data(output, PRESENTER.to_json(records), rows, describe(records))
    return [output]


def rows_of(record: dict) -> list[dict]:
    """One row of a table for each word; one without a word where there is none."""
    facts = {"input": _name(record), **{name: record[name] for name in (*FIELDS[1:], SURE) if name in record}}
    return [facts | entry for entry in record["concepts"] or [{"concept": None, "weight": None}]]


def _name(record: dict) -> str:
    """File or text that was explained."""
    return record.get("file") or record["text"]


def describe(records: Sequence[dict]) -> RenderableType:
    """List the words of each image or text for the terminal, one a line."""
    return Group(*(_words(record) for record in records))


def _words(record: dict) -> RenderableType:
    title = f"{escape(_name(record))}: {plural(record['l0'], 'word')}, cosine {record['cosine']:.3f}"
    if record["gap"] > HIGH_GAP:
        title += f", gap {record['gap']:.1e}"
    title += said_of_sure(record)
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 2))
    for entry in record["concepts"]:
        table.add_row(escape(entry["concept"]), f"{entry['weight']:.4f}")
    return Group(title, table, "")


def explain_items(predict: Predict, items: Sequence[AnnotatedImage]) -> list[dict[str, Any]]:
    """One record for each image of evaluation data, with what is known of it."""
    records = explain_request(predict, [(item.key, item.content()) for item in items], {})
    return [record | {"known": _known(item)} for record, item in zip(records, items, strict=True)]


def _known(item: AnnotatedImage) -> str:
    true = "; ".join(", ".join(words) for words in item.concepts.values())
    return f"true: {true}" if true else item.caption or ""


def shown(record: dict) -> tuple[Shown, Shown]:
    """The image or text, and its words."""
    images = (("", record["image"]),) if "image" in record else ()
    said = f"{plural(record['l0'], 'word')}, cosine {record['cosine']:.3f}{said_of_sure(record)}"
    words = tuple((entry["concept"], entry["weight"]) for entry in record["concepts"])
    return Shown(images, record.get("known") or record.get("text", "")), Shown(text=said, bars=words)


PRESENTER = Presenter(
    views=VIEWS,
    suffixes=(*SUFFIXES, *DATA_SUFFIXES),
    check_request=check_request,
    records=explain_request,
    describe=describe,
    save=save,
    rows=rows_of,
    explain_items=explain_items,
    shown=shown,
    unprinted=("image",),
)
