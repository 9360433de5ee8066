"""Progress bars on standard error, so that standard output stays clean for pipes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from conceptry.evaluation.terminal import Terminal

TELLING = 0.02  # share of a stage that has to be done before the rest is estimated
SOON = 5.0  # seconds that are not worth an estimate


@contextmanager
def bar(title: str) -> Iterator:
    """A bar to be fed `(what, share)`; gone from the terminal when it is done, and absent where there is none."""
    columns = (
        TextColumn("{task.fields[title]}", markup=False),  # names may hold what would be markup
        BarColumn(),
        TextColumn("{task.description}{task.fields[left]}", markup=False),
        TimeElapsedColumn(),
    )
    console = Terminal(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=1.0, title=title, left="")
        estimate = remaining()

        def update(what: str, share: float) -> None:
            progress.update(task, description=what, completed=share, left=estimate(share))

        yield update


def remaining(clock: Callable[[], float] = time.monotonic) -> Callable[[float], str]:
    """What to say of the time that is left, given the share that is done: from the pace of the present stage.

    A share below the last one begins a new stage.
    """
    began, first, last = clock(), 0.0, 0.0

    def left(share: float) -> str:
        nonlocal began, first, last
        if share < last:
            began, first = clock(), share
        last = share
        done = share - first
        if done < TELLING:
            return ""
        seconds = (1.0 - share) * (clock() - began) / done
        return f", {timedelta(seconds=round(seconds))} left" if seconds >= SOON else ""

    return left
