"""Signs, names, bars and axes that the pictures of Harsanyi interactions share.

A sign is told three times: by colour, by the side of zero and by the mark at the number. Names come from outside: they
are shown as plain text, never as markup, and cut to the room there is.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from conceptry.evaluation.drawing.style import ACCENT, GRID, INK, MUTED, SECOND, new_figure, quiet
from conceptry.models.harsanyi.graph import trust as sentence

POSITIVE, NEGATIVE = ACCENT, SECOND
# Colour and dash of each group of lines, so that no two look alike to colour-blind eyes or in grey.
LINES = [
    (ACCENT, "-"),
    (SECOND, "--"),
    ("#1b7f5c", "-."),
    (INK, ":"),
    ("#8a4fbf", (0, (5, 1))),
    ("#b08900", (0, (1, 1))),
]


def trust(record: Mapping[str, Any]) -> str:
    """How far a sampled answer is to be believed, as part of a sentence; "" of an exact one.

    Records of versions from before there were engines are exact.
    """
    if record.get("engine", "exact") != "sampled":
        return ""
    return sentence(record["r2"], record["r2_low"], record["r2_high"], record["believable"])


def number(value: float, sign: str = "") -> str:
    """Three digits, or all before the point, with a true minus."""
    if 999.5 <= abs(value) < 1e6:
        return f"{value:{sign},.0f}".replace("-", "\N{MINUS SIGN}")
    head, e, exponent = f"{value:{sign}#.3g}".partition("e")
    return (head.rstrip(".") + e + exponent).replace("-", "\N{MINUS SIGN}")


def signed(value: float) -> str:
    """The number with its mark, a true minus included; zero has no sign."""
    return number(value, "+") if value else "0"


def sign_colour(value: float) -> str:
    return MUTED if not value else POSITIVE if value > 0 else NEGATIVE


def plain(text: object) -> str:
    """Text from outside as one line that the fonts in use can show; what they cannot becomes a question mark."""
    fonts = [get_font(findfont(FontProperties(family=[family]))) for family in rcParams["font.family"]]
    line = " ".join(str(text)[:2000].split())
    return "".join(c if c.isprintable() and any(f.get_char_index(ord(c)) for f in fonts) else "?" for c in line)


def text_width(text: str, size: float) -> float:
    """Width in points of one line of text."""
    return _width(text, size, tuple(rcParams["font.family"]))


@lru_cache(maxsize=4096)
def _width(text: str, size: float, family: tuple[str, ...]) -> float:
    properties = FontProperties(family=list(family), size=size)
    return text_to_path.get_text_width_height_descent(text, properties, ismath=False)[0]


def shortened(text: object, width: float, size: float) -> str:
    """`plain` text, cut to fit `width` points."""
    line = plain(text)
    if text_width(line, size) <= width:
        return line
    # The most characters that fit beside the ellipsis; a longer text is never narrower.
    count = bisect_right(range(1, len(line)), width, key=lambda k: text_width(line[:k] + "…", size))
    return line[:count].rstrip() + "…"


def wrapped(text: object, width: float, size: float, lines: int) -> str:
    """`plain` text broken into at most `lines` lines of `width` points; what is left over ends in an ellipsis."""
    words, done, space = plain(text).split(), [], text_width(" ", size)
    while words and len(done) < lines - 1:
        ends = np.cumsum([text_width(word, size) + space for word in words]) - space
        count = max(int(np.searchsorted(ends, width, "right")), 1)
        done.append(shortened(" ".join(words[:count]), width, size))
        del words[:count]
    return "\n".join([*done, shortened(" ".join(words), width, size)] if words else done)


def signed_bars(
    axes: Axes, labels: Sequence[str], values: np.ndarray, positions: np.ndarray, height: float, width: float,
    scale: np.ndarray | None = None,
) -> None:  # fmt: skip
    """
    Horizontal bars from zero, names to the left, numbers at their ends.

    `width` is that of the axes in points, so that numbers get the room they need; `scale`, values that share one scale
    with these, where several panels do.
    """
    quiet(axes, grid="")
    axes.barh(positions, values, height=height, color=[sign_colour(value) for value in values])
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set_yticks(positions, labels, fontsize=10, color=INK, parse_math=False)
    for value, position in zip(values, positions, strict=True):
        side = -1 if value < 0 else 1
        axes.annotate(
            signed(value), (value, position), xytext=(3 * side, 0), textcoords="offset points", va="center",
            ha="left" if side > 0 else "right", fontsize=9, color=INK if value else MUTED,
        )  # fmt: skip
    every = values if scale is None else scale
    low, high = min(0.0, *every, 0.0), max(0.0, *every, 0.0)
    left = max((text_width(signed(value), 9) + 8 for value in every if value < 0), default=4.0)
    right = max((text_width(signed(value), 9) + 8 for value in every if value >= 0), default=4.0)
    unit = ((high - low) or 1.0) / (width - left - right)  # of the values, a point
    axes.set_xlim(low - left * unit, high + right * unit)
    axes.set_xticks([])


def dots(points: Sequence | np.ndarray) -> dict:
    """Markers where points are few: a line of one point would not be seen."""
    return {"marker": "o", "markersize": 3.5} if len(points) <= 16 else {}


def beside(axes: Axes, level: float, text: str) -> None:
    """A label to the right of the axes, where no line can cross it."""
    axes.annotate(
        text,
        (1, level),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=INK,
    )


def nothing(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=10, color=MUTED)


def legend(axes: Axes, where: Literal["lower left", "upper right"] = "lower left") -> None:
    for text in axes.legend(loc=where, fontsize=9, frameon=False, labelcolor=INK).get_texts():
        text.set_parse_math(False)


def line_axes(title: str) -> tuple[Figure, Axes]:
    figure = new_figure(6.8, 4.2)
    axes = quiet(figure.subplots(), grid="both")
    axes.set_title(title, loc="left", fontsize=11)
    return figure, axes


def count_axis(axes: Axes, last: float, name: str, first: float = 1) -> float:
    """A log axis of whole numbers from `first` to `last`; returns its right end."""
    decades = np.log10(last / first)
    parts = (1, 2, 5) if decades <= 3 else (1,)
    ticks = [part * 10**power for power in range(8) for part in parts]
    if last <= 8:
        ticks = list(range(1, 9))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if first <= t <= last]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    margin = 10 ** (0.03 * max(decades, 0.5))
    axes.set_xlim(first / margin, last * margin)
    axes.set_xlabel(f"{name} (log scale)")
    axes.spines["bottom"].set_visible(True)
    axes.spines["bottom"].set_color(GRID)
    return last * margin


def ranks_shown(count: int, points: int = 500) -> np.ndarray:
    """Ranks from 1 to `count`, evenly spread on a log axis: 2^20 points a line would only cost time."""
    return np.unique(np.geomspace(1, count, points).round().astype(int))


def line_styles(count: int) -> list:
    """Colour and dash of each of `count` groups of lines."""
    return [LINES[k] if k < len(LINES) else (MUTED, "-") for k in range(count)]


def count_text(value: float) -> str:
    """A count, or a mean of counts, with two digits where it is small and not whole."""
    return f"{value:.0f}" if value >= 100 or float(value).is_integer() else f"{value:.2g}"
