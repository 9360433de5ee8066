"""The look that all figures share: no display, one palette, quiet axes; and the check of how they are asked for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from conceptry.models.errors import InputError, visible

INK, MUTED, GRID = "#1f2933", "#6b7785", "#e4e8ec"
ACCENT, SECOND = (
    "#2f6fde",
    "#e07a3f",
)  # apart in hue and in lightness, so also for colour-blind eyes and in grey


class LiteralFigure(Figure):
    """A figure whose texts stand as they are: $ begins no formula, and what would act in a file is shown.

    Texts of axes come into being while a figure is drawn, so that is when they are looked at. Numbers along an axis are
    matplotlib's own, and may be formulas.
    """

    def draw(self, renderer: RendererBase) -> None:
        numbers: set[Artist] = set()
        for axis in (axis for axes in self.axes for axis in (axes.xaxis, axes.yaxis)):
            for is_minor, formatter in enumerate((axis.get_major_formatter(), axis.get_minor_formatter())):
                if not isinstance(formatter, FuncFormatter):
                    numbers.update(axis.get_ticklabels(minor=bool(is_minor)))
                elif not isinstance(formatter.func, _LiteralLabels):
                    formatter.func = _LiteralLabels(formatter.func)
        for text in self.findobj(Text):
            if isinstance(text, Text) and text not in numbers:
                text.set_parse_math(False)
                text.set_text(visible(text.get_text()))
        super().draw(renderer)


class _LiteralLabels:
    """Labels that were given for places on an axis, made harmless."""

    def __init__(self, label: Callable[..., str]) -> None:
        self.label = label

    def __call__(self, x: float, pos: int | None = None) -> str:
        return visible(self.label(x, pos))


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches; no pyplot, so threads and servers can draw."""
    return LiteralFigure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")


def quiet(axes: Axes, grid: str = "y") -> Axes:
    """Remove what does not carry data: frame, ticks, loud colours."""
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, colors=MUTED, labelsize=9)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]  # "x", "y" or "both"
    axes.set_axisbelow(True)
    axes.title.set_color(INK)
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)
    return axes


def check_style(
    method: str,
    view: str | None,
    views: Sequence[str],
    style: Mapping[str, Any],
    styles: Sequence[str] = (),
) -> str:
    """Return the view to draw: `view`, or the first of `views` for None.

    Raises InputError for a view or a style that the figures of `method` do not have.
    """
    if view and view not in views:
        raise InputError(f"{method} has no view {view!r}; expected one of {', '.join(views)}")
    if unknown := sorted(style.keys() - set(styles)):
        known = ", ".join(styles) or "none"
        raise InputError(f"{method} has no style {unknown[0]!r}; expected one of {known}")
    return view or views[0]
