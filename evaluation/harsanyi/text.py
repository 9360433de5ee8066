"""Harsanyi explanations for the terminal."""

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

SHOWN = 12  # patterns of each sample


def describe(records: list[dict]) -> RenderableType:
    """For each sample what is explained, then its strongest patterns, one a line."""
    return Group(*(_described(record) for record in records))


def _described(record: dict) -> RenderableType:
    target, patterns = escape(record["target"]), record["patterns"]
    title = (
        f"{escape(record['file'])}: {target} {record['v_full']:+.3f}, {record['v_empty']:+.3f} at the baseline; "
        f"{record['n_kept']} patterns kept, explain ratio {record['explain_ratio']:.3f}, "
        f"squared error {record['square_error']:.2%}"
    )
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 2))
    for pattern in patterns[:SHOWN]:
        table.add_row(f"{pattern['effect']:+.3f}", escape(pattern_name(pattern)))
    if len(patterns) > SHOWN:
        table.add_row("", f"and {len(patterns) - SHOWN} more", style="dim")
    return Group(title, table, "")


def pattern_name(pattern: dict) -> str:
    """The players of a pattern, joined by its kind."""
    return f" {pattern['kind'].upper()} ".join(pattern["players"])
