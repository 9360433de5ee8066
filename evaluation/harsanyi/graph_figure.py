"""The And-Or graph as a picture: root, patterns, coalitions and players in layers, for SVG, PNG and PDF.

A sign is told by colour, by the mark at the number and by the outline (solid: positive, dashed: negative); an "or"
pattern has round ends and says so. Below each effect a strip shows which players the pattern holds, in the order of the
bottom row, so that membership can be read where edges are too many to follow.
"""

import math
import re
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from conceptry.evaluation.harsanyi.graph_layout import LINE, MARGIN, TEXT, Layout, layout, wrapped
from conceptry.evaluation.harsanyi.graph_nodes import Picture
from conceptry.evaluation.harsanyi.marks import number, shortened
from conceptry.evaluation.plots import INK, MUTED, new_figure
from conceptry.models.errors import InputError
from conceptry.models.harsanyi.graph import AndOrGraph, Pattern

COLOURS = ("signs", "reversed", "simple")
HIGHLIGHTS = '"largest", "top 20%" or "rank-K" with K from 1'
POINTS = 72.0  # in an inch


def draw_graph(
    graph: AndOrGraph, *, title: str | None = None, highlight: str | None = None, max_patterns: int | None = None,
    colours: str = "signs", rows: int | None = None,
) -> Figure:  # fmt: skip
    """Draw `graph`; `save_graph` writes the figure.

    title: None shows the target.
    highlight: "largest", "top 20%" (any whole percentage of the patterns, rounded up) or "rank-K": these patterns with
        their coalitions and players are drawn bold, all others pale.
    max_patterns: only the strongest are drawn, and the picture says how many are not.
    colours: "signs" (blue is positive), "reversed" (orange is positive) or "simple" (grey; marks alone tell signs).
    rows: number of rows of patterns; None: as few as fit.

    Raises InputError where an option is not one of these.
    """
    if colours not in COLOURS:
        raise InputError(f"colours must be one of {', '.join(COLOURS)}, got {colours!r}.")
    for name, value in (("max_patterns", max_patterns), ("rows", rows)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, got {value}.")
    shown = graph if max_patterns is None else strongest(graph, max_patterns)
    chosen = highlighted(graph, highlight)
    bold = None if chosen is None else chosen & set(range(len(shown.patterns)))
    if chosen and not bold:
        raise InputError(f"highlight {highlight!r} is not among the {len(shown.patterns)} patterns that are drawn.")
    placed = layout(shown, rows)
    figure = new_figure(placed.width / POINTS, placed.height / POINTS)
    figure.set_layout_engine("none")  # every place is known
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, placed.width)
    axes.set_ylim(placed.height, 0)
    axes.set_axis_off()
    _heading(axes, graph, shown, placed, title)
    picture = Picture(axes, shown, placed, bold, colours)
    picture.edges()
    picture.nodes()
    picture.legend()
    return figure


def save_graph(figure: Figure, path: str | Path) -> None:
    """Write `figure` as SVG (text stays text), PNG or PDF, by the ending of `path`; equal figures give equal files."""
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in (".svg", ".png", ".pdf"):
        raise InputError(f"{path.name}: a picture is written as .svg, .png or .pdf.")
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}[ending]
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "conceptry", "pdf.fonttype": 42}):
        figure.savefig(path, metadata=undated)


def highlighted(graph: AndOrGraph, highlight: str | None) -> set[int] | None:
    """The patterns that `highlight` means, by their rank from 0; None for no highlight."""
    if highlight is None:
        return None
    count = len(graph.patterns)
    if highlight == "largest":
        return set(range(min(1, count)))
    if share := re.fullmatch(r"top ([1-9]\d?|100) ?%", highlight):
        return set(range(math.ceil(count * int(share[1]) / 100)))
    if (rank := re.fullmatch(r"rank-([1-9]\d{0,8})", highlight)) and int(rank[1]) <= count:
        return {int(rank[1]) - 1}
    raise InputError(f"highlight must be {HIGHLIGHTS} up to the {count} patterns there are, got {highlight!r}.")


def strongest(graph: AndOrGraph, count: int) -> AndOrGraph:
    """`graph` with its `count` strongest patterns alone, and the coalitions that these are written with."""
    kept = graph.patterns[:count]
    used = sorted({c for pattern in kept for c in pattern.coalitions})
    place = {c: k for k, c in enumerate(used)}
    patterns = tuple(Pattern(p.players, tuple(place[c] for c in p.coalitions), p.effect, p.kind) for p in kept)
    coalitions = tuple(graph.coalitions[c] for c in used)
    return AndOrGraph(graph.players, coalitions, patterns, graph.v_full, graph.v_empty, graph.target)


def _heading(axes: Axes, graph: AndOrGraph, shown: AndOrGraph, placed: Layout, title: str | None) -> None:
    width = placed.width - 2 * MARGIN
    text = f"Patterns behind {graph.target}" if title is None else title
    axes.text(MARGIN, 24, shortened(text, width, 13), fontsize=13, color=INK, parse_math=False)
    rest = len(graph.patterns) - len(shown.patterns)
    counted = f"{len(shown.patterns)} pattern" + ("s" if len(shown.patterns) != 1 else "")
    difference = graph.v_full - graph.total
    says = (
        f"{number(graph.v_full)} for the whole sample = {number(graph.v_empty)} for the baseline "
        f"{_term(shown.total - graph.v_empty)} by {counted}"
    )
    if rest:
        says += f" {_term(graph.total - shown.total)} by {rest} weaker, not drawn"
    if abs(difference) > 1e-6 * max(abs(graph.v_full), abs(graph.v_empty), 1e-12):
        says += f" {_term(difference)} unexplained"
    for k, line in enumerate(wrapped(says, width, TEXT, 2)):
        axes.text(MARGIN, 42 + k * TEXT * LINE, line, fontsize=TEXT, color=MUTED, parse_math=False)


def _term(value: float) -> str:
    return ("\N{MINUS SIGN} " if value < 0 else "+ ") + number(abs(value))
