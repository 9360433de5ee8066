"""`conceptry describe`: all units of a network in words, as a table and as pages.

What commands on the described units of a network share: their options, and how the units are opened.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from conceptry.evaluation.cli.options import (
    NamedArgument,
    check_params,
    command,
    device_option,
    errors,
    network_options,
    only_layers_option,
    say,
    say_device,
    search_params_option,
    seed_option,
)
from conceptry.evaluation.isolation.launcher import ahead
from conceptry.models.errors import InputError
from conceptry.models.explained.source import OwnPreparation

if TYPE_CHECKING:
    from conceptry.evaluation.units.sources import NamedUnits


@command()
@click.argument("uri", required=False, cls=NamedArgument, option="--uri")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder to write, or to continue.")
@only_layers_option
@search_params_option
@click.option("--describer", help="Describer to use instead of a version: zoo:emoji-milan or describer:FOLDER.")
@click.option(
    "--exemplars",
    type=click.Path(path_type=Path),
    help="With --describer: a results folder of `conceptry exemplars`, OUTPUT/MODEL/DATA.",
)
@device_option
def describe(
    uri: str | None,
    output: Path,
    layers: list[str],
    params: dict[str, Any],
    describer: str | None,
    exemplars: Path | None,
    device: str,
) -> None:
    """Describe every unit of a network in words.

    URI is a registered milan version; without it, --describer describes the units in --exemplars. Writes
    descriptions.csv, a page for each layer, and index.html. An interrupted run continues where it stopped.
    """
    if uri:
        ahead()
    from conceptry.evaluation.progress import bar
    from conceptry.evaluation.units.describe import describe_network
    from conceptry.evaluation.units.sources import exemplars_source, version_source

    def run(source: Any, progress: Any) -> None:
        written = describe_network(source, output, layers, say, progress)
        size = sum(path.stat().st_size for path in written) / 1e6
        errors.print(f"saved {written[0]} and {len(written) - 1} pages ({size:.1f} MB)")

    if uri:
        if describer or exemplars:
            raise InputError("a version has its own describer and exemplars; leave --describer and --exemplars out")
        from conceptry.evaluation.isolation.client import VersionProcess
        from conceptry.registry import find_version

        version = find_version(uri)
        check_params(version.uri, params)
        with bar(version.uri) as progress, VersionProcess(version.uri, device) as predict:
            say_device(predict.device_in_use)
            run(version_source(predict, version, params), progress)
        return
    if not (describer and exemplars):
        raise InputError("expected the URI of a milan version, or --describer with --exemplars")
    with bar(describer) as progress:
        run(exemplars_source(exemplars, describer, params, device), progress)


@dataclass(frozen=True)
class UnitsAsked:
    """What a command line says about its units, and about the images that they are judged on.

    uri: a version, or the path of descriptions, whose network `model` names. layers: [] for all. params: parameters
    of the search. orders: number of random orders to compare with. size: images of each part. seed: seed of each draw.
    said: of the network.
    """

    uri: str
    layers: list[str]
    model: str | None
    params: dict[str, Any]
    orders: int
    size: int
    seed: int
    device: str
    said: OwnPreparation

    def units(self, progress: Any) -> "NamedUnits":
        """Open the units with their descriptions, and their network."""
        from conceptry.evaluation.units.sources import named_units

        return named_units(self.uri, self.params, self.device, self.model, progress, self.said).of(self.layers)


def described_units(orders: int, size: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare options that reach a command as one `UnitsAsked`, its first argument. orders, size: defaults."""
    options = [
        click.argument("uri"),
        only_layers_option,
        click.option("--orders", default=orders, type=int, help="Number of random orders to compare with."),
        click.option("--model", help="The network, if URI is a folder or a table."),
        network_options,
        search_params_option,
        click.option("--size", type=int, default=size, help="Maximum number of images of each part of the data."),
        seed_option,
        device_option,
    ]

    def declare(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            asked = UnitsAsked(**{field.name: values.pop(field.name) for field in fields(UnitsAsked)})
            if not Path(asked.uri).exists():
                ahead()
            command(asked, **values)

        return functools.reduce(lambda made, option: option(made), reversed(options), run)

    return declare
