"""Harsanyi interactions as a method of the registry: what a version of it consists of, and how it is
built and read.

A package folder holds `config.json` (settings, groups, baseline row) and `explained/` (the explained model).
"""

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from conceptry.models.errors import InputError
from conceptry.models.explained.load import read_explained
from conceptry.models.explained.protocol import ExplainedModel
from conceptry.models.harsanyi.model import Harsanyi
from conceptry.models.harsanyi.settings import ROW, HarsanyiOptions, Settings
from conceptry.models.manifest import read_json, write_json
from conceptry.models.method import Method, Package

CONFIG, EXPLAINED = "config.json", "explained"
GROUPS = "groups"
_REQUIREMENTS = ("numba", "numpy", "pandas", "pillow", "safetensors", "scikit-learn", "torch")


def build(options: HarsanyiOptions, directory: Path) -> Package:
    """Load the explained model, check that it can be explained so, and write the package folder."""
    model = options.load(torch.device("cpu"))
    settings, groups, baseline_row = _with_files(options.settings(), model)
    explainer = Harsanyi(model, settings, groups, baseline_row)
    example = _example(model)
    if model.modality == "table":
        explainer.problem({name: cells[0] for name, cells in example.items()})
    model.save(directory / EXPLAINED)
    content = {"settings": asdict(explainer.settings), "groups": groups, "baseline_row": baseline_row}
    write_json(directory / CONFIG, content)
    params = {k: v for k, v in asdict(explainer.settings).items() if v not in (None, "")}
    params |= {"model": model.lineage["explained_model"], "modality": model.modality, "outputs": model.form}
    requirements = dict.fromkeys((*_REQUIREMENTS, *model.requirements))
    return Package(params, model.lineage, example, tuple(requirements), model.notes)


def read_package(directory: Path, device: torch.device) -> Harsanyi:
    """The explainer that `build` wrote."""
    content = read_json(directory / CONFIG)
    model = read_explained(directory / EXPLAINED, device)
    return Harsanyi(model, Settings(**content["settings"]), content["groups"], content["baseline_row"])


def _with_files(
    settings: Settings, model: ExplainedModel
) -> tuple[Settings, dict[str, list[str]] | None, dict[str, Any] | None]:
    """Settings that name files, with what the files hold."""
    groups, baseline_row = None, None
    players, baseline = settings.players, settings.baseline
    if model.modality == "table" and players not in (None, "columns"):
        groups, players = _read_groups(Path(str(players))), GROUPS
    if baseline and baseline.startswith(f"{ROW}:"):
        baseline_row, baseline = _read_row(Path(baseline.removeprefix(f"{ROW}:"))), ROW
    elif baseline == ROW:
        raise InputError("baseline row needs a file: row:FILE, a CSV with a header and one row, or a JSON object")
    return dataclasses.replace(settings, players=players, baseline=baseline), groups, baseline_row


def _read_groups(path: Path) -> dict[str, list[str]]:
    expected = "expected a JSON object {player: [columns]}"
    try:
        groups = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"players {path}: no such file; {expected}, or columns") from None
    except ValueError as error:
        raise InputError(f"players {path}: not JSON ({error}); {expected}") from None
    lists = isinstance(groups, dict) and all(isinstance(v, list) for v in groups.values())
    if not lists or not groups or not all(isinstance(name, str) for v in groups.values() for name in v):
        raise InputError(f"players {path}: {expected}")
    return groups


def _read_row(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            row = json.loads(text)
        else:
            # by JSON, so that numbers are numbers, in types that a configuration can hold
            row = next(iter(json.loads(str(pd.read_csv(io.StringIO(text), nrows=1).to_json(orient="records")))), None)
    except OSError:
        raise InputError(f"baseline row:{path}: no such file") from None
    except ValueError as error:
        raise InputError(f"baseline row:{path}: neither JSON nor CSV ({error})") from None
    if not isinstance(row, dict) or not row:
        raise InputError(f"baseline row:{path}: expected one row, as a JSON object or a CSV with a header")
    return row


def _example(model: ExplainedModel) -> Mapping[str, Sequence[Any]]:
    """A request of one row: the background's own centre, a sentence, a picture or a cloud."""
    if model.modality == "table":
        return {c.name: [c.median if c.kind == "numeric" else c.mode] for c in model.columns}
    if model.modality == "text":
        return {"text": ["not a bad film"]}
    if model.modality == "points":
        size = getattr(model, "size", None) or 64
        return {"points": [np.random.default_rng(0).normal(size=(size, 3)).tolist()]}
    from conceptry.models.images import example_picture

    return {"image": [example_picture()]}


METHOD = Method(
    name="harsanyi",
    options=HarsanyiOptions,
    build=build,
    read=read_package,
    explainer="conceptry.models.harsanyi.pyfunc:HarsanyiExplainer",
)
