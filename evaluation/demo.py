"""The main job: for each method register, evaluate, compare and promote a handful of versions, and explain samples.

Versions and evaluations that are there already are not made again, so a second run only reads.
"""

import importlib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from rich.console import Console

from conceptry.evaluation.data import EvaluationData
from conceptry.evaluation.harness import BASIC, agreement, evaluate, evaluation_of, is_evaluated
from conceptry.evaluation.isolation.client import VersionProcess
from conceptry.evaluation.presenter import presenter_of, version_titles
from conceptry.evaluation.progress import bar
from conceptry.evaluation.reports import log_table
from conceptry.evaluation.tables import agreement_table, comparison_table
from conceptry.models.errors import ConceptryError
from conceptry.models.method import METHODS
from conceptry.registry import Requirement, Version, compare, connect, promote, register

GROUPS = (BASIC,)  # of metrics: `conceptry evaluate` measures more, in half as much time again
EXPLANATIONS = "explanations"  # folder among the artifacts of the champion's run


@dataclass(frozen=True)
class Tour:
    """Tour of one method in the demo.

    name: of the registered model; prepare: makes what the versions need, given the output folder, and returns the
    options of each; data: held-out data, given how many pictures splice is shown; requirement and rank: the champion
    is the version of the highest rank among those that meet the requirement; rule: the same in words; samples: writes
    files to explain; figures: file name and view of each figure of the explanation; request: a shell pipeline that
    writes a request for the server to standard output, given the first of the files; beside: by its hyperparameters,
    whether a version is drawn beside the champion.
    """

    method: str
    name: str
    prepare: Callable[[Path], Sequence[Mapping[str, Any]]]
    data: Callable[[int], EvaluationData]
    requirement: Requirement
    rank: Callable[[Mapping[str, float]], tuple[float, ...]]
    rule: str
    samples: Callable[[Path], list[Path]]
    figures: Sequence[tuple[str, str | None]]
    request: Callable[[Path], str]
    beside: Callable[[Mapping[str, str]], bool] = lambda params: False
    attribution: str | None = None


def run(output: Path, size: int, console: Console, methods: Sequence[str] = METHODS) -> None:
    """Do the tour of `methods` in MLflow's store; pictures go to the folder `output`."""
    connect()
    console.print(f"MLflow store: {_without_password(mlflow.get_tracking_uri())}\n", markup=False)
    output.mkdir(parents=True, exist_ok=True)
    requests = {}
    for method in methods:
        tours: Sequence[Tour] = importlib.import_module(f"conceptry.evaluation.{method}.demo").TOURS
        for tour in tours:
            requests[tour.name] = _tour(tour, output, size, console)
    _say_what_next(requests, console)


def _tour(tour: Tour, output: Path, size: int, console: Console) -> str:
    """Returns the shell pipeline that asks a server of the champion."""
    console.rule(f"{tour.method}: {tour.name}", align="left", style="dim")
    _register(tour, output, console)
    data = tour.data(size)
    for version in compare(tour.name).versions:
        if is_evaluated(version, data, GROUPS):
            console.print(f"{version.uri} is evaluated on these {data.unit} already")
            continue
        with bar(f"evaluating {version.uri}") as progress:
            evaluate(version.uri, data, groups=GROUPS, progress=progress)
        console.print(f"evaluated {version.uri} on {len(data)} held-out {data.unit}")
    champion = _promote(tour, data, console)
    console.print()
    comparison = compare(tour.name)
    console.print(comparison_table(comparison))
    if (agreed := agreement(comparison)) is not None:
        console.print(agreement_table(agreed))
    files = tour.samples(output)
    _explain(tour, champion, files, output, console)
    return tour.request(files[0])


def _register(tour: Tour, output: Path, console: Console) -> None:
    versions = tour.prepare(output)
    with bar("registering") as progress:
        for number, options in enumerate(versions):
            progress(", ".join(f"{key}={value}" for key, value in options.items()), number / len(versions))
            registration = register(tour.method, options, name=tour.name)
            state = "registered" if registration.created else "already registered:"
            console.print(f"{state} {registration.version.uri}")


def _promote(tour: Tour, data: EvaluationData, console: Console) -> Version:
    measured = [(v, v.metrics_on(data.logged_digest)) for v in compare(tour.name).versions]
    candidates = [(v, metrics) for v, metrics in measured if tour.requirement.holds(metrics)]
    if not candidates:
        raise ConceptryError(f"no version of {tour.name} meets {tour.requirement} on {data.name}")
    best, _ = max(candidates, key=lambda candidate: tour.rank(candidate[1]))
    promotion = promote(
        tour.name, best.version, "champion", [tour.requirement], rule=tour.rule, data=data.logged_digest
    )
    console.print(f"champion {'is now' if promotion else 'stays'} {best.uri} ({tour.rule})")
    return best


def _explain(tour: Tour, version: Version, files: list[Path], output: Path, console: Console) -> None:
    presenter = presenter_of(version.method)
    request = presenter.check_request(files, (), evaluation_of(version.method).known_of(version))
    versions = [
        version,
        *(v for v in compare(tour.name).versions if v.version != version.version and tour.beside(v.params)),
    ]
    records: list[dict] = []
    for each, title in zip(versions, version_titles(versions), strict=True):
        with VersionProcess(each.uri) as predict:
            found = presenter.records(predict, request, {})
        records += found if len(versions) == 1 else [record | {"version": title} for record in found]
    console.print(presenter.describe(records))
    client = connect()
    for name, view in tour.figures:
        for file in presenter.save(records, output / name, view, {}):
            client.log_artifact(version.run_id, str(file), EXPLANATIONS)
            console.print(f"picture: {file}", markup=False)
    rows = [{k: r[k] for k in ("version",) if k in r} | row for r in records for row in presenter.rows(r)]
    log_table(client, version.run_id, pd.DataFrame(rows), f"{EXPLANATIONS}/explanations.json")
    if tour.attribution:
        console.print(tour.attribution)
    console.print()


def _without_password(uri: str) -> str:
    return re.sub(r"://([^:/@]*):[^@/]*@", r"://\1:***@", uri)


def _say_what_next(requests: Mapping[str, str], console: Console) -> None:
    """Commands to paste. `requests`: for each registered model how to write a request to its champion's server."""
    store = shlex.quote(_without_password(mlflow.get_tracking_uri()))
    commands = {"open the UI": f"conceptry --tracking-uri {store} ui {next(iter(requests))}"}
    for name, request in requests.items():
        commands[f"serve the champion of {name}"] = (
            f"MLFLOW_TRACKING_URI={store} mlflow models serve -m models:/{name}@champion --env-manager local -p 5001"
        )
        commands[f"ask it ({name})"] = (
            f"{request} | curl -s http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' -d @-"
        )
    for what, command in commands.items():
        console.print(f"[bold]{what}[/bold]")
        console.print(f"  {command}", markup=False, soft_wrap=True)
