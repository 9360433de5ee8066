"""The described units of a network and the network itself, for what is done to units by their descriptions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conceptry.evaluation.console import check_params
from conceptry.evaluation.milan.described import DescribedUnit, expect_version, read_descriptions, table_at
from conceptry.evaluation.milan.unit_sources import ask, registered_units
from conceptry.evaluation.process import VersionProcess
from conceptry.models.errors import InputError, shown
from conceptry.models.explained.layers import some
from conceptry.models.explained.protocol import PixelModel
from conceptry.models.milan.networks import load_network


@dataclass(frozen=True)
class NamedUnits:
    """title: what described them; units: of all layers, in the order of the network; model: the network."""

    title: str
    units: Sequence[DescribedUnit]
    model: PixelModel

    def numbers(self) -> dict[str, list[int]]:
        """The numbers of the units of each layer, in order."""
        found: dict[str, list[int]] = {}
        for unit in self.units:
            found.setdefault(unit.layer, []).append(unit.unit)
        return found

    def of(self, layers: Sequence[str]) -> "NamedUnits":
        """Those of `layers`, or all where none is named. Raises InputError for a layer that has none."""
        known = self.numbers()
        if unknown := [layer for layer in layers if layer not in known]:
            raise InputError(f"{self.title}: has no units of layer {shown(unknown[0])}; expected {some(list(known))}")
        kept = [unit for unit in self.units if not layers or unit.layer in layers]
        return NamedUnits(self.title, kept, self.model)


def named_units(
    uri: str, params: Mapping[str, Any], device: str, network: str | None = None, progress: Any = None
) -> NamedUnits:
    """Ask a version of milan for its units, or read a folder or table of descriptions, and load the network.

    uri: of a version; or the path of what `conceptry describe` wrote, or of a table of layer, unit, description.
    network: its name; a version knows it. Raises InputError where the network is not known, or where the version is of
    other weights.
    """
    if Path(uri).exists():
        return _from_table(Path(uri), params, device, network)
    from conceptry.registry import find_version

    expect_version(uri)
    version = find_version(uri)
    check_params(version.uri, dict(params))
    layers = registered_units(version)
    name = network or version.params["model"]
    model = load_network(name, device)
    _check_weights(version, model, name)
    wanted = [(layer, number) for layer, numbers in layers.items() for number in numbers]
    with VersionProcess(version.uri, device) as predict:
        if progress:
            predict.on_progress = progress
        units = list(ask(predict, wanted, params, exemplars=False))
    return NamedUnits(version.uri.removeprefix("models:/"), units, model)


def _from_table(path: Path, params: Mapping[str, Any], device: str, network: str | None) -> NamedUnits:
    table = table_at(path, params)
    if not network:
        raise InputError(f"{path}: holds descriptions alone; name the network with --model, as zoo:scenes")
    return NamedUnits(path.resolve().name, read_descriptions(table), load_network(network, device))


def _check_weights(version: Any, model: PixelModel, name: str) -> None:
    """Refuse a network whose weights are not those that the version describes, where both are known."""
    lineage = getattr(model, "lineage", None) or {}
    ours, theirs = lineage.get("explained_sha256"), version.tags.get("explained_sha256")
    if ours and theirs and ours != theirs:
        raise InputError(f"{version.uri} describes the units of other weights than those of {name}; register it again")
