"""`conceptry exemplars`: which images activate the units of a network, and where in them."""

from pathlib import Path

import click

from conceptry.evaluation.cli.options import (
    Flag,
    command,
    device_option,
    errors,
    layers_option,
    network_options,
    say,
    say_device,
    seed_option,
    size_option,
)
from conceptry.models.errors import InputError
from conceptry.models.explained.source import OwnPreparation
from conceptry.models.method import whole_number
from conceptry.models.milan.settings import CHANNELS


@command()
@click.argument("model")
@click.option(
    "--data",
    default="zoo:emoji-scenes",
    help="Image data set: zoo:emoji-scenes, another zoo:NAME, or folder:PATH.",
)
@layers_option("Layer; may be repeated. [default: the stages of the network]")
@click.option(
    "--unit",
    "units",
    multiple=True,
    metavar="LAYER:NUMBER",
    help="Unit; may be repeated. [default: all]",
)
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder for the results.")
@click.option("--k", type=int, default=15, help="Number of images per unit.")
@click.option("--quantile", type=float, default=0.99, help="Share of a unit's activations that its masks leave out.")
@click.option(
    "--image-size",
    type=int,
    help="Side of the stored images in pixels, not of what the network takes, which is --input-size; 224 in the "
    "original. [default: as the network takes them]",
)
@click.option("--batch-size", type=int, help="Images per forward pass. [default: chosen by device and image size]")
@click.option(
    "--channels",
    type=click.Choice(CHANNELS),
    help="Axis of the units in the maps of a layer: last in Swin and ConvNeXt blocks. [default: by the layer]",
)
@network_options
@click.option("--restart", cls=Flag, help="Start over instead of continuing what the folder holds.")
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
    channels: str | None,
    said: OwnPreparation,
    restart: bool,
    size: int | None,
    seed: int,
    device: str,
) -> None:
    """Find the images of a data set on which the units of MODEL are most active, and where in them.

    MODEL is any network that takes images: zoo:scenes, zoo:emoji-clip, torchvision:resnet18@FILE, timm:NAME@FILE,
    imagenet:efficientnet-lite0, classifier:FOLDER, open_clip:ARCH@FILE, or models:/ and runs:/ of an MLflow store.

    Writes OUTPUT/MODEL/DATA/LAYER/{images.npy,masks.npy,ids.csv,activations.csv}, the layout of MILANNOTATIONS. An
    interrupted run continues where it stopped; layers that are complete are not computed again.
    """
    from conceptry.evaluation.progress import bar
    from conceptry.models.devices import resolve_device
    from conceptry.models.milan.exemplars.compute import compute_exemplars
    from conceptry.models.milan.exemplars.records import results_directory
    from conceptry.models.milan.exemplars.sources import open_source
    from conceptry.models.milan.network import default_layers, prepared_network
    from conceptry.models.milan.settings import ExemplarSettings

    settings = ExemplarSettings(k, quantile, image_size, batch_size, channels)
    directory = results_directory(output, model, data)
    chosen = _units(units)
    place = resolve_device(device)
    say_device(str(place))
    with bar(model) as progress:
        progress("loading", 0.0)
        network = prepared_network(model, place, said)
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
    say(f"{k} images per unit, chosen from the {len(source)} of {data}")
    errors.print(f"saved {directory}")


def _units(texts: tuple[str, ...]) -> dict[str, list[int]]:
    """Parse LAYER:NUMBER texts into unit numbers by layer."""
    units: dict[str, list[int]] = {}
    for text in texts:
        layer, _, number = text.rpartition(":")
        if not layer or whole_number(number) is None:
            raise InputError(f"--unit takes LAYER:NUMBER such as layer4:12, got {text!r}")
        units.setdefault(layer, []).append(int(number))
    return units
