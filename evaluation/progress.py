"""Progress bars on standard error, so that standard output stays clean for pipes."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from conceptry.evaluation.terminal import Terminal


@contextmanager
def bar(title: str) -> Iterator:
    """A bar to be fed `(what, share)`; gone from the terminal when it is done, and absent where there is none."""
    columns = (
        TextColumn("{task.fields[title]}", markup=False),  # names may hold what would be markup
        BarColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
    )
    console = Terminal(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=1.0, title=title)
        yield lambda what, share: progress.update(task, description=what, completed=share)
