"""What commands on the described units of a network share: their options, and how they open."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from conceptry.evaluation.console import (
    Optional,
    device_option,
    only_layers_option,
    search_params_option,
    seed_option,
)
from conceptry.evaluation.launch import ahead

if TYPE_CHECKING:
    from conceptry.evaluation.milan.named_units import NamedUnits


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
        from conceptry.evaluation.milan.named_units import named_units

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
