"""Perturbations in the demo: a robust and a standard network of digits, and what each has learned of them."""

import csv
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conceptry.evaluation.demo import Tour
from conceptry.evaluation.perturbation.data import CaseData, load_cases
from conceptry.registry import Requirement

ROBUST, STANDARD = "zoo:digits-16-robust", "zoo:digits-16"
EPSILON = 53.0  # enough for every probe to reach its class within [0, 1], where large changes are cut off
VERSIONS: tuple[dict[str, Any], ...] = (
    {"model": ROBUST, "epsilon": EPSILON},
    {"model": ROBUST, "epsilon": EPSILON, "q": 0.975},
    {"model": ROBUST, "epsilon": EPSILON, "max_changed": 0.3},
    {"model": ROBUST, "epsilon": 4.0, "optimizer": "l2_frank_wolfe"},
    {"model": STANDARD, "epsilon": EPSILON},
)
IMAGES = 60
MIN_KNN = 0.9
SHOWN = ("06", "14", "23", "38", "49", "56", "68", "71", "83", "93")  # from, toward


def _versions(output: Path) -> Sequence[Mapping[str, Any]]:
    return VERSIONS


def _data(size: int) -> CaseData:
    return load_cases(STANDARD, {"model": STANDARD}, min(size, IMAGES), seed=0)


def _rank(metrics: Mapping[str, float]) -> tuple[float, ...]:
    return (-metrics["changed"],)


def _digits(output: Path) -> list[Path]:
    """A table: a probe of each digit, and held-out digits with the class to go toward."""
    data = load_cases(STANDARD, {"model": STANDARD}, 450, seed=0)
    rows: list[dict[str, str]] = [{"image": "", "target": name} for name in data.classes]
    for label, target in SHOWN:
        content = next(case.content for case in data.cases if case.label == label)
        file = output / f"digit-{label}.png"
        file.write_bytes(content or b"")
        rows.append({"image": file.name, "target": target})
    table = output / "digits.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["image", "target"])
        writer.writeheader()
        writer.writerows(rows)
    return [table]


def _request(table: Path) -> str:
    file = table.with_name("probe-request.json")
    request = {"dataframe_records": [{"target": "3"}], "params": {"mode": "probe", "seed": 1}}
    file.write_text(json.dumps(request) + "\n", encoding="utf-8")
    return f"cat {shlex.quote(str(file))}"


def _standard(params: Mapping[str, str]) -> bool:
    return params["model"] == STANDARD


TOURS = (
    Tour(
        method="perturbation",
        name="digits-perturbation",
        prepare=_versions,
        data=_data,
        requirement=Requirement("probe_knn", ">=", MIN_KNN),
        rank=_rank,
        rule=f"fewest changed pixels among versions with probe_knn >= {MIN_KNN:g}",
        samples=_digits,
        figures=[("perturbations.png", "grid")],
        request=_request,
        beside=_standard,
    ),
)
