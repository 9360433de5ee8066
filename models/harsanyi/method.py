"""Harsanyi interactions as a method of the registry: how a version is built from options and read back."""

from pathlib import Path

import torch

from conceptry.models.harsanyi.inputs import sampled_rows
from conceptry.models.harsanyi.model import Harsanyi
from conceptry.models.harsanyi.package import read_package
from conceptry.models.harsanyi.settings import SAMPLE, HarsanyiOptions
from conceptry.models.method import Method, Package


def build(options: HarsanyiOptions, directory: Path) -> Package:
    """Load the explained model, check that it can be explained so, and write the package folder."""
    model, settings, rows = options.load(torch.device("cpu")), options.settings(), None
    if model.modality == "table" and str(settings.baseline).startswith(f"{SAMPLE}:"):
        rows = sampled_rows(options.statistics, str(settings.baseline), settings.seed, model.columns)
    return Harsanyi(model, settings, baseline_row=rows).to_package(directory)


METHOD = Method(
    name="harsanyi",
    options=HarsanyiOptions,
    build=build,
    read=read_package,
    explainer="conceptry.models.harsanyi.pyfunc:HarsanyiExplainer",
)
