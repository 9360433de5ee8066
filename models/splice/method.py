"""SpLiCE as a method of the registry: how a version is built from options and read."""

from dataclasses import asdict
from pathlib import Path

from conceptry.models.method import Method, Package
from conceptry.models.splice.model import Splice
from conceptry.models.splice.package import read_package, write_package
from conceptry.models.splice.settings import SpliceOptions


def build(options: SpliceOptions, directory: Path) -> Package:
    """Embed the vocabulary, gather encoder and means, and write the package folder."""
    parts = asdict(options)
    runtime = parts.pop("runtime")
    return write_package(Splice(**parts), directory, runtime)


METHOD = Method(
    name="splice",
    options=SpliceOptions,
    build=build,
    read=read_package,
    explainer="conceptry.models.splice.pyfunc:SpliceExplainer",
)
