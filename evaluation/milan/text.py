"""Descriptions for the terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from conceptry.evaluation.milan.pictures import unit_name

OTHERS = 2


def describe(records: Sequence[dict]) -> RenderableType:
    """One line for each unit: what is said of it, how surely, and the next best descriptions; a table a version."""
    versions = list(dict.fromkeys(record.get("version", "") for record in records))
    parts: list[RenderableType] = []
    for version in versions:
        table = Table(box=None, header_style="dim", padding=(0, 1, 0, 2))
        table.add_column("", no_wrap=True)
        table.add_column("description")
        table.add_column("score", justify="right", no_wrap=True)
        table.add_column("PMI", justify="right", no_wrap=True)
        table.add_column("or")
        for record in records:
            if record.get("version", "") == version:
                others = "; ".join(entry["text"] for entry in record["alternatives"][:OTHERS])
                numbers = (f"{record['score']:.2f}", f"{record['pmi']:.2f}") if record["description"] else ("", "")
                said = escape(record["description"]) or "[dim]inactive[/dim]"
                table.add_row(escape(unit_name(record)), said, *numbers, f"[dim]{escape(others)}[/dim]")
        parts += [escape(version), table] if version else [table]
    return Group(*parts, "")
