"""`conceptry describe`: all units of a network in words, as a table and as pages.

What commands on the described units of a network share: their options, and how they open.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from conceptry.evaluation.cli.options import (
    Optional,
    check_params,
    device_option,
    errors,
    only_layers_option,
    say,
    say_device,
    search_params_option,
    seed_option,
)
from conceptry.evaluation.isolation.launcher import ahead
from conceptry.models.errors import InputError

if TYPE_CHECKING:
    from conceptry.evaluation.units.sources import NamedUnits


@click.command()
@click.argument("uri", required=False)
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder to write, or to go on with.")
@only_layers_option
@search_params_option
@click.option("--describer", type=Optional(str), help="Instead of a version: zoo:emoji-milan or describer:FOLDER.")
@click.option(
    "--exemplars",
    type=Optional(click.Path(path_type=Path)),
    help="With --describer: the results of `conceptry exemplars`, RESULTS/MODEL/DATA.",
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

    URI is a registered version of milan; without it, --describer describes the units in --exemplars. Writes
    descriptions.csv, a page for each layer and index.html. A run that was ended goes on where it was.
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
            raise InputError("a version has a describer and exemplars of its own; give URI, or the two options")
        from conceptry.evaluation.isolation.client import VersionProcess
        from conceptry.registry import find_version

        version = find_version(uri)
        check_params(version.uri, params)
        with bar(version.uri) as progress, VersionProcess(version.uri, device) as predict:
            say_device(predict.device_in_use)
            run(version_source(predict, version, params), progress)
        return
    if not (describer and exemplars):
        raise InputError("expected the URI of a version of milan, or --describer with --exemplars")
    with bar(describer) as progress:
        run(exemplars_source(exemplars, describer, params, device), progress)


@dataclass(frozen=True)
class UnitsAsked:
    """What a command line says of the units it is about, and of the pictures that they are judged on.

    uri: of a version, or the path of descriptions, whose network `model` names. layers: [] for all. params: of the
    search. orders: random ones to compare with. size: pictures of each part. seed: of every draw.
    """

    uri: str
    layers: list[str]
    model: str | None
    params: dict[str, Any]
    orders: int
    size: int
    seed: int
    device: str

    def units(self, progress: Any) -> "NamedUnits":
        """The units with their descriptions, and their network."""
        from conceptry.evaluation.units.sources import named_units

        return named_units(self.uri, self.params, self.device, self.model, progress).of(self.layers)


def described_units(orders: int, size: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options that reach a command as one `UnitsAsked`, before its own. orders, size: their defaults."""
    options = [
        click.argument("uri"),
        only_layers_option,
        click.option("--orders", default=orders, show_default=True, type=int, help="Random orders to compare with."),
        click.option("--model", type=Optional(str), help="The network, where URI is a folder or table."),
        search_params_option,
        click.option("--size", type=Optional(int), help=f"Pictures of each part at most. [default: {size}]"),
        seed_option,
        device_option,
    ]

    def declare(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            if values["size"] is None:
                values["size"] = size
            asked = UnitsAsked(**{field.name: values.pop(field.name) for field in fields(UnitsAsked)})
            if not Path(asked.uri).exists():
                ahead()
            command(asked, **values)

        return functools.reduce(lambda made, option: option(made), reversed(options), run)

    return declare
