"""Write descriptions as files: a picture, or a table."""

import csv
from collections.abc import Sequence
from pathlib import Path

from conceptry.evaluation.milan.pictures import draw_units

VIEWS = ("units",)
SUFFIXES = (".png", ".svg", ".pdf", ".csv")
COLUMNS = ("layer", "unit", "description", "score", "log_likelihood", "pmi", "active")


def save_records(records: Sequence[dict], output: Path) -> list[Path]:
    """One picture of all records, or as .csv one row for each; with the column version where there are several."""
    if output.suffix == ".csv":
        columns = ["version", *COLUMNS] if any("version" in record for record in records) else list(COLUMNS)
        with output.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(records)
    else:
        draw_units(records).savefig(output, dpi=200)
    return [output]
