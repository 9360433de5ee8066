"""Harsanyi interactions as a method of the registry: how a version is built from options and read back."""

from pathlib import Path

import torch

from conceptry.models.harsanyi.model import Harsanyi
from conceptry.models.harsanyi.package import read_package
from conceptry.models.harsanyi.settings import HarsanyiOptions
from conceptry.models.method import Method, Package


def build(options: HarsanyiOptions, directory: Path) -> Package:
    """Load the explained model, check that it can be explained so, and write the package folder."""
    return Harsanyi(options.load(torch.device("cpu")), options.settings()).to_package(directory)


METHOD = Method(
    name="harsanyi",
    options=HarsanyiOptions,
    build=build,
    read=read_package,
    explainer="conceptry.models.harsanyi.pyfunc:HarsanyiExplainer",
)
