"""Signs, names and bars that the pictures of Harsanyi interactions share.

A sign is told three times: by colour, by the side of zero and by the mark at the number. Names come from outside: they
are shown as plain text, never as markup, and cut to the room there is.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

from conceptry.evaluation.plots import ACCENT, INK, MUTED, SECOND, quiet

POSITIVE, NEGATIVE = ACCENT, SECOND


def number(value: float, sign: str = "") -> str:
    """Three digits, with a true minus."""
    head, e, exponent = f"{value:{sign}#.3g}".partition("e")
    return (head.rstrip(".") + e + exponent).replace("-", "\N{MINUS SIGN}")


def signed(value: float) -> str:
    """The number with its mark, a true minus included; zero has no sign."""
    return number(value, "+") if value else "0"


def sign_colour(value: float) -> str:
    return MUTED if not value else POSITIVE if value > 0 else NEGATIVE


def plain(text: object) -> str:
    """Text from outside as one line that the fonts in use can show; what they cannot becomes a question mark."""
    fonts = [get_font(findfont(FontProperties(family=[family]))) for family in FontProperties().get_family()]
    line = " ".join(str(text)[:2000].split())
    return "".join(c if c.isprintable() and any(f.get_char_index(ord(c)) for f in fonts) else "?" for c in line)


def text_width(text: str, size: float) -> float:
    """Width in points of one line of text."""
    return text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0]


def shortened(text: object, width: float, size: float) -> str:
    """`plain` text, cut to fit `width` points."""
    line = plain(text)
    if text_width(line, size) <= width:
        return line
    while line and text_width(line + "…", size) > width:
        line = line[:-1].rstrip() if len(line) < 200 else line[: len(line) // 2]
    return line + "…"


def signed_bars(
    axes: Axes, labels: Sequence[str], values: np.ndarray, positions: np.ndarray, height: float,
    span: tuple[float, float] | None = None,
) -> None:  # fmt: skip
    """Horizontal bars from zero with names to the left; `span` (lowest, highest value) lets panels share one scale."""
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
    low, high = span or (min(0.0, *values, 0.0), max(0.0, *values, 0.0))
    width = (high - low) or 1.0
    # Room for the numbers at the ends of the bars.
    axes.set_xlim(low - width * (0.34 if low < 0 else 0.02), high + width * 0.34)
    axes.set_xticks([])
