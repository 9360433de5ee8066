"""From files and classes on the command line to cases, and from a version's answers to records."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from conceptry.evaluation.perturbation.asking import PROBE, Explained, explain_cases, record_of, with_mean
from conceptry.evaluation.perturbation.columns import SMALL
from conceptry.evaluation.perturbation.data import Case, read_table
from conceptry.evaluation.process import Predict
from conceptry.models.errors import InputError
from conceptry.models.images import open_image

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
