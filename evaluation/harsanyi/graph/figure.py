"""The And-Or graph as a figure: root, patterns, coalitions and players in layers, for SVG, PNG and PDF.

`layout` says where the nodes go; here they are drawn, with their edges and a legend. A sign is told by colour, by the
mark at the number and by the outline (solid: positive, dashed: negative); an "or" pattern has round ends and says so.
Below each effect a strip shows which players the pattern holds, in the order of the bottom row, so that membership can
be read where edges are too many to follow.
"""

import math
import re
from collections.abc import Collection
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path as Curve

from conceptry.evaluation.drawing.style import GRID, INK, MUTED, new_figure
from conceptry.evaluation.harsanyi.graph.layout import LINE, MARGIN, SMALL, STRIP, TEXT, Box, Layout, layout, wrapped
from conceptry.evaluation.harsanyi.marks import NEGATIVE, POSITIVE, number, shortened, signed, text_width
from conceptry.models.errors import InputError, plural
from conceptry.models.harsanyi.graph import AndOrGraph, Pattern

SHARED = "#eef1f4"  # ground of coalitions
PALE = 0.16  # opacity of what is not highlighted


class GraphDrawing:
    """The nodes and edges of one graph on one set of axes."""

    def __init__(self, axes: Axes, graph: AndOrGraph, placed: Layout, bold: Collection[int] | None, colours: str):
        self.axes, self.graph, self.placed, self.bold = axes, graph, placed, bold
        order = {"signs": (POSITIVE, NEGATIVE), "reversed": (NEGATIVE, POSITIVE), "simple": ("#5b6673", "#5b6673")}
        self.positive, self.negative = order[colours]
        self.lit_coalitions, self.lit_players = set(), set()
        for place in range(len(graph.patterns)) if bold is None else bold:
            self.lit_coalitions.update(graph.patterns[place].coalitions)
            self.lit_players.update(graph.patterns[place].players)

    def colour(self, effect: float) -> str:
        return self.positive if effect > 0 else self.negative if effect < 0 else MUTED

    def lit(self, place: int) -> bool:
        return self.bold is None or place in self.bold

    def edges(self) -> None:
        """Curves that leave and enter upright; their strength falls with the effect and with the number of edges."""
        graph, placed = self.graph, self.placed
        largest = max((abs(p.effect) for p in graph.patterns), default=0.0) or 1.0
        crowd = min(1.0, (60 / max(graph.n_edges, 1)) ** 0.5)
        bold_width = 2.0 if len(self.bold or ()) <= 4 else 1.2
        ground = min((box.top[1] for box in placed.players.values()), default=0.0)
        patches, colours, widths, layers = [], [], [], []

        def add(curve: Curve, colour: str, strength: float, lit: bool) -> None:
            opacity, width = (0.25 + 0.55 * strength) * crowd, 0.7 + 1.3 * strength
            if self.bold is not None:
                opacity, width = (0.95, bold_width) if lit else (PALE * crowd, 0.7)
            patches.append(PathPatch(curve))
            colours.append((*to_rgb(colour), opacity))
            widths.append(width)
            layers.append(lit)

        for place, (pattern, box) in enumerate(zip(graph.patterns, placed.patterns, strict=True)):
            strength, lit, colour = abs(pattern.effect) / largest, self.lit(place), self.colour(pattern.effect)
            add(_curve(placed.root.bottom, box.top), MUTED, strength, lit)
            for lower in [placed.coalitions[c] for c in pattern.coalitions]:
                add(_curve(box.bottom, lower.top), colour, strength, lit)
            for player in graph.direct(pattern):
                x, y = placed.players[player].top
                stops = [(x, ground), (x, y)]
                if placed.coalitions:
                    lane, row = placed.lanes[player], placed.coalitions[0]
                    stops = [(lane, row.top[1]), (lane, row.bottom[1]), *stops]
                add(_curve(box.bottom, *stops), colour, strength, lit)
        for place, coalition in enumerate(graph.coalitions):
            for player in coalition:
                x, y = placed.players[player].top
                curve = _curve(placed.coalitions[place].bottom, (x, ground), (x, y))
                add(curve, MUTED, 0.5, place in self.lit_coalitions)
        for layer in (False, True):  # what is lit lies above
            chosen = [k for k, value in enumerate(layers) if value is layer]
            self.axes.add_collection(
                PatchCollection(
                    [patches[k] for k in chosen], facecolor="none", edgecolor=[colours[k] for k in chosen],
                    linewidth=[widths[k] for k in chosen], zorder=1 + layer,
                ),
                autolim=False,
            )  # fmt: skip

    def nodes(self) -> None:
        placed = self.placed
        root = placed.root
        self.axes.add_patch(Circle((root.x, root.y), root.width / 2, facecolor=INK, edgecolor="none", zorder=4))
        self.axes.text(root.x, root.y, "+", ha="center", va="center_baseline", fontsize=15, color="white", zorder=6)
        for place, box in enumerate(placed.patterns):
            self.pattern(box, self.graph.patterns[place], self.lit(place))
        for place, box in enumerate(placed.coalitions):
            lit = place in self.lit_coalitions
            self.box(box, facecolor=SHARED, edgecolor=MUTED, rounding=3, lit=lit, size=SMALL)
        for player, box in placed.players.items():
            self.box(box, facecolor="white", edgecolor=GRID, rounding=3, lit=player in self.lit_players, size=SMALL)
        if not placed.patterns:
            x, y = placed.root.bottom
            self.axes.text(x, y + 20, "no pattern", ha="center", va="center", fontsize=TEXT, color=MUTED)

    def pattern(self, box: Box, pattern: Pattern, lit: bool) -> None:
        colour = self.colour(pattern.effect)
        opacity = 1.0 if lit else PALE * 2
        round_ends = pattern.kind == "or"
        self.box(
            box, facecolor="white", edgecolor=colour, rounding=box.height / 2 if round_ends else 2, lit=lit,
            dashed=pattern.effect < 0, wide=1.8 if lit and self.bold is not None else 1.2, size=TEXT, lift=5,
        )  # fmt: skip
        used = self.graph.used_players
        inset = 12 if round_ends else 6
        step = (box.width - 2 * inset) / len(used)
        left, y = box.x - box.width / 2 + inset, box.bottom[1] - STRIP - 4
        cells = [Rectangle((left + k * step, y), step, STRIP) for k, player in enumerate(used)]
        held = [player in pattern.players for player in used]
        fills = [to_rgba(colour if inside else GRID, opacity) for inside in held]
        self.axes.add_collection(
            PatchCollection(cells, facecolor=fills, edgecolor="white", linewidth=0.4, zorder=5), autolim=False
        )

    def box(
        self, box: Box, *, facecolor: str, edgecolor: str, rounding: float, size: float, lit: bool = True,
        dashed: bool = False, wide: float = 1.0, lift: float = 0.0,
    ) -> None:  # fmt: skip
        """A rounded box with its lines of text, `lift` points above the middle."""
        opacity = 1.0 if lit else PALE * 2
        style = f"round,pad=0,rounding_size={rounding}"
        corner = box.x - box.width / 2, box.y - box.height / 2
        # An opaque ground first, so that edges do not show through what is pale.
        for fill, edge, layer in (("white", "none", 3), (facecolor, edgecolor, 4)):
            self.axes.add_patch(
                FancyBboxPatch(
                    corner, box.width, box.height, boxstyle=style, facecolor=fill, edgecolor=edge, linewidth=wide,
                    linestyle=(0, (3, 2)) if dashed else "-", alpha=1.0 if layer == 3 else opacity, zorder=layer,
                )
            )  # fmt: skip
        # Line by line on its own baseline: so neighbours align whatever letters they have.
        for k, line in enumerate(box.lines):
            y = box.y - lift + (k - (len(box.lines) - 1) / 2) * size * LINE + 0.36 * size
            self.axes.text(
                box.x, y, line, ha="center", va="baseline", fontsize=size, color=INK, alpha=1.0 if lit else 0.45,
                zorder=6, parse_math=False,
            )  # fmt: skip

    def legend(self) -> None:
        """One line of the marks that the drawing uses."""
        y = self.placed.height - 18
        kinds = {pattern.kind for pattern in self.graph.patterns}
        signs = {pattern.effect < 0 for pattern in self.graph.patterns}
        x = MARGIN
        for wanted, text, edge, fill, dashed, rounding in (
            (False in signs, "raises the output", self.positive, "white", False, 2),
            (True in signs, "lowers it", self.negative, "white", True, 2),
            ("and" in kinds, "needs all of its players", MUTED, "white", False, 2),
            ("or" in kinds, "needs any of them", MUTED, "white", False, 6),
            (self.graph.coalitions, "players that patterns share", MUTED, SHARED, False, 3),
        ):
            if not wanted:
                continue
            self.box(
                Box(x + 10, y, 20, 12), facecolor=fill, edgecolor=edge, rounding=rounding, size=SMALL,
                dashed=dashed, wide=1.2,
            )  # fmt: skip
            self.axes.text(x + 26, y, text, va="center", fontsize=SMALL, color=MUTED)
            x += 26 + text_width(text, SMALL) + 18


def _curve(start: tuple[float, float], *stops: tuple[float, float]) -> Curve:
    """From `start` through `stops`, upright at each of them."""
    points, codes = [start], [Curve.MOVETO]
    for x, y in stops:
        middle = (points[-1][1] + y) / 2
        points += [(points[-1][0], middle), (x, middle), (x, y)]
        codes += [Curve.CURVE4] * 3
    return Curve(points, codes)


COLOURS = ("signs", "reversed", "simple")
HIGHLIGHTS = '"largest", "top 20%" or "rank-K" with K from 1'
POINTS = 72.0  # in an inch


def draw_graph(
    graph: AndOrGraph, *, title: str | None = None, highlight: str | None = None, max_patterns: int | None = None,
    colours: str = "signs", rows: int | None = None, figsize: tuple[float, float] | None = None,
) -> Figure:  # fmt: skip
    """Draw `graph`; `save_graph` writes the figure.

    title: None shows the target.
    highlight: "largest", "top 20%" (any whole percentage of the patterns, rounded up) or "rank-K": these patterns with
        their coalitions and players are drawn bold, all others pale.
    max_patterns: only the strongest are drawn, and the drawing says how many are not.
    colours: "signs" (blue is positive), "reversed" (orange is positive) or "simple" (grey; marks alone tell signs).
    rows: number of rows of patterns; None: as few as fit.
    figsize: width and height in inches, into which the whole drawing is scaled; None: as large as its content wants.

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
    drawing = GraphDrawing(axes, shown, placed, bold, colours)
    drawing.edges()
    drawing.nodes()
    drawing.legend()
    if figsize is not None:
        _scale(figure, figsize)
    return figure


def _scale(figure: Figure, figsize: tuple[float, float]) -> None:
    """Fit a figure of one set of axes into `figsize`; places scale with the axes, letters and lines are scaled here."""
    width, height = (float(side) for side in figsize)
    if not (math.isfinite(width) and math.isfinite(height) and min(width, height) > 0):
        raise InputError(f"figsize must be a width and a height in inches above 0, got {tuple(figsize)}.")
    (axes,) = figure.axes
    wide, tall = figure.get_size_inches()
    scale = min(width / wide, height / tall)
    figure.set_size_inches(width, height)
    share = scale * wide / width, scale * tall / height
    axes.set_position(((1 - share[0]) / 2, (1 - share[1]) / 2, *share))
    for text in axes.texts:
        text.set_fontsize(text.get_fontsize() * scale)
    for patch in axes.patches:
        patch.set_linewidth(patch.get_linewidth() * scale)
    for collection in axes.collections:
        collection.set_linewidth(np.asarray(collection.get_linewidth()) * scale)


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
    return AndOrGraph(graph.players, coalitions, patterns, graph.v_full, graph.v_empty, graph.target, graph.note)


def _heading(axes: Axes, graph: AndOrGraph, shown: AndOrGraph, placed: Layout, title: str | None) -> None:
    width = placed.width - 2 * MARGIN
    text = graph.heading(title)
    axes.text(MARGIN, 24, shortened(text, width, 13), fontsize=13, color=INK, parse_math=False)
    rest = len(graph.patterns) - len(shown.patterns)
    counted = f"{len(shown.patterns)} pattern" + ("s" if len(shown.patterns) != 1 else "")
    if graph.v_full is None or graph.v_empty is None:
        axes.text(MARGIN, 42, f"{counted}, together {signed(shown.total)}", fontsize=TEXT, color=MUTED)
        return
    difference = graph.v_full - graph.total
    says = (
        f"{number(graph.v_full)} for the whole sample = {number(graph.v_empty)} for the baseline "
        f"{_term(shown.total - graph.v_empty)} by {counted}"
    )
    if rest:
        says += f" {_term(graph.total - shown.total)} by {rest} weaker, not drawn"
    if abs(difference) > 1e-6 * max(abs(graph.v_full), abs(graph.v_empty), 1e-12):
        says += f" {_term(difference)} unexplained"
    if idle := len(graph.players) - len(shown.used_players):
        says += f"; {idle} of {plural(len(graph.players), 'player')} in none of them"
    for k, line in enumerate(wrapped(says, width, TEXT, 2)):
        axes.text(MARGIN, 42 + k * TEXT * LINE, line, fontsize=TEXT, color=MUTED, parse_math=False)


def _term(value: float) -> str:
    return ("\N{MINUS SIGN} " if value < 0 else "+ ") + number(abs(value))
