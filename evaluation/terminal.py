"""The terminal, and text files like it: what is printed there may come from outside, so none of it can act."""

import logging
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from conceptry.models.errors import visible


class Terminal(Console):
    """A console on which escape codes, marks of direction and the like are shown, whoever prints them.

    Texts are made harmless before they are measured, where they come as texts, and everything else when it is drawn.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


class LogFormatter(logging.Formatter):
    """Messages of a log by themselves, made harmless as on a `Terminal`."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))
