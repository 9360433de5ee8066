"""Sparse perturbations as a method of the registry: what a version of it consists of, and how it is
built and read.

A package folder holds `config.json` (settings) and `explained/` (the explained network).
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from conceptry.models.explained.load import read_explained
from conceptry.models.images import png_bytes
from conceptry.models.manifest import read_json, write_json
from conceptry.models.method import Method, Package
from conceptry.models.perturbation.class_scores import ClassScores
from conceptry.models.perturbation.question import noise
from conceptry.models.perturbation.representation import layer_to_match
from conceptry.models.perturbation.settings import (
    COUNTERFACTUAL,
    EXPLAIN_ERROR,
    INVERT,
    L1Q,
    PROBE,
    PerturbationOptions,
    Settings,
)
from conceptry.models.perturbation.solvers.budget import check_kept, pixel_budget

CONFIG, EXPLAINED = "config.json", "explained"
EXAMPLE_SIZE = (224, 224)  # of an example for a network that takes any size
_REQUIREMENTS = ("numba", "numpy", "pandas", "pillow", "safetensors", "torch")


def build(options: PerturbationOptions, directory: Path) -> Package:
    """Load the explained network, check that it can be explained so, and write the package folder."""
    settings = options.settings()
    model: Any = options.load(torch.device("cpu"))
    scores = ClassScores(model)
    # What versions differ in most comes first: a list of them has no room for more.
    params: dict[str, Any] = {"model": model.lineage["explained_model"]}
    params |= dict.fromkeys(("optimizer", "q", "epsilon"))
    params |= asdict(settings)
    if settings.optimizer != L1Q:
        params |= {"q": None, "dq": None}
    if model.size is not None:
        height, width = model.size
        entries = model.channels * height * width
        params["epsilon"] = float(f"{settings.radius(entries):.6g}")  # later digits are rounding
        if settings.optimizer == L1Q and not settings.sparsest:
            check_kept(settings.q, entries)
        if settings.max_changed is not None:
            pixel_budget(settings.max_changed, height, width)
    if settings.mode == INVERT or settings.layer is not None:
        layer_to_match(model, settings.layer)
    model.save(directory / EXPLAINED)
    write_json(directory / CONFIG, asdict(settings))
    params |= {"outputs": model.form, "classes": len(scores.classes)}
    params = {name: value for name, value in params.items() if value is not None}
    requirements = dict.fromkeys((*_REQUIREMENTS, *model.requirements))
    return Package(params, model.lineage, _example(scores, settings), tuple(requirements), model.notes)


def read_package(directory: Path, device: torch.device) -> tuple[ClassScores, Settings]:
    """The network and the settings that `build` wrote."""
    return ClassScores(read_explained(directory / EXPLAINED, device)), Settings(**read_json(directory / CONFIG))


def _example(scores: ClassScores, settings: Settings) -> Mapping[str, Sequence[Any]]:
    """A request of one row in the registered mode, whose picture is noise: it needs no data set."""
    model = scores.model
    picture = noise([0], (3, *(model.size or EXAMPLE_SIZE)), settings.seed)
    (pixels,) = np.rint(picture.numpy() * 255).astype(np.uint8)
    image = {"image": [base64.b64encode(png_bytes(Image.fromarray(np.moveaxis(pixels, 0, -1)))).decode()]}
    if settings.mode == PROBE:
        return {"target": [scores.classes[0]]} if model.size else {"target": [scores.classes[0]], **image}
    if settings.mode == COUNTERFACTUAL:
        return {**image, "target": [scores.classes[0]]}
    if settings.mode == EXPLAIN_ERROR:
        return {**image, "target": [scores.classes[0]], "source": [scores.classes[1]]}
    return image


METHOD = Method(
    name="perturbation",
    options=PerturbationOptions,
    build=build,
    read=read_package,
    explainer="conceptry.models.perturbation.pyfunc:PerturbationExplainer",
)
