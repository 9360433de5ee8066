"""Nothing that is printed acts on the terminal, in whatever form it comes."""

import io
import logging

from rich.table import Table
from rich.text import Text

from conceptry.evaluation.terminal import LogFormatter, Terminal

HOSTILE = "a\x1b[31m\x07\rb\u202e"
SHOWN = r"a\x1b[31m\x07\rb\u202e"


def test_texts_tables_and_titles_are_shown() -> None:
    stream = io.StringIO()
    console = Terminal(file=stream, width=100, emoji=False, highlight=False)
    console.print(HOSTILE, markup=False)
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    table.add_row(Text("t\x1b[0m"))
    console.print(table)
    printed = stream.getvalue()
    assert "\x1b" not in printed
    assert "\u202e" not in printed
    assert printed.count(SHOWN) == 4
    assert r"t\x1b[0m" in printed
    rows = [line for line in printed.splitlines() if line.startswith(("│", "┃"))]
    assert len({len(line) for line in rows}) == 1  # measured as they are shown


def test_colours_of_the_program_stay() -> None:
    stream = io.StringIO()
    Terminal(file=stream, force_terminal=True, color_system="standard").print("[bold]best[/bold]")
    assert stream.getvalue() == "\x1b[1mbest\x1b[0m\n"


def test_logs_are_shown() -> None:
    record = logging.LogRecord("x", logging.WARNING, "x", 1, "file %s", (HOSTILE,), None)
    assert LogFormatter("%(message)s").format(record) == f"file {SHOWN}"
