"""From files and classes on the command line to cases, and from a version's answers to records.

What a grid shows of records: one column for each start, with what every version made of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from conceptry.evaluation.drawing.images import image_of
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.perturbation.client import PROBE, Explained, explain_cases, record_of, with_mean
from conceptry.evaluation.perturbation.data import Case, read_table
from conceptry.models.errors import InputError
from conceptry.models.images import open_image

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


def pixels_of(image: str | bytes | Image.Image) -> np.ndarray:
    """Pixels uint8 (H, W, 3) of an image in a record."""
    return np.asarray(image_of(image))


def stretch(sides: Sequence[Side]) -> None:
    """Means of noise are pale: the strongest pixels of all of them become black or white."""
    means = [np.abs(side.mean).ravel() for side in sides if side.mean is not None]
    strong = float(np.quantile(np.concatenate(means), STRONG)) if means else 0.0
    for side in sides:
        if side.mean is not None:
            side.mean = np.clip(side.mean / (strong or 1.0), -1, 1)


MAX_CASES = 60
MAX_CLASSES = 20  # that are probed where none is named: an index is a class as its name is

NOISES = 16  # of small networks; one of larger pictures takes seconds for each probe


def check_request(files: Sequence[Path], targets: Sequence[str], params: Mapping[str, str]) -> list[str]:
    """The classes to go toward: `targets`, and where neither files nor targets are given the first 20 indices.

    Raises InputError for a file that is no picture and no table of pictures, and for too many of them.
    """
    chosen = list(targets)
    if not files and not targets:
        chosen = [str(index) for index in range(min(int(params["classes"]), MAX_CLASSES))]
    cases = _cases(files, chosen)
    for _, case in cases:
        if isinstance(case.image, Path):
            open_image(case.image)
    if len(cases) > MAX_CASES:
        raise InputError(f"{len(cases)} perturbations are asked for; at most {MAX_CASES} are made at once")
    return chosen


def explain_request(
    predict: Predict, files: Sequence[Path], params: Mapping[str, Any], targets: Sequence[str]
) -> list[dict[str, Any]]:
    """One record for each picture and target; without files for each target, drawn from noise.

    Rows of a table that have no picture are probes; the others are asked in the mode of `params`, or else as
    registered. Small networks are probed from several noises, whose mean shows what the results share. Raises
    ConceptryError for what the version refuses, and InputError for another mode without files.
    """
    mode = params.get("mode") or PROBE["mode"]
    if not files and mode != PROBE["mode"]:
        raise InputError(f"{mode} needs pictures, name at least one; without any, a version is probed")
    cases = _cases(files, targets, seeds=mode == "invert")
    probes = [k for k, (_, case) in enumerate(cases) if case.image is None]
    others = [k for k, (_, case) in enumerate(cases) if case.image is not None]
    explained: dict[int, Explained] = {}
    for rows, asked in ((probes, {**PROBE, **params, "mode": "probe"}), (others, params)):
        answers = explain_cases(predict, [cases[k][1] for k in rows], asked, rows=MAX_CASES)
        explained |= dict(zip(rows, answers, strict=True))
    records = [record_of(explained[k], name) for k, (name, _) in enumerate(cases)]
    if probes and max(explained[probes[0]].picture.size) <= SMALL and explained[probes[0]].starts_from_noise:
        many = [cases[k][1] for k in probes] * NOISES
        again = explain_cases(predict, many, {**PROBE, **params, "mode": "probe"}, rows=len(many))
        for place, k in enumerate(probes):
            records[k] = with_mean(records[k], again[place :: len(probes)])
    return records


def _cases(files: Sequence[Path], targets: Sequence[str], seeds: bool = False) -> list[tuple[str, Case]]:
    """What is asked, by name. seeds: the `source` of a table names the picture that an inversion starts from."""
    if not files:
        return [("", Case(None, target=name)) for name in targets]
    found: list[tuple[str, Case]] = []
    for file in files:
        if file.suffix.lower() != ".csv":
            found += [(str(file), Case(file, target=name)) for name in targets or (None,)]
            continue
        for row, case in enumerate(read_table(file)):
            if case.target and targets:
                raise InputError(f"{file}, row {row} has a target of its own; leave --target out")
            name = str(case.image) if isinstance(case.image, Path) else f"{file}, row {row}"
            case = _with_seed(case, file.parent) if seeds else case
            found += [(name, replace(case, target=target)) for target in targets or (case.target,)]
    return found


def _with_seed(case: Case, folder: Path) -> Case:
    """The picture at `source`, a path from the table's folder as `image` is."""
    if case.source is None:
        return case
    path = folder / str(case.source)
    open_image(path)
    return replace(case, source=path.read_bytes())
