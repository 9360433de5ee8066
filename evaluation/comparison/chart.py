"""A metric over versions as SVG: a point with its interval for each, and the promotions below them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from conceptry.evaluation.drawing.html import html_text

WIDTH, HEIGHT = 396, 178
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 44


@dataclass(frozen=True)
class Point:
    """A version on the chart. series: points of one series are joined; promotions: aliases, each with its mark."""

    heading: str
    series: str
    value: float
    low: float | None
    high: float | None
    promotions: tuple[str, ...] = ()


def chart(points: Sequence[Point], form: str, title: str) -> str:
    """Draw the chart; `form` is how values are printed."""
    ends = [x for p in points for x in (p.value, p.low, p.high) if x is not None and math.isfinite(x)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    if low == high:
        low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
    margin = 0.08 * (high - low)
    low, high = low - margin, high + margin

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    step = (WIDTH - LEFT - RIGHT) / max(len(points), 1)
    xs = [LEFT + step * (k + 0.5) for k in range(len(points))]
    parts = []
    for share in (0.1, 0.5, 0.9):
        value = low + (high - low) * share
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        text = html_text(f"{value:{form}}")
        parts.append(f'<text class="tick" x="{LEFT - 7}" y="{y(value) + 4:.1f}" text-anchor="end">{text}</text>')
    for line in _lines(points, xs):
        path = " ".join(f"{x:.1f},{y(p.value):.1f}" for x, p in line)
        parts.append(f'<polyline class="line" points="{path}"/>')
    crowded = step < 44
    for place, (x, point) in enumerate(zip(xs, points, strict=True)):
        if point.low is not None and point.high is not None:
            span = f'x1="{x:.1f}" x2="{x:.1f}" y1="{y(point.low):.1f}" y2="{y(point.high):.1f}"'
            parts.append(f'<line class="whisker" {span}/>')
        mark = ' class="promoted"' if point.promotions else ""
        said = html_text(f"{point.heading}: {point.value:{form}}")
        parts.append(f'<circle{mark} cx="{x:.1f}" cy="{y(point.value):.1f}" r="4.5"><title>{said}</title></circle>')
        if not crowded or place % math.ceil(44 / step) == 0:
            heading = html_text(_short(point.heading, step))
            parts.append(f'<text class="name" x="{x:.1f}" y="{HEIGHT - 26}" text-anchor="middle">{heading}</text>')
        if point.promotions:
            text = html_text(point.promotions[0][0] if crowded else _short(", ".join(point.promotions), step))
            parts.append(f'<text class="flag" x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{text}</text>')
    label = html_text(title)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _lines(points: Sequence[Point], xs: Sequence[float]) -> list[list[tuple[float, Point]]]:
    lines: dict[str, list[tuple[float, Point]]] = {}
    for x, point in zip(xs, points, strict=True):
        lines.setdefault(point.series, []).append((x, point))
    return [line for line in lines.values() if len(line) > 1]


def _short(text: str, room: float) -> str:
    most = max(int(room / 6.2), 4)
    return text if len(text) <= most else f"{text[: most - 1]}…"
