"""Figures of one explanation: its strongest patterns on the sample, and an overview of patterns and Shapley values.

A record is what a served explanation says of one sample, with the sample itself: {"file", "modality", "sample",
"groups", "target", "v_full", "v_empty", "patterns": [{"players", "effect", "kind"}], "shapley": [{"player", "value"}],
"explain_ratio", "n_kept", "n_salient", "graph": And-Or graph as JSON}. The sample is {column: value}, or {"text",
"words"}, or {"picture": PIL image, "segments": (H, W), -1 outside all players}. Player k is column k, or word k, or
segment k; with groups, {player: its columns} or {player: its words, which follow on those of the player before}.

Both figures share a page with a header. Everything is placed in points from the top left corner, so what is long makes
a figure taller and never overlaps.
"""

import json
from collections.abc import Callable
from numbers import Integral, Real
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from conceptry.evaluation.drawing.style import INK, MUTED, new_figure
from conceptry.evaluation.harsanyi.marks import (
    NEGATIVE,
    number,
    shortened,
    sign_colour,
    signed,
    signed_bars,
    text_width,
    trust,
    wrapped,
)
from conceptry.models.errors import plural

MARGIN, GAP, LINE = 14.0, 22.0, 19.0  # points: around the figure, between panels, from a line of words to the next
SIZE = 10  # of words and names
THUMB = 72.0  # points: the whole image in the header


def strongest(record: dict) -> list[dict]:
    """The patterns of a record, by descending strength."""
    return sorted(record["patterns"], key=lambda pattern: -abs(pattern["effect"]))


def begin(
    record: dict, width: float, height: float, shown: str = ""
) -> tuple[Axes, Callable[[float, float, float, float], Axes], float]:
    """
    A figure with its header (target, sample, rewards, how much is kept) and `height` points of room under it: axes to
    write on, a function that puts axes at a place, and where the room begins.
    """
    image = record["sample"].get("picture") if record["modality"] == "image" else None
    room = width - (THUMB + GAP if image else 0)
    source = f", {record['file']}" if record.get("file") else ""
    heads = [(wrapped(f"{record['target']}{source}", room, 13, 2), 13.0, INK)]
    if record["modality"] == "text":
        heads.append((wrapped(f"“{record['sample']['text']}”", room, SIZE, 3), SIZE, INK))
    facts = (
        f"reward {number(record['v_empty'])} with no player → {number(record['v_full'])} with all; "
        f"{record['n_salient']:,} salient patterns, {record['n_kept']} kept{shown}: "
        f"explain ratio {record['explain_ratio']:.3f}"
    )
    heads.append((wrapped(facts, room, 9, 3), 9.0, MUTED))
    if said := trust(record):
        heads.append((wrapped(said, room, 9, 2), 9.0, MUTED if record["believable"] else NEGATIVE))
    heights = [size * 1.25 * (1 + text.count("\n")) + 5 for text, size, _ in heads]
    start = max(sum(heights), THUMB if image else 0) + 8
    wide, tall = width + 2 * MARGIN, start + height + 2 * MARGIN
    figure = new_figure(wide / 72, tall / 72)
    figure.set_layout_engine("none")

    def place(left: float, top: float, w: float, h: float) -> Axes:
        return figure.add_axes(((left + MARGIN) / wide, 1 - (top + h + MARGIN) / tall, w / wide, h / tall))

    page = place(0, 0, width, start + height)
    page.set_axis_off()
    page.set_xlim(0, width)
    page.set_ylim(start + height, 0)
    for (text, size, colour), y in zip(heads, np.cumsum([0.0, *heights]), strict=False):
        page.text(0, y, text, fontsize=size, color=colour, va="top", linespacing=1.15, parse_math=False)
    if image:
        whole = place(width - THUMB, 0, THUMB, THUMB)
        whole.imshow(image.convert("RGB"), interpolation="nearest" if max(image.size) <= 128 else "antialiased")
        whole.set_axis_off()
        whole.set_anchor("NE")
    return page, place, start


def valued(record: dict, player: str, width: float) -> str:
    """A player with what it is in this sample, `alcohol = 13.2`, in at most `width` points; names are cut first."""
    members = (record.get("groups") or {}).get(player, [player])
    sample = record["sample"]
    if record["modality"] == "text":
        text = " ".join(map(str, members))
    elif list(members) == [player] and player in sample:
        value = f" = {shortened(_value(sample[player]), width * 0.5, SIZE)}"
        return shortened(player, width - text_width(value, SIZE), SIZE) + value
    else:
        values = ", ".join(f"{column} = {_value(sample[column])}" for column in members if column in sample)
        text = f"{player}: {values}" if values else player
    return shortened(text, width, SIZE)


def _value(value: object) -> str:
    if value is None:
        return "empty"
    return f"{value:.4g}" if isinstance(value, Real) and not isinstance(value, Integral) else str(value)


def show_kept(axes: Axes, record: dict, pattern: dict, anchor: Literal["NW", "E"]) -> None:
    """The image with the pattern's cells as they are, framed in the colour of the sign, and the others faded."""
    players = json.loads(record["graph"])["players"]
    segments = np.asarray(record["sample"]["segments"])
    kept = np.isin(segments, [players.index(name) for name in pattern["players"]])
    pixels = np.asarray(record["sample"]["picture"].convert("RGB"), float) / 255
    grey = pixels.mean(2, keepdims=True)
    axes.imshow(np.where(kept[..., None], pixels, 0.78 + 0.2 * grey), interpolation="nearest")
    padded = np.pad(kept, 1)
    ys, xs = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    across = [((x - 0.5, y - 0.5), (x + 0.5, y - 0.5)) for x, y in zip(xs, ys, strict=True)]
    ys, xs = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    down = [((x - 0.5, y - 0.5), (x - 0.5, y + 0.5)) for x, y in zip(xs, ys, strict=True)]
    colour = sign_colour(pattern["effect"])
    axes.set_anchor(anchor)
    axes.add_collection(LineCollection(across + down, colors=colour, linewidths=1.8, clip_on=False, capstyle="round"))
    axes.set_axis_off()


MAX_BARS = 12
MAX_SHARES = 20  # of Shapley values
PAD = 4.0  # points: by which the frame of a chip is wider than its word
CONTEXT, LONG = 4, 60  # words shown around a marked one where a text has more than LONG


def draw_patterns(record: dict, top: int = 6) -> Figure:
    """The `top` strongest patterns of one explanation, each on the sample: words, column values or cells marked."""
    patterns = strongest(record)[:top]
    is_image = record["modality"] == "image"
    columns = min(max(len(patterns), 1), 3 if is_image else 2)
    width = 165.0 if is_image else 270.0
    total = max(columns * (width + GAP) - GAP, 400.0)
    if is_image:
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
        if is_image:
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
    ranked = sorted(record["shapley"], key=lambda entry: -abs(entry["value"]))
    shown, shares = patterns[:MAX_BARS], ranked[:MAX_SHARES]
    is_image = record["modality"] == "image"
    names, bars = 130.0 if is_image else 170.0, 190.0
    thumb = 42.0 if is_image else 0.0
    total = 2 * (names + bars) + GAP
    labels = [_label(record, pattern, names - thumb - 8) for pattern in shown]
    shares_labels = [valued(record, entry["player"], names - thumb - 8) for entry in shares]
    steps = [max(20.0, thumb, 6 + 13.0 * (1 + label.count("\n"))) for label in labels]
    share_steps = [max(20.0, thumb)] * len(shares)
    rests = [
        (names, sum(steps), "pattern", [p["effect"] for p in patterns[len(shown) :]]),
        (total - bars, sum(share_steps), "player", [s["value"] for s in ranked[len(shares) :]]),
    ]
    tall = max(20.0, *(height + (LINE if left_out else 0) for _, height, _, left_out in rests))
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
            if is_image:
                small = place(left + names - thumb - 4, spot - thumb / 2 + 2, thumb - 4, thumb - 4)
                show_kept(small, record, entry, "E")
    for left, height, what, left_out in rests:
        if left_out:
            note = f"{plural(len(left_out), f'weaker {what}')}: {signed(sum(left_out))} together"
            page.text(left, y + LINE + 10 + height, note, fontsize=9, color=MUTED, va="top")
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
