"""An audit as a picture: the share of matching units per layer, and below it the clearest matches with exemplars."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from conceptry.evaluation.milan.audit_page import layers_of, title_of
from conceptry.evaluation.milan.auditing import Audit, Match
from conceptry.evaluation.milan.overlay import drawn
from conceptry.evaluation.plots import ACCENT, INK, MUTED, SECOND, new_figure, quiet

ROWS, PICTURES = 8, 8  # of each of the two columns of matches; exemplars of each match
_WIDTH, _ROW = 4.8, 0.85  # of a column and of a match, inches
_TOP, _BOTTOM, _LEGEND = 0.4, 0.45, 0.24  # above and below the bars, and of a legend above them


def draw_audit(audits: Sequence[Audit], words: Sequence[str]) -> Figure:
    """Bars of the shares per layer, with counts; below, the clearest matches that have exemplars, of one network in
    two columns, of two networks in one column each.
    """
    layers = [*layers_of(audits), None]
    columns = [_clearest(audit, ROWS * (3 - len(audits))) for audit in audits]
    if len(columns) == 1:
        half = -(-len(columns[0]) // 2)
        columns = [columns[0][:half], columns[0][half:]]
    rows = max(len(column) for column in columns)
    # Every place is known, so nothing has to be laid out: dozens of small axes would take seconds.
    bars = 0.35 + 0.08 * len(layers) + 0.2 * len(layers) * len(audits)
    above = _TOP + (_LEGEND if len(audits) > 1 else 0)
    width, height = 2 * _WIDTH, above + bars + _BOTTOM + _ROW * rows
    figure = new_figure(width, height)
    figure.set_layout_engine("none")

    def place(left: float, top: float, right: float, bottom: float) -> Axes:
        """Axes between these distances in inches from the left and from the top."""
        return figure.add_axes((left / width, 1 - bottom / height, (right - left) / width, (bottom - top) / height))

    margin = 0.25 + 0.085 * max(len(layer or "all") for layer in layers)
    _draw_shares(place(margin, above, width - 0.15, above + bars), audits, layers, words)
    for column, matches in enumerate(columns):
        title = f"{audits[column].title}:  " if len(audits) > 1 else ""
        for row, match in enumerate(matches):
            left, top = column * _WIDTH + 0.1, above + bars + _BOTTOM + row * _ROW
            _draw_match(place(left, top + 0.22, left + _WIDTH - 0.2, top + _ROW - 0.05), match, title)
    return figure


def _draw_match(axes: Axes, match: Match, title: str) -> None:
    if match.strip is not None:
        axes.imshow(drawn(match.strip, PICTURES), interpolation="antialiased")
    axes.set_anchor("W")
    axes.set_axis_off()
    text = f"{title}{match.unit.layer} {match.unit.unit}  {match.unit.description}"
    short = text if len(text) < 70 else f"{text[:69]}\N{HORIZONTAL ELLIPSIS}"
    axes.set_title(short, loc="left", fontsize=9, color=INK, pad=3, parse_math=False)


def _draw_shares(axes: Axes, audits: Sequence[Audit], layers: Sequence[str | None], words: Sequence[str]) -> None:
    quiet(axes, "x")
    height = 0.8 / len(audits)
    places = np.arange(len(layers), dtype=float)
    for k, audit in enumerate(audits):
        shares = [audit.share(layer) for layer in layers]
        at = places + (k - (len(audits) - 1) / 2) * height
        colour = (ACCENT, SECOND)[k]
        axes.barh(at, shares, height=0.86 * height, color=colour, label=audit.title)
        for y, layer, share in zip(at, layers, shares, strict=True):
            total = sum(audit.units.values()) if layer is None else audit.units.get(layer)
            if total is not None:
                text = f" {audit.count(layer):,} of {total:,}"
                axes.text(share, y, text, va="center", fontsize=8, color=MUTED)
    axes.set_yticks(places, ["all" if layer is None else layer for layer in layers])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.set_xlim(left=0, right=axes.get_xlim()[1] or 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    pad = 6 + (72 * _LEGEND if len(audits) > 1 else 0)
    axes.set_title(title_of(words, 8), loc="left", fontsize=11, pad=pad, parse_math=False)
    if len(audits) > 1:
        axes.legend(
            frameon=False, fontsize=9, labelcolor=MUTED, loc="lower left", bbox_to_anchor=(-0.01, 0.99), ncols=2
        )


def _clearest(audit: Audit, most: int) -> list[Match]:
    """The surest ones, in the order of the network."""
    shown = [match for match in audit.matches if match.strip is not None]
    ranked = sorted(shown, key=lambda match: -match.unit.certainty)[:most]
    return [match for match in shown if match in ranked]
