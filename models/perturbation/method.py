"""Sparse perturbations as a method of the registry: how a version of it is built and read."""

from pathlib import Path

import torch

from conceptry.models.explained.load import read_explained
from conceptry.models.method import Method, Package
from conceptry.models.perturbation.model import EXPLAINED, Perturbation, read_settings
from conceptry.models.perturbation.settings import PerturbationOptions


def build(options: PerturbationOptions, directory: Path) -> Package:
    """Load the explained network, check that it can be explained so, and write the package folder."""
    return Perturbation(options.load(torch.device("cpu")), settings=options.settings()).to_package(directory)


def read_package(directory: Path, device: torch.device) -> Perturbation:
    """The explainer that wrote the package folder."""
    return Perturbation(read_explained(directory / EXPLAINED, device), settings=read_settings(directory))


METHOD = Method(
    name="perturbation",
    options=PerturbationOptions,
    build=build,
    read=read_package,
    explainer="conceptry.models.perturbation.pyfunc:PerturbationExplainer",
)
