"""The folder that a Harsanyi version consists of.

| file | what |
|---|---|
| `config.json` | settings, groups of columns, the rows of a baseline |
| `explained/` | the explained model, see `conceptry.models.explained` |
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conceptry.models.errors import InputError
from conceptry.models.explained.load import read_explained
from conceptry.models.explained.protocol import ExplainedModel, PackagedModel
from conceptry.models.harsanyi.model import Harsanyi
from conceptry.models.harsanyi.problem import table_problem
from conceptry.models.harsanyi.settings import Settings
from conceptry.models.manifest import digest_of_files, files_in, read_json, write_json
from conceptry.models.method import Package, contents_of

CONFIG, EXPLAINED = "config.json", "explained"
REQUIREMENTS = ("numba", "numpy", "pandas", "pillow", "safetensors", "scikit-learn", "torch")


PROBABILITY_NOTE = (
    "the reward is the probability: the model gives exactly 0 or 1 for some background rows, as a forest does, where "
    "log-odds are infinite; --reward log_odds_eps bounds them instead"
)


def write_package(
    model: ExplainedModel,
    settings: Settings,
    groups: Mapping[str, Sequence[str]] | None,
    baseline_rows: Sequence[Mapping[str, Any]] | None,
    directory: Path,
) -> Package:
    """Write the folder. Raises InputError where the explained model cannot be written, or settings do not fit it."""
    if not isinstance(model, PackagedModel):
        raise InputError(
            f"{model.name}: a version carries its explained model, and one of class {type(model).__name__} cannot be "
            "written to a folder; give a name, an estimator or a torch module, or log it to MLflow and name that model"
        )
    example = _example(model)
    if model.modality == "table":
        table_problem(model, settings, {name: cells[0] for name, cells in example.items()}, groups, baseline_rows)
    model.save(directory / EXPLAINED)
    content = {"settings": asdict(settings), "groups": groups, "baseline_rows": baseline_rows}
    write_json(directory / CONFIG, content)
    lineage = dict(model.lineage)
    if "explained_sha256" not in lineage:  # an object has no file before it is saved
        lineage["explained_sha256"] = digest_of_files(directory / EXPLAINED, files_in(directory / EXPLAINED))
    params = {k: v for k, v in asdict(settings).items() if v not in (None, "")}
    params |= {"model": lineage["explained_model"], "modality": model.modality, "outputs": model.form}
    requirements = dict.fromkeys((*REQUIREMENTS, *model.requirements))
    notes = model.notes
    if getattr(model, "certain", False) and settings.reward == "probability":
        notes = (*notes, PROBABILITY_NOTE)
    contents = contents_of(
        {
            "model": (params["model"], lineage["explained_sha256"]),
            "players": (settings.players, _digest(groups)),
            "baseline": (settings.baseline, _digest(baseline_rows)),
        }
    )
    return Package(params, lineage, example, tuple(requirements), notes, contents)


def _digest(content: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> str | None:
    """SHA-256 of what a JSON file or rows of a table held; None where there is none."""
    if content is None:
        return None
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def read_package(directory: Path, device: torch.device) -> Harsanyi:
    """The explainer that `write_package` wrote."""
    content = read_json(directory / CONFIG)
    model = read_explained(directory / EXPLAINED, device)
    rows = content.get("baseline_rows") or content.get("baseline_row")  # the latter as former releases wrote it
    return Harsanyi(model, Settings(**content["settings"]), content["groups"], rows)


def _example(model: ExplainedModel) -> Mapping[str, Sequence[Any]]:
    """A request of one row: the background's own centre, a sentence, an image or a cloud."""
    if model.modality == "table":
        return {c.name: [c.median if c.kind == "numeric" else c.mode] for c in model.columns}
    if model.modality == "text":
        return {"text": ["not a bad film"]}
    if model.modality == "points":
        size = getattr(model, "size", None) or 64
        return {"points": [np.random.default_rng(0).normal(size=(size, 3)).tolist()]}
    from conceptry.models.images import example_image

    return {"image": [example_image()]}
