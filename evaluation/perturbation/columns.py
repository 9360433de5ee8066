"""What a grid shows of records: one column for each start, with what every version made of it."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

SMALL = 64  # pixels: pictures up to this size keep their pixels
STRONG = 0.97  # quantile of pixels from which on they are drawn as the strongest
CHANGED = 0.8  # the same of a change, and of those pixels alone that changed: they may be few
_NONE = 128.0  # what "no change" is in the picture of a change, 8 bits


@dataclass
class Column:
    """One column of the grid: its heading, the start, and what each version made of it."""

    heading: str
    start: np.ndarray
    sides: list["Side"] = field(default_factory=list)


@dataclass
class Side:
    """What one version made of a start.

    start: its own, where that is another one than the first version's: of another size, or from another noise.
    mean: of probes from several noises, -1 to 1, where there is one.
    """

    start: np.ndarray | None
    result: np.ndarray
    change: np.ndarray
    caption: str
    reached: bool
    mean: np.ndarray | None


def columns_of(same: Sequence[dict]) -> list[Column]:
    """The columns of one request, answered by several versions: one, or one for each direction of an error."""
    found = []
    for direction in range(1 + len(same[0]["other"])):
        column = Column("", picture_of(same[0]["start"]))
        for record in same:
            side = record["other"][direction - 1] if direction else record
            goal = side["target"] or side["after"][0]["class"]
            caption = f"{probability(record['before'], goal)} → {probability(side['after'], goal)}"
            change = amplified(picture_of(side["delta"]))
            mean = picture_of(record["mean"]) / 127.5 - 1 if "mean" in record else None
            start = picture_of(record["start"]) if record["start"] != same[0]["start"] else None
            column.sides.append(Side(start, picture_of(side["image"]), change, caption, bool(side["success"]), mean))
            column.heading = column.heading or _heading(record, goal, direction)
        found.append(column)
    return found


def amplified(delta: np.ndarray) -> np.ndarray:
    """The mean over the channels (H, W) of a change, uint8 (H, W, 3), -1 to 1: the strongest are drawn as such.

    Of a large picture few pixels are as strong as the strongest one: there it is a quantile of those that changed.
    """
    change = (delta.astype(np.float64) - _NONE).mean(axis=-1)
    size = np.abs(change[change != 0])
    if not size.size:
        return change
    strong = size.max() if max(change.shape) <= SMALL else np.quantile(size, CHANGED)
    return np.clip(change / strong, -1, 1)


def _heading(record: dict, goal: str, direction: int) -> str:
    """The class of a probe, the direction of an error, or from where to where."""
    if record["probe"]:
        return shortened(goal)
    if record["other"]:
        return f"{'mistake' if direction else 'truth'}\n{shortened(goal)}"
    before = shortened(record["before"][0]["class"])
    arrow = " → " if len(before) + len(goal) <= 8 else " →\n"
    return f"{before}{arrow}{shortened(goal)}"


def shortened(name: str, length: int = 20) -> str:
    """A name of a class as pictures have room for it."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def probability(entries: Sequence[dict], name: str) -> str:
    """The probability of a class among those listed, or a bound on it where it is not among them."""
    for entry in entries:
        if entry["class"] == name:
            return f"{entry['probability']:.2f}"
    least = min((entry["probability"] for entry in entries), default=0.0)
    return f"<{max(least, 0.01):.2f}"


def picture_of(text: str) -> np.ndarray:
    """The pixels uint8 (H, W, 3) of a picture in a record."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))


def stretch(sides: Sequence[Side]) -> None:
    """Means of noise are pale: the strongest pixels of all of them become black or white."""
    means = [np.abs(side.mean).ravel() for side in sides if side.mean is not None]
    strong = float(np.quantile(np.concatenate(means), STRONG)) if means else 0.0
    for side in sides:
        if side.mean is not None:
            side.mean = np.clip(side.mean / (strong or 1.0), -1, 1)
