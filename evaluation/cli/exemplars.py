"""`conceptry exemplars`: which pictures drive the units of a network, and where in them."""

from pathlib import Path

import click

from conceptry.evaluation.cli.options import (
    Optional,
    device_option,
    errors,
    layers_option,
    say,
    say_device,
    seed_option,
    size_option,
)
from conceptry.models.errors import InputError


@click.command()
@click.argument("model")
@click.option(
    "--data",
    default="zoo:emoji-scenes",
    show_default=True,
    help="zoo:emoji-scenes, zoo:NAME of a data set of pictures, or folder:PATH.",
)
@layers_option("May be repeated. [default: the network's stages]")
@click.option("--unit", "units", multiple=True, metavar="LAYER:NUMBER", help="May be repeated. [default: all units]")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder of results.")
@click.option("--k", type=int, default=15, show_default=True, help="Pictures of each unit.")
@click.option(
    "--quantile", type=float, default=0.99, show_default=True, help="Share of activations that masks leave out."
)
@click.option(
    "--image-size",
    type=Optional(int),
    help="Side of delivered pictures; the original: 224. [default: the network's]",
)
@click.option("--batch-size", type=Optional(int), help="Pictures in one forward pass. [default: by their size]")
@click.option("--restart", is_flag=True, help="Start over what the folder holds, instead of going on with it.")
@size_option
@seed_option
@device_option
def exemplars(
    model: str,
    data: str,
    layers: list[str],
    units: tuple[str, ...],
    output: Path,
    k: int,
    quantile: float,
    image_size: int | None,
    batch_size: int | None,
    restart: bool,
    size: int | None,
    seed: int,
    device: str,
) -> None:
    """Find the pictures of a data set on which the units of MODEL are most active, and where in them.

    MODEL is any network over pictures: zoo:scenes, zoo:emoji-clip, torchvision:resnet18@FILE, timm:NAME@FILE,
    imagenet:efficientnet-lite0, classifier:FOLDER, open_clip:ARCH@FILE or one of an MLflow store.

    Writes OUTPUT/MODEL/DATA/LAYER/{images.npy,masks.npy,ids.csv,activations.csv}, the layout of MILANNOTATIONS. A run
    that was stopped goes on where it was; layers that are there are not computed again.
    """
    from conceptry.evaluation.progress import bar
    from conceptry.models.devices import resolve_device
    from conceptry.models.milan.exemplars.compute import compute_exemplars
    from conceptry.models.milan.exemplars.records import results_directory
    from conceptry.models.milan.exemplars.sources import open_source
    from conceptry.models.milan.network import default_layers, load_network
    from conceptry.models.milan.settings import ExemplarSettings

    settings = ExemplarSettings(k, quantile, image_size, batch_size)
    directory = results_directory(output, model, data)
    chosen = _units(units)
    place = resolve_device(device)
    say_device(str(place))
    with bar(model) as progress:
        progress("loading", 0.0)
        network = load_network(model, place)
        source = open_source(data, size, seed)
        named = layers or list(chosen) or default_layers(network.module, model)
        found = compute_exemplars(
            network,
            source,
            named,
            directory,
            settings,
            units=chosen,
            device=place,
            name=model,
            progress=progress,
            resume=not restart,
        )
    for layer, exemplars_of in found.items():
        assert exemplars_of.activations is not None  # this command writes both
        assert exemplars_of.levels is not None
        silent = int((exemplars_of.activations[:, 0] <= exemplars_of.levels).sum())
        say(
            f"{layer}: {len(exemplars_of)} units"
            + (f", {silent} of which never rise above their level" if silent else "")
        )
    say(f"{k} pictures of each, of the {len(source)} of {data}")
    errors.print(f"saved {directory}")


def _units(texts: tuple[str, ...]) -> dict[str, list[int]]:
    """LAYER:NUMBER to numbers by layer."""
    units: dict[str, list[int]] = {}
    for text in texts:
        layer, _, number = text.rpartition(":")
        if not text:
            continue
        if not layer or not number.isdigit():
            raise InputError(f"--unit takes LAYER:NUMBER such as layer4:12, got {text!r}")
        units.setdefault(layer, []).append(int(number))
    return units
