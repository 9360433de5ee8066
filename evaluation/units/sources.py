"""Where described units come from: a registered version, a describer and a folder of exemplars, or a table.

`Source` is what `conceptry describe` writes down; `NamedUnits` are units with their network, for what is done to units
by their descriptions.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conceptry.evaluation.cli.options import check_params
from conceptry.evaluation.isolation.client import Predict, VersionProcess
from conceptry.evaluation.milan.client import OWN_ROWS, describe_own_units
from conceptry.evaluation.units.describe import Source
from conceptry.evaluation.units.folder import read_folder
from conceptry.evaluation.units.records import (
    SCORES,
    UnitDescription,
    expect_version,
    number,
    read_descriptions,
    table_at,
)
from conceptry.models.errors import InputError, truncated_repr
from conceptry.models.explained.hooks import format_names
from conceptry.models.explained.protocol import PixelModel
from conceptry.models.explained.source import UNSAID, OwnPreparation
from conceptry.models.manifest import digest_of_files, files_in, read_json
from conceptry.models.milan.exemplars.checkpoint import module_digest
from conceptry.models.milan.exemplars.records import LayerExemplars, UnitExemplars
from conceptry.models.milan.network import lineage_of, prepared_network
from conceptry.models.milan.package import NETWORK, preparation_of
from conceptry.registry.versions import Version, find_version, read_package_file


def version_source(predict: Predict, version: Version, params: Mapping[str, Any]) -> Source:
    """The registered units of `version` (of `registry.find_version`), asked of `predict` with `params`."""
    units = registered_units(version)
    known = {**version.params, **params}
    about = f"{known['model']}, exemplars of {known['data']}, described by {known['describer']} ({version.uri})"
    identity = {"version": version.uri, "model_id": version.model_id, "params": dict(params)}
    said = preparation_of(version.params, read_package_file(version, NETWORK))
    identity |= _of_network(said)

    def describe(layer: str) -> Iterator[UnitDescription]:
        return describe_own_units(predict, [(layer, unit) for unit in units[layer]], params, exemplars=True)

    layers = {layer: len(numbers) for layer, numbers in units.items()}
    notes = _notes(known, known["describer"], known["data"])
    return Source(f"Units of {known['model']}", about, notes, identity, layers, describe)


def registered_units(version: Version) -> dict[str, list[int]]:
    """The numbers of the units of each layer of a version. Raises InputError for a version of another method."""
    from conceptry.evaluation.milan.data import own_ranges

    if version.method != "milan":
        raise InputError(f"{version.uri} is a version of {version.method}; units are described by versions of milan")
    ranges = own_ranges(version.params)
    return {layer: [unit for first, last in runs for unit in range(first, last + 1)] for layer, runs in ranges.items()}


def exemplars_source(directory: Path, describer: str, params: Mapping[str, Any], device: str) -> Source:
    """The exemplars in a results folder, described by the describer of that name ("zoo:emoji-milan",
    "describer:FOLDER"); params: fields of DecodingSettings.

    Raises InputError where the folder holds no exemplars, or for an unknown describer or parameter.
    """
    from conceptry.models.method import check_options
    from conceptry.models.milan.describer.describer import describer_directory, load_describer
    from conceptry.models.milan.exemplars.checkpoint import RECORD
    from conceptry.models.milan.exemplars.records import read_results
    from conceptry.models.milan.settings import DecodingSettings

    layers = read_results(directory)
    names = [field.name for field in dataclasses.fields(DecodingSettings)]
    if unknown := sorted(params.keys() - set(names)):
        raise InputError(f"describers have no parameter {unknown[0]!r}; expected one of {', '.join(names)}")
    check_options(DecodingSettings, params)
    loaded, folder = load_describer(describer, device), describer_directory(describer)
    settings = dataclasses.replace(loaded.settings, **params)
    if settings.clip:
        raise InputError("clip ranks by a dual encoder, which registered versions have: conceptry register milan")

    def describe(layer: str) -> Iterator[UnitDescription]:
        exemplars = layers[layer]
        for start in range(0, len(exemplars), OWN_ROWS):
            units = [exemplars.unit(int(unit)) for unit in exemplars.units[start : start + OWN_ROWS]]
            active = [unit for unit in units if not unit.is_inactive]
            said: Iterator[Any] = iter(())
            if active:
                images, masks = (np.stack([getattr(unit, name) for unit in active]) for name in ("images", "masks"))
                said = iter(loaded.describe(images, masks, settings))
            for unit in units:
                yield _record_of(unit, None if unit.is_inactive else next(said))

    known = dataclasses.asdict(settings)
    identity = {
        "exemplars": {layer: _digest(exemplars) for layer, exemplars in layers.items()},
        "describer": describer,
        "weights": digest_of_files(folder, files_in(folder)),
        "params": known,
    }
    counts = {layer: len(exemplars) for layer, exemplars in layers.items()}
    name = "/".join(directory.resolve().parts[-2:])
    about = f"exemplars in {name}, described by {describer}"
    record = read_json(directory / RECORD) if (directory / RECORD).is_file() else {}
    identity |= _of_network(OwnPreparation.of_record(record))
    notes = _notes(known, describer, record.get("data", "zoo:unknown"))
    return Source(f"Units in {name}", about, notes, identity, counts, describe)


def _of_network(said: OwnPreparation) -> dict[str, Any]:
    """What folders of descriptions keep of the preparation of images, for commands that load the network again."""
    return {"network": said.to_record()} if said != UNSAID else {}


def _notes(known: Mapping[str, Any], describer: str, data: str) -> list[str]:
    from conceptry.models.milan.package import out_of_its_world

    warning = out_of_its_world(describer, data)
    return [score_note(known), *([warning] if warning else [])]


def score_note(known: Mapping[str, Any]) -> str:
    """Say what the score of descriptions is, by the settings of their search (hyperparameters are texts)."""
    strategy, weight = str(known.get("strategy", "")), known.get("temperature")
    if known.get("describer") == "clip-dissect":
        return "Score: PMI, log p(word | pictures) \N{MINUS SIGN} log p(word), by the similarity of words and pictures."
    if str(known.get("clip", False)).lower() == "true":
        return "Score: the sum of the cosines of the description with the exemplars, whole and masked."
    if strategy in ("mi", "rerank"):
        return (
            f"Score: log p(text | pictures) \N{MINUS SIGN} {float(weight or 0):g} log p(text), by which the "
            "description was chosen; PMI: log p(text | pictures) \N{MINUS SIGN} log p(text)."
        )
    return "Score: log p(text | pictures); PMI: log p(text | pictures) \N{MINUS SIGN} log p(text)."


def _record_of(unit: UnitExemplars, said: Any) -> UnitDescription:
    """said: a `Description`, or None for a unit that is never active."""
    strongest = None if unit.activations is None else float(unit.activations[0])
    if said is None:
        return UnitDescription(unit.layer, unit.unit, "", activation=strongest, active=False, exemplars=unit)
    scores: dict[str, Any] = {name: number(getattr(said, name)) for name in SCORES}
    scores["activation"] = strongest
    alternatives = tuple(
        {"text": each.text, **{name: number(getattr(each, name)) for name in SCORES}} for each in said.alternatives
    )
    return UnitDescription(unit.layer, unit.unit, said.text, **scores, alternatives=alternatives, exemplars=unit)


def _digest(exemplars: LayerExemplars) -> str:
    """Digest of the images that each unit has, and of how strongly it responds to them."""
    sha = hashlib.sha256(repr(exemplars.images.shape).encode())
    for array in (exemplars.units, exemplars.ids, exemplars.activations, exemplars.levels):
        sha.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


@dataclass(frozen=True)
class NamedUnits:
    """Described units of a network.

    Attributes:
        title: of the version or table that describes them.
        units: of all layers, in the order of the network.
        model: the network.
    """

    title: str
    units: Sequence[UnitDescription]
    model: PixelModel

    def numbers(self) -> dict[str, list[int]]:
        """Numbers of the units of each layer, in order."""
        found: dict[str, list[int]] = {}
        for unit in self.units:
            found.setdefault(unit.layer, []).append(unit.unit)
        return found

    def of(self, layers: Sequence[str]) -> "NamedUnits":
        """Return the units of `layers`, all for none. Raises InputError for a layer without units."""
        known = self.numbers()
        if unknown := [layer for layer in layers if layer not in known]:
            raise InputError(
                f"{self.title}: has no units of layer {truncated_repr(unknown[0])}; "
                f"expected {format_names(list(known))}"
            )
        kept = [unit for unit in self.units if not layers or unit.layer in layers]
        return NamedUnits(self.title, kept, self.model)


def named_units(
    uri: str,
    params: Mapping[str, Any],
    device: str,
    network: str | None = None,
    progress: Any = None,
    said: OwnPreparation = UNSAID,
) -> NamedUnits:
    """Ask a version of milan for its units, or read a folder or table of descriptions, and load the network.

    uri: of a version; or the path of what `conceptry describe` wrote, or of a table of layer, unit, description.
    network: its name; a version knows it. said: of that network; a version knows what was said when its exemplars were
    computed. Raises InputError where the network is not known, or where the version is of other weights, or of
    exemplars for which images were prepared otherwise.
    """
    if Path(uri).exists():
        return _from_table(Path(uri), params, device, network, said)
    expect_version(uri)
    version = find_version(uri)
    check_params(version.uri, dict(params))
    layers = registered_units(version)
    name = network or version.params["model"]
    known = preparation_of(version.params, read_package_file(version, NETWORK))
    said = _joined(said, known, version.uri)
    model = prepared_network(name, device, said)
    _check_weights(version, model, name)
    wanted = [(layer, number) for layer, numbers in layers.items() for number in numbers]
    with VersionProcess(version.uri, device) as predict:
        if progress:
            predict.on_progress = progress
        units = list(describe_own_units(predict, wanted, params, exemplars=False))
    return NamedUnits(version.uri.removeprefix("models:/"), units, model)


def _from_table(
    path: Path, params: Mapping[str, Any], device: str, network: str | None, said: OwnPreparation
) -> NamedUnits:
    table = table_at(path, params)
    if not network:
        raise InputError(f"{path}: holds descriptions alone; name the network with --model, as zoo:scenes")
    folder = read_folder(path)
    known = OwnPreparation.of_record(folder.identity.get("network", {}) if folder else {})
    model = prepared_network(network, device, _joined(said, known, str(path)))
    return NamedUnits(path.resolve().name, read_descriptions(table), model)


def _joined(said: OwnPreparation, known: OwnPreparation, of: str) -> OwnPreparation:
    """What is said of a network now, and what was said of it when the exemplars of `of` were computed.

    Classes may have other names now. Raises InputError where images would be prepared otherwise.
    """
    joined = said.over(known)
    before, now = (each.to_record()["preparation"] for each in (known, joined))
    if before and now != before:
        raise InputError(
            f"{of}: its exemplars were computed with {json.dumps(before)}, which is taken again; leave input_size, "
            "mean, std and preprocessing out"
        )
    return joined


def _check_weights(version: Version, model: PixelModel, name: str) -> None:
    """Refuse a network whose weights are not those that the version describes, where the version knows them.

    A version over exemplars of a module that no name led to knows the digest of the module, else that of its lineage.
    """
    theirs = version.lineage.get("explained_sha256")
    if theirs and theirs not in (lineage_of(model)["explained_sha256"], module_digest(model.module)):
        raise InputError(f"{version.uri} describes the units of other weights than those of {name}; register it again")
