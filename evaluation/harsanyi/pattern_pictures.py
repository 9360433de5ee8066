"""One explanation as pictures: its strongest patterns on the sample, and an overview of patterns and Shapley values.

`pattern_page` says what a record holds.
"""

import json

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from conceptry.evaluation.harsanyi.marks import shortened, sign_colour, signed, signed_bars, text_width, wrapped
from conceptry.evaluation.harsanyi.pattern_page import GAP, LINE, SIZE, begin, show_kept, strongest, valued
from conceptry.evaluation.plots import INK, MUTED

MAX_BARS = 12
PAD = 4.0  # points: by which the frame of a chip is wider than its word
CONTEXT, LONG = 4, 60  # words shown around a marked one where a text has more than LONG


def draw_patterns(record: dict, top: int = 6) -> Figure:
    """The `top` strongest patterns of one explanation, each on the sample: words, column values or cells marked."""
    patterns = strongest(record)[:top]
    picture = record["modality"] == "image"
    columns = min(max(len(patterns), 1), 3 if picture else 2)
    width = 165.0 if picture else 270.0
    total = max(columns * (width + GAP) - GAP, 400.0)
    if picture:
        shape = np.shape(record["sample"]["segments"])
        drawings = []
        heights = [width * min(shape[0] / shape[1], 2.0)] * len(patterns)
    else:
        drawings = [_chips(record, pattern, width) for pattern in patterns]
        heights = [LINE * (1 + max((line for _, _, line, _ in chips), default=0)) for chips in drawings]
    rows = [max(heights[k : k + columns]) + LINE + GAP for k in range(0, len(patterns), columns)]
    page, place, start = begin(
        record, total, max(sum(rows) - GAP, LINE), f" ({top} shown)" if len(record["patterns"]) > top else ""
    )
    if not patterns:
        page.text(0, start, "no pattern is kept", fontsize=SIZE, color=MUTED, va="top")
    for k, pattern in enumerate(patterns):
        left, y = (k % columns) * (width + GAP), start + sum(rows[: k // columns])
        colour = sign_colour(pattern["effect"])
        effect = signed(pattern["effect"])
        page.text(left, y, effect, fontsize=12, fontweight="bold", color=colour, va="top")
        # Bold letters are wider than those that are measured.
        page.text(left + text_width(effect, 12) * 1.2 + 8, y + 2, _kind(pattern), fontsize=9, color=MUTED, va="top")
        if picture:
            show_kept(place(left, y + LINE, width, heights[k]), record, pattern, "NW")
            continue
        for x, text, line, marked in drawings[k]:
            face, edge = (_tint(colour), colour) if marked else ("none", "none")
            page.text(
                left + x,
                y + LINE * (line + 1.75),
                text,
                fontsize=SIZE,
                va="center",
                color=INK if marked else MUTED,
                parse_math=False,
                bbox={"boxstyle": "round,pad=0.22", "facecolor": face, "edgecolor": edge, "linewidth": 0.9},
            )
    return page.get_figure()  # type: ignore[return-value]  # the axes' own figure, not a subfigure


def draw_explanation(record: dict) -> Figure:
    """An overview: target and rewards, the strongest patterns as signed bars, Shapley values beside them."""
    patterns = strongest(record)
    shown, shares = patterns[:MAX_BARS], sorted(record["shapley"], key=lambda entry: -abs(entry["value"]))
    picture = record["modality"] == "image"
    names, bars = 130.0 if picture else 170.0, 190.0
    thumb = 42.0 if picture else 0.0
    total = 2 * (names + bars) + GAP
    labels = [_label(record, pattern, names - thumb - 8) for pattern in shown]
    shares_labels = [valued(record, entry["player"], names - thumb - 8) for entry in shares]
    steps = [max(20.0, thumb, 6 + 13.0 * (1 + label.count("\n"))) for label in labels]
    share_steps = [max(20.0, thumb)] * len(shares)
    tall = max(sum(steps) + (LINE if len(patterns) > len(shown) else 0), sum(share_steps), 20.0)
    page, place, y = begin(record, total, LINE + 6 + tall)
    amounts = np.array([p["effect"] for p in shown]), np.array([s["value"] for s in shares])
    scale = np.concatenate(amounts)  # one for both: they are in the units of the reward
    kept = [(p, labels[k]) for k, p in enumerate(shown)]
    alone = [
        ({"players": [s["player"]], "effect": s["value"], "kind": "and"}, shares_labels[k])
        for k, s in enumerate(shares)
    ]
    for left, title, entries, values, heights in (
        (0.0, f"Patterns, strongest first ({len(shown)} of {len(patterns)})", kept, amounts[0], steps),
        (names + bars + GAP, "Shapley values", alone, amounts[1], share_steps),
    ):
        page.text(left, y, title, fontsize=11, color=INK, va="top")
        if not entries:
            page.text(left, y + LINE + 6, "none", fontsize=SIZE, color=MUTED, va="top")
            continue
        axes = place(left + names, y + LINE + 6, bars, sum(heights))
        middles = np.cumsum(heights) - np.array(heights) / 2
        signed_bars(axes, [""] * len(entries), values, middles, 12, bars, scale)
        axes.set_ylim(sum(heights), 0)
        for (entry, label), middle in zip(entries, middles, strict=True):
            spot = y + LINE + 6 + middle
            right = left + names - 8 - thumb
            page.text(right, spot, label, fontsize=SIZE, color=INK, va="center", ha="right", parse_math=False)
            if picture:
                small = place(left + names - thumb - 4, spot - thumb / 2 + 2, thumb - 4, thumb - 4)
                show_kept(small, record, entry, "E")
    if len(patterns) > len(shown):
        rest = sum(p["effect"] for p in patterns[len(shown) :])
        note = f"{len(patterns) - len(shown)} weaker patterns: {signed(rest)} together"
        page.text(names, y + LINE + 10 + sum(steps), note, fontsize=9, color=MUTED, va="top")
    return page.get_figure()  # type: ignore[return-value]  # the axes' own figure, not a subfigure


def _kind(pattern: dict) -> str:
    count = len(pattern["players"])
    return "alone" if count == 1 else f"OR: any of {count}" if pattern["kind"] == "or" else f"AND: all {count}"


def _tint(colour: str) -> tuple[float, float, float]:
    red, green, blue = to_rgb(colour)
    return 1 - (1 - red) * 0.18, 1 - (1 - green) * 0.18, 1 - (1 - blue) * 0.18


def _label(record: dict, pattern: dict, width: float) -> str:
    """`alcohol AND hue` in at most three lines, with as many names as fit."""
    names, joint = [shortened(name, width * 0.8, SIZE) for name in pattern["players"]], f" {pattern['kind'].upper()} "
    if record["modality"] == "image" and len(names) > 1:
        return f"{pattern['kind'].upper()}\nof {len(names)}"
    label = wrapped(joint.join(names), width, SIZE, 4)
    ends = np.cumsum([text_width(name + joint, SIZE) for name in names])
    most = int(np.searchsorted(ends, 3 * width))  # more cannot fit
    for count in range(min(most, len(names) - 1), 0, -1):
        if label.count("\n") < 3:
            break
        label = wrapped(f"{joint.join(names[:count])}{joint}{len(names) - count} more", width, SIZE, 4)
    return label


def _chips(record: dict, pattern: dict, width: float) -> list[tuple[float, str, int, bool]]:
    """The sample's words, or the pattern's columns, flowed into lines: (x, text, line, whether in the pattern)."""
    members = set(pattern["players"])
    joint = "" if record["modality"] == "text" else pattern["kind"].upper()
    # A word has no value; a column comes with its own, and with AND or OR before it from the second on.
    before = text_width(joint, SIZE) + 6 if joint else 0.0
    if joint:
        players = [name for name in json.loads(record["graph"])["players"] if name in members]
        entries = [(valued(record, name, width - before - 2 * PAD), True) for name in players]
    else:
        entries = [(shortened(word, width - 2 * PAD, SIZE), mark) for word, mark in _marked_words(record, members)]
    flowed, x, line = [], 0.0, 0
    for k, (text, marked) in enumerate(entries):
        pad = PAD if marked else 0.0
        lead = before if k else 0.0
        room = lead + text_width(text, SIZE) + 2 * pad
        if x and x + room > width:
            x, line = 0.0, line + 1
        if lead:
            flowed.append((x, joint, line, False))
        flowed.append((x + lead + pad, text, line, marked))
        x += room + 6
    return flowed


def _marked_words(record: dict, members: set[str]) -> list[tuple[str, bool]]:
    """Words and whether they are the pattern's; far from all of those, long texts are left out."""
    words, players = record["sample"]["words"], json.loads(record["graph"])["players"]
    groups = record.get("groups") or {}
    owners = [player for player in players for _ in groups.get(player, [player])]
    marked = np.array([owner in members for owner in owners] + [False] * (len(words) - len(owners)))
    near = np.convolve(marked, np.ones(2 * CONTEXT + 1), "same") > 0
    shown = near if len(words) > LONG else np.ones(len(words), bool)
    entries: list[tuple[str, bool]] = []
    for word, mark, show in zip(words, marked, shown, strict=True):
        if show:
            entries.append((word, bool(mark)))
        elif not entries or entries[-1][0] != "…":
            entries.append(("…", False))
    return entries
