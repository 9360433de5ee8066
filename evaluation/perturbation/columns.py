"""Columns of the grid of perturbations: one for each start, with the result of every version."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from conceptry.evaluation.drawing.images import image_of

SMALL = 64  # pixels: images up to this size keep their pixels
STRONG = 0.97  # quantile of pixels from which on they are drawn as the strongest
CHANGED = 0.8  # the same of a change, and of those pixels alone that changed: they may be few
_NONE = 128.0  # what "no change" is in the image of a change, 8 bits


@dataclass
class Column:
    """One column of the grid: its heading, the start, and the result of each version."""

    heading: str
    start: np.ndarray
    sides: list["Side"] = field(default_factory=list)


@dataclass
class Side:
    """Result of one version for a start.

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
    """Columns of one request, answered by several versions: one, or one for each direction of an error."""
    found = []
    for direction in range(1 + len(same[0]["other"])):
        column = Column("", pixels_of(same[0]["start"]))
        for record in same:
            side = record["other"][direction - 1] if direction else record
            goal = side["target"] or side["after"][0]["class"]
            caption = f"{probability(record['before'], goal)} → {probability(side['after'], goal)}"
            change = amplified(pixels_of(side["delta"]))
            mean = pixels_of(record["mean"]) / 127.5 - 1 if "mean" in record else None
            start = pixels_of(record["start"]) if record["start"] != same[0]["start"] else None
            column.sides.append(Side(start, pixels_of(side["image"]), change, caption, bool(side["success"]), mean))
            column.heading = column.heading or _heading(record, goal, direction)
        found.append(column)
    return found


def amplified(delta: np.ndarray) -> np.ndarray:
    """Scale the mean over the channels (H, W) of a change, uint8 (H, W, 3), to -1 to 1, by its strongest pixel.

    In a large image few pixels are as strong as that one, so there it is a quantile of those that changed.
    """
    change = (delta.astype(np.float64) - _NONE).mean(axis=-1)
    size = np.abs(change[change != 0])
    if not size.size:
        return change
    strong = size.max() if max(change.shape) <= SMALL else np.quantile(size, CHANGED)
    return np.clip(change / strong, -1, 1)


def _heading(record: dict, goal: str, direction: int) -> str:
    """Heading of a column: the class of a probe, the direction of an error, or from where to where."""
    if record["probe"]:
        return shortened(goal)
    if record["other"]:
        return f"{'mistake' if direction else 'truth'}\n{shortened(goal)}"
    before = shortened(record["before"][0]["class"])
    arrow = " → " if len(before) + len(goal) <= 8 else " →\n"
    return f"{before}{arrow}{shortened(goal)}"


def aim(side: dict) -> str:
    """Class that a perturbation goes toward, or "away from" the one that it leaves."""
    return side["target"] or f"away from {side['source']}"


def shortened(name: str, length: int = 20) -> str:
    """Cut the name of a class to what figures have room for."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def probability(entries: Sequence[dict], name: str) -> str:
    """Probability of a class among those listed, or a bound on it where it is not among them."""
    for entry in entries:
        if entry["class"] == name:
            return f"{entry['probability']:.2f}"
    least = min((entry["probability"] for entry in entries), default=0.0)
    return f"<{max(least, 0.01):.2f}"


def pixels_of(image: str | bytes | Image.Image) -> np.ndarray:
    """Pixels uint8 (H, W, 3) of an image in a record."""
    return np.asarray(image_of(image))


def stretch(sides: Sequence[Side]) -> None:
    """Raise the contrast of means, which noise makes pale: the strongest pixels of all become black or white."""
    means = [np.abs(side.mean).ravel() for side in sides if side.mean is not None]
    strong = float(np.quantile(np.concatenate(means), STRONG)) if means else 0.0
    for side in sides:
        if side.mean is not None:
            side.mean = np.clip(side.mean / (strong or 1.0), -1, 1)
