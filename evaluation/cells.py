"""Text in CSV files, which people open in spreadsheets: there a cell that begins like a formula would be computed.

| in the table | in the file |
|---|---|
| text that begins with = + - @, a tab or a carriage return | the same after an apostrophe |
| such text after apostrophes | one apostrophe more, so that reading undoes exactly what writing did |
| anything else, numbers among it, written as text or not | as it is |

Spreadsheets show the apostrophe. `original` takes it away; the readers of conceptry do so by themselves.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

_ACTIVE = re.compile(r"'*[=+\-@\t\r]")
_QUOTED = re.compile(r"'+[=+\-@\t\r]")


def inert(value: Any) -> Any:
    """A value as it is written to a cell: text that a spreadsheet would compute gets an apostrophe."""
    if not isinstance(value, str) or not _ACTIVE.match(value) or _is_number(value):
        return value
    return f"'{value}"


def original(text: str) -> str:
    """The text that `inert` was given."""
    return text[1:] if _QUOTED.match(text) else text


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file with a line of names; text that a spreadsheet would compute is quoted."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([inert(name) for name in columns])
        writer.writerows([inert(value) for value in row] for row in rows)


def csv_text(table: pd.DataFrame) -> str:
    """A table as the text of a CSV file, without its index; text that a spreadsheet would compute is quoted."""
    text = table.map(inert).rename(columns=inert)
    return text.to_csv(index=False)


def originals(table: pd.DataFrame) -> pd.DataFrame:
    """The table that `csv_text` was given, from what was read of it."""
    return table.map(lambda value: original(value) if isinstance(value, str) else value).rename(columns=original)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
