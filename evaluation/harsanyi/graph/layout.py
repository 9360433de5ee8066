"""Layout of an And-Or graph: where its nodes go, in points from the top left corner, and how names are broken.

Layers from the top: root, patterns in as many rows as they need, coalitions, players. Players keep their order, so a
sentence reads as it was written; coalitions stand above their players; patterns run by falling strength, row by row.
Every second row is shifted by half a step, so that the edges of one row pass between the nodes of the next. Along a
row, boxes that would overlap are moved apart, and edges get lanes between the boxes.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from conceptry.evaluation.harsanyi.marks import plain, shortened, signed, text_width
from conceptry.models.harsanyi.graph import AndOrGraph

CLEAR = 5.0  # points between two lanes, and between a lane and a box


def apart(centres: Sequence[float], widths: Sequence[float], low: float, high: float, gap: float) -> list[float]:
    """`centres` (ascending) moved so that intervals of `widths` are `gap` apart and, if they fit, in [low, high]."""
    moved = list(centres)
    edge = low
    for k, width in enumerate(widths):
        moved[k] = max(moved[k], edge + width / 2)
        edge = moved[k] + width / 2 + gap
    edge = high
    for k in reversed(range(len(moved))):
        moved[k] = min(moved[k], edge - widths[k] / 2)
        edge = moved[k] - widths[k] / 2 - gap
    return moved


def lanes(xs: dict[int, float], boxes: Sequence[tuple[float, float]], width: float) -> dict[int, float]:
    """Where the edges to each player pass a row of disjoint `boxes` (left, right), in a picture of `width`.

    xs: the place of each player, ascending. Its lane is straight above it, or else in the nearest gap: so that no edge
    comes out from below a box that it does not belong to. No two players share a lane.
    """
    ends = [0.0, *(x for box in sorted(boxes) for x in box), width]
    gaps = [(low + CLEAR, high - CLEAR) for low, high in zip(ends[::2], ends[1::2], strict=True)]
    nearest: dict[int, list[int]] = {}
    for player, x in xs.items():
        away = [max(low - x, x - high, 0.0) + 1e6 * (high < low) for low, high in gaps]
        nearest.setdefault(away.index(min(away)), []).append(player)
    found: dict[int, float] = {}
    for place, players in nearest.items():
        low, high = gaps[place]
        step = min(CLEAR, (high - low) / max(len(players) - 1, 1))
        wanted = [min(max(xs[player], low), high) for player in players]
        found.update(zip(players, apart(wanted, [0.0] * len(players), low, high, step), strict=True))
    return found


TEXT, SMALL = 9.0, 8.0  # font sizes
LINE = 1.25  # height of a line, in font sizes
MARGIN, GAP = 22.0, 9.0
PASS = 30.0  # between coalitions, for the edges that pass
NARROWEST, WIDEST = 470.0, 1010.0  # of the picture
WIDER = 3.0  # times WIDEST, where words of many players would not stay whole otherwise
TOP, LEGEND = 98.0, 46.0  # room for title and root, and for the legend
PATTERN_HEIGHT, CELL, STRIP = 30.0, 2.8, 5.0  # CELL: least width of a player in the strip of a pattern
NAME_LINES, COALITION_LINES = 3, 5
SLOT = 118.0  # the widest that the place of one player gets


@dataclass(frozen=True)
class Box:
    """A node: its centre, its size, and its lines of text."""

    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...] = ()

    @property
    def top(self) -> tuple[float, float]:
        return self.x, self.y - self.height / 2

    @property
    def bottom(self) -> tuple[float, float]:
        return self.x, self.y + self.height / 2


@dataclass(frozen=True)
class Layout:
    """The boxes of all nodes; `players` by index, only of those in use; `lanes`: where their edges pass coalitions."""

    width: float
    height: float
    root: Box
    patterns: tuple[Box, ...]
    coalitions: tuple[Box, ...]
    players: dict[int, Box]
    lanes: dict[int, float]


def layout(graph: AndOrGraph, rows: int | None = None) -> Layout:
    """Place every node of `graph`, its patterns in `rows` rows (None: as few as fit)."""
    used = graph.used_players
    effects = [("or " if p.kind == "or" else "") + signed(p.effect) for p in graph.patterns]
    wide = max([text_width(text, TEXT) + 16 for text in effects] + [CELL * len(used) + 24, 48.0])
    width = _width(graph, wide, rows)
    inner = width - 2 * MARGIN

    places, y = _grid(len(effects), wide, width, rows)
    patterns = tuple(
        Box(x, row_y, wide, PATTERN_HEIGHT, (text,)) for (x, row_y), text in zip(places, effects, strict=True)
    )
    below = y + 30 + min(len(graph.patterns), 40)  # more edges need more height to spread

    xs = {p: MARGIN + inner / len(used) * (place + 0.5) for place, p in enumerate(used)}
    names, staggered = _names(graph, inner)

    coalitions: tuple[Box, ...] = ()
    if graph.coalitions:
        coalitions, below = _coalitions(graph, xs, inner, below)
        below += 30 + min(len(used) * 2, 30)

    height = max((len(lines) for lines in names.values()), default=0) * SMALL * LINE + 8
    drop = height + 8 if staggered else 0.0
    players = {
        p: Box(
            xs[p], below + height / 2 + drop * (place % 2), max(text_width(line, SMALL) for line in names[p]) + 10,
            height, names[p],
        )
        for place, p in enumerate(used)
    }  # fmt: skip
    end = below + height + drop if used else below
    root = Box(width / 2, TOP - 16, 24, 24, ("+",))
    passes = lanes(xs, [(box.x - box.width / 2, box.x + box.width / 2) for box in coalitions], width)
    return Layout(width, end + LEGEND, root, patterns, coalitions, players, passes)


def _names(graph: AndOrGraph, inner: float) -> tuple[dict[int, tuple[str, ...]], bool]:
    """The lines of each player's name, and whether players alternate between two rows, so that words stay whole."""
    used = graph.used_players
    slot = inner / max(len(used), 1)
    room = min(slot, SLOT) - GAP - 10
    staggered = len(used) > 2 and _longest_word(graph) > room
    if staggered:  # an edge to the lower row passes between two boxes of the upper one
        room = 2 * slot - GAP - 10
    rooms = dict.fromkeys(used, room)
    for p in used[:1] + used[-1:]:  # next to the edge of the picture
        rooms[p] = min(room, slot + 2 * MARGIN - GAP - 10)
    return {p: wrapped(graph.players[p], rooms[p], SMALL, NAME_LINES) for p in used}, staggered


def _width(graph: AndOrGraph, wide: float, rows: int | None) -> float:
    longest = max([text_width(plain(graph.players[p]), SMALL) for p in graph.used_players], default=0.0)
    m, n = len(graph.patterns), len(graph.used_players)
    wanted = max(
        n * min(SLOT, max(longest + 20, 46.0)),
        (wide + GAP) * (math.ceil(m / rows) + 0.5 if rows else m),
        len(graph.coalitions) * 130.0,
    )
    # A number of rows that is asked for is kept, however wide that makes the picture.
    widest = max(WIDEST, (wide + GAP) * (m / rows + 1.5)) if rows else WIDEST
    whole = n * (_longest_word(graph) + GAP + 10) / 2 + 2 * MARGIN  # of players in two rows
    return max(min(max(wanted + 2 * MARGIN, NARROWEST), widest), min(whole, WIDER * WIDEST))


def _longest_word(graph: AndOrGraph) -> float:
    """The width of the longest word in the names of the players."""
    words = [word for p in graph.used_players for word in re.split(r"(?<=[ _/-])", plain(graph.players[p]))]
    return max((text_width(word, SMALL) for word in words), default=0.0)


def _grid(m: int, wide: float, width: float, rows: int | None) -> tuple[list[tuple[float, float]], float]:
    """Centres of `m` nodes, row by row, and the lower edge of the last row."""
    if not m:
        return [], TOP + 40
    inner = width - 2 * MARGIN
    # A single row needs no room for the shift.
    single = m * (wide + GAP) <= inner
    rows = max(1, min(rows or (1 if single else math.ceil(m / max(1, int(inner / (wide + GAP) - 0.5)))), m))
    each = math.ceil(m / rows)
    step = min(inner / (each + (0.5 if rows > 1 else 0)), 3 * wide)
    places = []
    for k in range(m):
        row, column = divmod(k, each)
        count = each if rows > 1 else m
        shift = (row % 2 - 0.5) * 0.5 * step if rows > 1 else 0
        x = width / 2 + (column - (count - 1) / 2) * step + shift
        places.append((x, TOP + 40 + row * (PATTERN_HEIGHT + 26) + PATTERN_HEIGHT / 2))
    return places, places[-1][1] + PATTERN_HEIGHT / 2


def _coalitions(graph: AndOrGraph, xs: dict[int, float], inner: float, y: float) -> tuple[tuple[Box, ...], float]:
    """Boxes of the coalitions, each as near above the middle of its players as others let it, and their lower edge."""
    slot = inner / len(graph.coalitions)
    wanted = [float(np.mean([xs[p] for p in coalition])) for coalition in graph.coalitions]
    lines = [
        wrapped(graph.name(coalition), min(slot - PASS, 190) - 14, SMALL, COALITION_LINES)
        for coalition in graph.coalitions
    ]
    widths = [max(text_width(line, SMALL) for line in entry) + 14 for entry in lines]
    height = max(len(entry) for entry in lines) * SMALL * LINE + 8
    order = sorted(range(len(wanted)), key=lambda c: wanted[c])
    placed = apart([wanted[c] for c in order], [widths[c] for c in order], MARGIN, MARGIN + inner, PASS)
    centres = dict(zip(order, placed, strict=True))
    boxes = tuple(Box(centres[c], y + height / 2, widths[c], height, lines[c]) for c in range(len(wanted)))
    return boxes, y + height


def wrapped(text: str, width: float, size: float, lines: int) -> tuple[str, ...]:
    """`text` broken into at most `lines` lines of at most `width` points; what does not fit ends in an ellipsis."""
    rest, broken = plain(text), []
    while rest and len(broken) < lines - 1 and text_width(rest, size) > width:
        fits = next((k for k in range(1, len(rest) + 1) if text_width(rest[:k], size) > width), len(rest) + 1) - 1
        fits = max(fits, 1)
        # Break after the last space or joint that fits, else within the word.
        joints = [k + 1 for k in range(fits) if rest[k] in " _-/:=" and k + 1 >= fits / 3]
        cut = fits if rest[fits : fits + 1] == " " else joints[-1] if joints else fits
        broken.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return (*broken, shortened(rest, width, size)) if rest or not broken else tuple(broken)
