"""Keeping things apart along a row: boxes that would overlap, and the lanes by which edges pass between boxes."""

from collections.abc import Sequence

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
