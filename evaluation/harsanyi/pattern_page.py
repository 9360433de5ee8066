"""What the pictures of one explanation share: the page with its header, players with their values, cells of a picture.

A record is what a served explanation says of one sample, with the sample itself: {"file", "modality", "sample",
"groups", "target", "v_full", "v_empty", "patterns": [{"players", "effect", "kind"}], "shapley": [{"player", "value"}],
"explain_ratio", "n_kept", "n_salient", "graph": And-Or graph as JSON}. The sample is {column: value}, or {"text",
"words"}, or {"picture": PIL image, "segments": (H, W), -1 outside all players}. Player k is column k, or word k, or
segment k; with groups, {player: its columns} or {player: its words, which follow on those of the player before}.

Everything is placed in points from the top left corner, so what is long makes a figure taller and never overlaps.
"""

import json
from collections.abc import Callable
from numbers import Integral, Real
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from conceptry.evaluation.harsanyi.marks import number, shortened, sign_colour, text_width, wrapped
from conceptry.evaluation.plots import INK, MUTED, new_figure

MARGIN, GAP, LINE = 14.0, 22.0, 19.0  # points: around the figure, between panels, from a line of words to the next
SIZE = 10  # of words and names
THUMB = 72.0  # points: the whole picture in the header


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
    picture = record["sample"].get("picture") if record["modality"] == "image" else None
    room = width - (THUMB + GAP if picture else 0)
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
    heights = [size * 1.25 * (1 + text.count("\n")) + 5 for text, size, _ in heads]
    start = max(sum(heights), THUMB if picture else 0) + 8
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
    if picture:
        whole = place(width - THUMB, 0, THUMB, THUMB)
        whole.imshow(picture.convert("RGB"), interpolation="nearest" if max(picture.size) <= 128 else "antialiased")
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
    return f"{value:.4g}" if isinstance(value, Real) and not isinstance(value, Integral) else str(value)


def show_kept(axes: Axes, record: dict, pattern: dict, anchor: Literal["NW", "E"]) -> None:
    """The picture with the pattern's cells as they are, framed in the colour of the sign, and the others faded."""
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
