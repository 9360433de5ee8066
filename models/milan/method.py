"""MILAN as a method of the registry: how an explainer is made of its options."""

from dataclasses import asdict
from pathlib import Path

from conceptry.models.method import Method, Package
from conceptry.models.milan.model import Milan, read_package
from conceptry.models.milan.settings import MODEL, MilanOptions


def explainer_of(options: MilanOptions) -> Milan:
    """The explainer of the given options; by default that of the zoo's scenes."""
    said = options.preparation()
    return Milan(
        options.model or (MODEL if options.exemplars is None else None),
        options.describer,
        exemplars=options.exemplars,
        layers=options.layer_names(),
        data=options.data,
        size=options.size,
        k=options.k,
        quantile=options.quantile,
        image_size=options.image_size,
        channels=options.channels,
        classes=said.classes,
        input_size=said.size,
        mean=said.mean,
        std=said.std,
        preprocessing=said.preprocessing,
        words=options.words,
        clip_encoder=options.clip_encoder,
        **asdict(options.settings_of_search()),
    )


def build(options: MilanOptions, directory: Path) -> Package:
    """Gather describer and exemplars, and write the package folder."""
    return explainer_of(options).to_package(directory)


METHOD = Method(
    name="milan",
    options=MilanOptions,
    build=build,
    read=read_package,
    explainer="conceptry.models.milan.pyfunc:MilanExplainer",
)
