"""The main job: register, evaluate, compare and promote a handful of SpLiCE versions, and explain two pictures.

Versions and evaluations that are there already are not made again, so a second run only reads.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import mlflow
from PIL import Image
from rich.console import Console

from conceptry.evaluation.data import PictureData, load_data
from conceptry.evaluation.harness import evaluate, harness_of, is_evaluated
from conceptry.evaluation.process import VersionProcess
from conceptry.evaluation.progress import bar
from conceptry.evaluation.reports import comparison_table
from conceptry.models.errors import ConceptryError
from conceptry.registry import Requirement, Version, compare, connect, promote, register

NAME = "emoji-splice"
VERSIONS: tuple[dict[str, Any], ...] = (
    {"l1_penalty": 0.15},
    {"l1_penalty": 0.25},
    {"l1_penalty": 0.4},
    {"l1_penalty": 0.25, "vocabulary_size": 60},
    {"l1_penalty": 0.25, "runtime": "onnx"},
)
MIN_RECALL = 0.95
SHOWN = (12, 9)  # scenes whose objects stand apart
RULE = f"largest share of true words among versions with recall_objects_all >= {MIN_RECALL:g}; ties: the faster"


def run(output: Path, size: int, console: Console) -> None:
    """Do the whole tour in MLflow's store; pictures go to the folder `output`."""
    connect()
    console.print(f"MLflow store: {_without_password(mlflow.get_tracking_uri())}\n", markup=False)
    _register(console)
    data = load_data("zoo:emoji-scenes", size)
    for version in compare(NAME).versions:
        if is_evaluated(version, data):
            console.print(f"{version.uri} is evaluated on these scenes already")
            continue
        with bar(f"evaluating {version.uri}") as progress:
            evaluate(version.uri, data, progress=progress)
        console.print(f"evaluated {version.uri} on {len(data)} held-out scenes")
    champion = _promote(data, console)
    console.print()
    console.print(comparison_table(compare(NAME)))
    files = _save_scenes(output)
    _explain(champion, files, output, console)
    _say_what_next(files[0], console)


def _register(console: Console) -> None:
    with bar("registering") as progress:
        for number, options in enumerate(VERSIONS):
            progress(", ".join(f"{key}={value}" for key, value in options.items()), number / len(VERSIONS))
            registration = register("splice", options, name=NAME)
            state = "registered" if registration.created else "already registered:"
            console.print(f"{state} {registration.version.uri}")


def _promote(data: PictureData, console: Console) -> Version:
    versions = compare(NAME).versions
    measured = {v.version: v.metrics_on(data.logged_digest) for v in versions}
    candidates = [v for v in versions if measured[v.version]["recall_objects_all"] >= MIN_RECALL]
    if not candidates:
        raise ConceptryError(f"no version of {NAME} names both objects in {MIN_RECALL:.0%} of the scenes")
    best = max(
        candidates,
        key=lambda v: (
            round(measured[v.version]["concept_precision"], 3),
            -measured[v.version]["encode_ms"] - measured[v.version]["solve_ms"],
        ),
    )
    requirement = Requirement("recall_objects_all", ">=", MIN_RECALL)
    promotion = promote(NAME, best.version, "champion", [requirement], rule=RULE, data=data.logged_digest)
    console.print(f"champion {'is now' if promotion else 'stays'} {best.uri} ({RULE})")
    return best


def _save_scenes(output: Path) -> list[Path]:
    from conceptry.models.zoo.scenes import EmojiScenes

    output.mkdir(parents=True, exist_ok=True)
    scenes = EmojiScenes("heldout", 16, seed=7, n_objects=2)
    files = []
    for index in SHOWN:
        scene = scenes[index]
        files.append(output / f"{'-and-'.join(scene.objects).replace(' ', '-')}.png")
        Image.fromarray(scene.image).save(files[-1])
    return files


def _explain(version: Version, files: list[Path], output: Path, console: Console) -> None:
    harness = harness_of(version.method)
    with VersionProcess(version.uri) as predict:
        records = harness.records(predict, files, {})
    console.print(harness.describe(records))
    harness.save(records, output / "explanations.png", None)
    console.print(f"picture: {output / 'explanations.png'}", markup=False)
    console.print("Pictured objects: Twemoji, copyright Twitter, Inc and other contributors, CC-BY 4.0\n")


def _without_password(uri: str) -> str:
    return re.sub(r"://([^:/@]*):[^@/]*@", r"://\1:***@", uri)


def _say_what_next(picture: Path, console: Console) -> None:
    uri = mlflow.get_tracking_uri()
    store = shlex.quote(_without_password(uri))
    remote = uri.startswith(("http://", "https://"))
    commands = {
        "open the UI": f"it is at {store}" if remote else f"mlflow ui --backend-store-uri {store} --port 5000",
        "serve the champion": (
            f"MLFLOW_TRACKING_URI={store} mlflow models serve -m models:/{NAME}@champion --env-manager local -p 5001"
        ),
        "send it a picture": (
            f"base64 < {shlex.quote(str(picture))} | tr -d '\\n' "
            '| sed \'s/.*/{"dataframe_split": {"columns": ["image"], "data": [["&"]]}}/\' '
            "| curl -s http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' -d @-"
        ),
    }
    for what, command in commands.items():
        console.print(f"[bold]{what}[/bold]")
        console.print(f"  {command}", markup=False, soft_wrap=True)
