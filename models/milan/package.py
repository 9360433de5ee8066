"""What a version of MILAN consists of: a describer, the units of a network, and how descriptions are searched for.

| part of the package folder | content |
|---|---|
| config.json | the settings of the search |
| describer/ | a describer of `read_describer`, or one of `read_clip_dissect`: whichever file of theirs is there |
| units/ | the exemplars of the network's units, see `unit_store` |
| clip/ | the dual encoder that `clip` ranks by; absent where there is none |
| network.json | names of the network's classes, where the user has given them |

The network itself is not part of it: its exemplars say all that a description is made of.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from conceptry.models.encoders.load import load_encoder, save_encoder
from conceptry.models.encoders.processing import requirements_of
from conceptry.models.encoders.protocol import PackagedEncoder
from conceptry.models.errors import InputError, truncated_repr
from conceptry.models.explained.source import OwnPreparation
from conceptry.models.manifest import digest_of_files, files_in, sha256_file, write_json
from conceptry.models.method import Package, contents_of
from conceptry.models.milan.baselines.clip_dissect import ClipDissect
from conceptry.models.milan.describer.describer import ENCODER, Describer
from conceptry.models.milan.exemplars.records import LayerExemplars
from conceptry.models.milan.exemplars.unit_store import NetworkUnits, UnitStore, write_units
from conceptry.models.milan.settings import (
    CLIP_DISSECT,
    EMOJI_MILAN,
    GREEDY,
    MI,
    OF_WORDS,
    RERANK,
    SAMPLE,
    SEARCH,
    DecodingSettings,
    MilanOptions,
)

if TYPE_CHECKING:  # it loads networks, which a server does without
    from conceptry.models.milan.network import NetworkExemplars

CONFIG, DESCRIBER, UNITS, CLIP, NETWORK = "config.json", "describer", "units", "clip", "network.json"
_LONGEST = 6000  # characters of a hyperparameter in MLflow
REQUIREMENTS = ("numpy", "open_clip_torch", "pandas", "pillow", "safetensors", "torch", "torchvision")


def write_package(
    directory: Path,
    layers: Mapping[str, LayerExemplars],
    describer: Describer | ClipDissect,
    settings: DecodingSettings,
    clip: PackagedEncoder | None,
) -> None:
    """Write the folder of the table above."""
    write_json(directory / CONFIG, asdict(settings))
    describer.save(directory / DESCRIBER)
    if isinstance(describer, Describer):  # by itself it leaves out what the zoo has, and a server has no zoo
        describer.encoder.save(directory / DESCRIBER / ENCODER)
    (directory / UNITS).mkdir()
    write_units(layers, directory / UNITS)
    if clip is not None:
        save_encoder(clip, directory / CLIP, clip.runtime)


def describe_package(options: MilanOptions, found: "NetworkExemplars", directory: Path) -> Package:
    """What the registry is to know of the package in `directory`: hyperparameters, lineage, an example, notes.

    What the user has said of the network goes with it, so that a command that loads the network again prepares images
    as for the exemplars. Names of classes, of which there may be more than a hyperparameter holds, go into a file.
    """
    said = found.preparation.to_record()
    if said["classes"]:
        write_json(directory / NETWORK, {"classes": said["classes"]})
    units = NetworkUnits(directory / UNITS)
    # What versions differ in most comes first: a list of them has no room for more.
    params: dict[str, Any] = {"model": found.model, "describer": options.describer}
    params |= {name: getattr(options, name) for name in _used(options)}
    params |= {"clip_encoder": options.encoder_name, "words": options.words, "layers": ",".join(units.layers)}
    params |= {"data": found.data, **found.params, "units": units_param(units)}
    params["preparation"] = said["preparation"] and json.dumps(said["preparation"])
    tags = dict(found.lineage)
    folder = directory / DESCRIBER
    tags |= {"describer": options.describer, "describer_sha256": digest_of_files(folder, files_in(folder))}
    every = [(layer, unit) for layer in units.layers for unit in units.numbers(layer)]
    active = [(layer, unit) for layer, unit in every if units.is_active(layer, unit)]
    layer, unit = (active or every)[0]
    notes = []
    if inactive := len(every) - len(active):
        notes.append(f"{inactive} of {len(every)} units never rise above their level: they are not described")
    if warning := out_of_its_world(options.describer, found.data):
        notes.append(warning)
    example = {"layer": [layer], "unit": [unit]}
    requirements = (*REQUIREMENTS, *requirements_of(directory))
    params = {name: value for name, value in params.items() if value is not None}
    contents = contents_of(
        {
            "model": (found.model, tags.get("explained_sha256")),
            "describer": (options.describer, tags["describer_sha256"] if not options.is_words else None),
            "words": (options.words, tags["describer_sha256"]),
            "clip_encoder": (options.encoder_name, _digest_below(directory / CLIP)),
            "exemplars": (options.exemplars, _digest_below(directory / UNITS)),
            "data": (found.data, tags.get("data_sha256")),
            "classes": (options.classes, _digest_below(directory / NETWORK)),
        }
    )
    return Package(params, tags, example, requirements, notes, contents)


def _digest_below(path: Path) -> str | None:
    """SHA-256 of a file, or of the files of a folder; None where there is none."""
    if path.is_file():
        return sha256_file(path)
    return digest_of_files(path, files_in(path)) if path.is_dir() else None


def preparation_of(params: Mapping[str, str], file: Mapping[str, Any]) -> OwnPreparation:
    """What the user had said of the network of a version, by its hyperparameters and the content of `network.json`."""
    known = json.loads(params.get("preparation", "null"))
    return OwnPreparation.of_record({"preparation": known, "classes": file.get("classes")})


def out_of_its_world(describer: str, data: str) -> str | None:
    """A sentence where the describer that ships is to describe other pictures than those of its own small world."""
    if describer != EMOJI_MILAN or data.startswith("zoo:"):
        return None
    return f"{describer} has the words of the emoji world alone: what it says of {data} is no finding"


def _used(options: MilanOptions) -> tuple[str, ...]:
    """The settings that say something to the describer and its strategy; the others would look like differences."""
    if options.is_words:
        return OF_WORDS
    unused = set() if options.clip else {"clip", "clip_weight", "clip_temperature"}
    if options.clip or options.strategy not in (MI, RERANK):
        unused.add("temperature")
    if options.strategy in (GREEDY, SAMPLE):
        unused.add("beam_size")
    if options.strategy != SAMPLE:
        unused.add("seed")
    return tuple(name for name in SEARCH if name not in unused)


def units_param(units: NetworkUnits) -> str:
    """The numbers of the units of each layer, as JSON: {layer: [[first, last], ...]}.

    Raises InputError where that is longer than MLflow takes.
    """
    ranges = {}
    for layer in units.layers:
        numbers = np.sort(np.array(units.numbers(layer)))
        starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 2) != 1)
        ends = np.append(starts[1:], len(numbers)) - 1
        ranges[layer] = [[int(numbers[i]), int(numbers[j])] for i, j in zip(starts, ends, strict=True)]
    text = json.dumps(ranges, separators=(",", ":"))
    if len(text) > _LONGEST:
        raise InputError(
            f"the numbers of {sum(units.counts.values())} units of {len(ranges)} layers take {len(text):,} characters, "
            f"and MLflow records {_LONGEST:,}; register fewer layers, or more of the units of each"
        )
    return text


def is_describer_folder(describer: str) -> bool:
    """Whether a name is a folder's, without the scheme `describer:`."""
    return ":" not in describer and Path(describer).is_dir()


def describer_name(describer: Any) -> str:
    """The name under which a describer is recorded."""
    if isinstance(describer, str):
        return describer
    if isinstance(describer, ClipDissect):
        return CLIP_DISSECT
    if isinstance(describer, Describer):
        return describer.name
    raise InputError(
        f"describer must be a name, a folder, a Describer or a ClipDissect, got {type(describer).__name__}"
    )


def exemplars_name(exemplars: Any) -> str:
    """What sentences call exemplars that are there already."""
    if isinstance(exemplars, str | Path):
        return str(exemplars)
    if isinstance(exemplars, UnitStore) or (isinstance(exemplars, Mapping) and exemplars):
        return "exemplars"
    raise InputError(f"exemplars must be a folder or LayerExemplars by layer, got {truncated_repr(exemplars)}")


def encoder_name(encoder: Any, describer: Any) -> str | None:
    """The name under which the dual encoder is recorded; None for the default of the describer."""
    if encoder is None and isinstance(describer, ClipDissect):
        encoder = describer.encoder
    if encoder is None and isinstance(describer, Describer):
        encoder = describer.clip
    if encoder is None or isinstance(encoder, str):
        return encoder
    if isinstance(encoder, PackagedEncoder):
        return encoder.name
    raise InputError(
        f"clip_encoder must be the name of a dual encoder or one that `load_encoder` gave, got {type(encoder).__name__}"
    )


def ranking_encoder(
    options: MilanOptions, encoder: Any, describer: Any, device: torch.device
) -> PackagedEncoder | None:
    """The dual encoder itself; None where there is none, or where CLIP-Dissect has its own."""
    if isinstance(describer, ClipDissect) or options.encoder_name is None:
        return None
    given = encoder if encoder is not None else getattr(describer, "clip", None)
    return load_encoder(options.encoder_name, device) if given is None or isinstance(given, str) else given
