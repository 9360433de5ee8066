"""Perturbations for the terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

NAME = 30  # letters of a file's name
_HEADINGS = ("before", "toward", "after", "changed", "L1", "L2", "loss", "steps")


def describe(records: Sequence[dict]) -> RenderableType:
    """One line for each perturbation: from which class to which, and what it took; a table for each version."""
    versions = list(dict.fromkeys(record.get("version", "") for record in records))
    parts: list[RenderableType] = []
    for version in versions:
        table = Table(box=None, header_style="dim", padding=(0, 1, 0, 2))
        table.add_column("", no_wrap=True)
        for heading in _HEADINGS:
            table.add_column(heading, justify="right", no_wrap=True)
        for record in records:
            if record.get("version", "") == version:
                _add(table, record)
        parts += [escape(version), table] if version else [table]
    return Group(*parts, "")


def _add(table: Table, record: dict) -> None:
    name = "from noise" if record["probe"] else record["file"]
    name = name if len(name) <= NAME else f"…{name[1 - NAME :]}"
    before = shown(record["before"][0])
    for side in (record, *record["other"]):
        after = shown(side["after"][0])
        if not side["success"]:
            after = f"{after} (not reached)"
        numbers = f"{side['changed']:.1%}", f"{side['l1']:.2f}", f"{side['l2']:.2f}", f"{abs(side['loss']):.3g}"
        table.add_row(escape(name), escape(before), escape(aim(side)), escape(after), *numbers, f"{side['steps']}")
        name = before = ""


def shown(entry: dict) -> str:
    """A class with its probability."""
    return f"{entry['class']} {entry['probability']:.2f}"


def aim(side: dict) -> str:
    """The class that a perturbation goes toward, or that it leaves."""
    return side["target"] or f"away from {side['source']}"
