"""Present perturbations: from files and classes to cases, and from a version's answers to text and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.perturbation.client import (
    PROBE,
    CaseExplanation,
    explain_cases,
    record_of,
    start_of,
    with_mean,
)
from conceptry.evaluation.perturbation.columns import SMALL, aim
from conceptry.evaluation.perturbation.data import Case, read_table
from conceptry.evaluation.perturbation.plots import SUFFIXES, VIEWS, save_records
from conceptry.evaluation.presenter import Presenter, Shown
from conceptry.models.errors import InputError
from conceptry.models.images import read_image

MAX_CASES = 60
MAX_CLASSES = 20  # that are probed where none is named: an index is a class as its name is
NOISES = 16  # of small networks; one of larger images takes seconds for each probe
NAME = 30  # letters of a file's name
NO_GRADIENT = (
    "no gradient: that of the network's answer is 0 in every pixel, as behind a saturated softmax or a dead ReLU, so "
    "nothing could be tried; this is no sign of robustness"
)
_HEADINGS = ("before", "toward", "after", "changed", "L1", "L2", "loss", "steps")


@dataclass(frozen=True)
class RequestedCase:
    """A case, what it is called, and the folder from which its `source` is a path where an inversion starts there."""

    name: str
    case: Case
    folder: Path | None = None


@dataclass(frozen=True)
class Request:
    """Cases to explain, and whether they come from files; the others are probes of classes."""

    cases: Sequence[RequestedCase]
    from_files: bool


def check_request(files: Sequence[Path], targets: Sequence[str], params: Mapping[str, str]) -> Request:
    """The cases: each image toward each of `targets`; without files and targets, probes of the first 20 classes.

    Raises InputError for a file that is neither an image nor a table of images, and for too many cases.
    """
    wanted = list(targets)
    if not files and not targets:
        wanted = [str(index) for index in range(min(int(params["classes"]), MAX_CLASSES))]
    cases = _read_cases(files, wanted)
    if len(cases) > MAX_CASES:
        raise InputError(f"{len(cases)} perturbations are asked for; at most {MAX_CASES} are made at once")
    return Request(cases, bool(files))


def explain_request(predict: Predict, request: Request, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One record for each case.

    Cases without an image are probes; the others are asked in the mode of `params`, or else as registered. Small
    networks are probed from several noises, whose mean shows what the results share. Raises ConceptryError for what
    the version refuses, and InputError for another mode without files.
    """
    mode = params.get("mode") or PROBE["mode"]
    if not request.from_files and mode != PROBE["mode"]:
        raise InputError(f"{mode} needs pictures, name at least one; without any, a version is probed")
    cases = [_with_seed(each) if mode == "invert" else each.case for each in request.cases]
    probes = [k for k, case in enumerate(cases) if case.image is None]
    others = [k for k, case in enumerate(cases) if case.image is not None]
    explained: dict[int, CaseExplanation] = {}
    for rows, given in ((probes, {**PROBE, **params, "mode": "probe"}), (others, params)):
        answers = explain_cases(predict, [cases[k] for k in rows], given, rows=MAX_CASES)
        explained |= dict(zip(rows, answers, strict=True))
    records = [record_of(explained[k], each.name) for k, each in enumerate(request.cases)]
    if probes and max(explained[probes[0]].image.size) <= SMALL and explained[probes[0]].starts_from_noise:
        many = [cases[k] for k in probes] * NOISES
        again = explain_cases(predict, many, {**PROBE, **params, "mode": "probe"}, rows=len(many))
        for place, k in enumerate(probes):
            records[k] = with_mean(records[k], again[place :: len(probes)])
    return records


def _read_cases(files: Sequence[Path], targets: Sequence[str]) -> list[RequestedCase]:
    if not files:
        return [RequestedCase("", Case(None, target=name)) for name in targets]
    cases: list[RequestedCase] = []
    for file in files:
        if file.suffix.lower() != ".csv":
            content = read_image(file)[0]
            cases += [RequestedCase(str(file), Case(content, target=name)) for name in targets or (None,)]
            continue
        for row, case in enumerate(read_table(file)):
            if case.target and targets:
                raise InputError(f"{file}, row {row} has a target of its own; leave --target out")
            name = f"{file}, row {row}"
            if isinstance(case.image, Path):
                name, case = str(case.image), replace(case, image=read_image(case.image)[0])
            each = [replace(case, target=target) for target in targets or (case.target,)]
            cases += [RequestedCase(name, case, file.parent) for case in each]
    return cases


def _with_seed(requested: RequestedCase) -> Case:
    """The case of an inversion, whose `source` in a table names the image to start from."""
    case, folder = requested.case, requested.folder
    if folder is None or case.source is None:
        return case
    return replace(case, source=read_image(folder / str(case.source))[0])


def describe(records: Sequence[dict]) -> RenderableType:
    """One line for each perturbation: from which class to which, and what it took; a table for each version."""
    versions = list(dict.fromkeys(record.get("version", "") for record in records))
    parts: list[RenderableType] = []
    for version in versions:
        table = Table(box=None, header_style="dim", padding=(0, 1, 0, 2))
        table.add_column("", no_wrap=True)
        for heading in _HEADINGS:
            table.add_column(heading, justify="right", no_wrap=True)
        for record in records:
            if record.get("version", "") == version:
                _add(table, record)
        parts += [escape(version), table] if version else [table]
    if any(_is_stuck(side) for record in records for side in (record, *record["other"])):
        parts.append(NO_GRADIENT)
    return Group(*parts, "")


def _add(table: Table, record: dict) -> None:
    name = f"from {start_of(record)}" if record["probe"] else record["file"]
    name = name if len(name) <= NAME else f"…{name[1 - NAME :]}"
    before = class_label(record["before"][0])
    for side in (record, *record["other"]):
        after = class_label(side["after"][0])
        if not side["success"]:
            after = f"{after} (not reached{': no gradient' if _is_stuck(side) else ''})"
        numbers = f"{side['changed']:.1%}", f"{side['l1']:.2f}", f"{side['l2']:.2f}", f"{abs(side['loss']):.3g}"
        table.add_row(escape(name), escape(before), escape(aim(side)), escape(after), *numbers, f"{side['steps']}")
        name = before = ""


def rows_of(record: dict) -> list[dict]:
    """One row of a table for each perturbation."""
    name = f"from {start_of(record)}" if record["probe"] else record["file"]
    return [
        {"file": name, "before": class_label(record["before"][0]), "toward": aim(side)}
        | {"after": class_label(side["after"][0])}
        | {key: side[key] for key in ("success", "changed", "l1", "l2", "loss", "steps")}
        for side in (record, *record["other"])
    ]


def _is_stuck(side: dict) -> bool:
    return not side["success"] and bool(side.get("no_gradient"))


def class_label(entry: dict) -> str:
    """A class with its probability."""
    return f"{entry['class']} {entry['probability']:.2f}"


def explain_items(predict: Predict, items: Sequence[Case]) -> list[dict[str, Any]]:
    """One record for each case of evaluation data, as a counterfactual."""
    explained = explain_cases(predict, items, {"mode": "counterfactual"})
    return [record_of(each, each.case.key) for each in explained]


def shown(record: dict) -> tuple[Shown, Shown]:
    """The image before, and the perturbed one with its change."""
    before, after = class_label(record["before"][0]), class_label(record["after"][0])
    reached = "" if record["success"] else ", not reached"
    said = f"{before} → {after}{reached}; {record['changed']:.1%} of pixels changed, L2 {record['l2']:.2f}"
    what = Shown(() if record["probe"] else (("", record["start"]),), f"toward {aim(record)}")
    images = (("perturbed", record["image"]), ("change", record["delta"]))
    return what, Shown(images, said, gist=f"{before} → {after}{reached}")


PRESENTER = Presenter(
    views=VIEWS,
    suffixes=SUFFIXES,
    check_request=check_request,
    records=explain_request,
    describe=describe,
    save=save_records,
    rows=rows_of,
    explain_items=explain_items,
    shown=shown,
    beside=True,
)
