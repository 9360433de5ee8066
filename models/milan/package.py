"""What a version of MILAN consists of: a describer, the units of a network, and how descriptions are searched for.

| part of the package folder | content |
|---|---|
| config.json | the settings of the search |
| describer/ | a describer of `read_describer`, or one of `read_clip_dissect`: whichever file of theirs is there |
| units/ | the exemplars of the network's units, see `network_units` |
| clip/ | the dual encoder that `clip` ranks by; absent where there is none |

The network itself is not part of it: its exemplars say all that a description is made of.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from conceptry.models.encoders.load import read_encoder, save_encoder
from conceptry.models.encoders.protocol import PackagedEncoder
from conceptry.models.errors import InputError
from conceptry.models.manifest import read_json, write_json
from conceptry.models.milan.baselines import clip_dissect
from conceptry.models.milan.baselines.clip_dissect import ClipDissect, read_clip_dissect
from conceptry.models.milan.describer.describer import ENCODER, Describer, read_describer
from conceptry.models.milan.describer.ranking import Description
from conceptry.models.milan.exemplars.records import LayerExemplars
from conceptry.models.milan.exemplars.unit_store import NetworkUnits, write_units
from conceptry.models.milan.settings import DecodingSettings, check_words

CONFIG, DESCRIBER, UNITS, CLIP = "config.json", "describer", "units", "clip"


class Describes(Protocol):
    """Descriptions of units, given uint8 images (n, k, 3, H, W) and masks (n, k, 1, H, W)."""

    def describe(self, images: np.ndarray, masks: np.ndarray, settings: DecodingSettings, /) -> list[Description]: ...


class WordDescriber:
    """CLIP-Dissect, of whose settings only the number of alternatives is one of a request."""

    def __init__(self, words: ClipDissect) -> None:
        self.words = words

    def describe(self, images: np.ndarray, masks: np.ndarray, settings: DecodingSettings, /) -> list[Description]:
        return self.words.describe(images, masks, settings.alternatives)


@dataclass(frozen=True)
class RegisteredUnits:
    """A version in memory. may_rank: whether there is an encoder for `clip`."""

    units: NetworkUnits
    describer: Describes
    settings: DecodingSettings
    may_rank: bool

    def override(self, values: Mapping[str, Any]) -> DecodingSettings:
        """The settings of the version with the given ones changed; None and "" leave what there is.

        What was registered gives way where it cannot hold beside what is given: `clip` to another strategy. Raises
        InputError for values outside their range and for what this version's describer does not have.
        """
        given = {name: value for name, value in values.items() if value is not None and value != ""}
        check_words(isinstance(self.describer, WordDescriber), given)
        way = {"clip": False} if given.get("strategy", "rerank") not in ("mi", "rerank") else {}
        settings = dataclasses.replace(self.settings, **(way | given))
        if settings.clip and not self.may_rank:
            raise InputError("clip ranks by a dual encoder, and this version has none; register it with clip_encoder")
        return settings


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


def read_package(directory: Path, device: torch.device) -> RegisteredUnits:
    """What `write_package` wrote; its digests have been checked."""
    settings = DecodingSettings(**read_json(directory / CONFIG))
    units = NetworkUnits(directory / UNITS)
    if (directory / DESCRIBER / clip_dissect.RECORD).is_file():
        words = read_clip_dissect(directory / DESCRIBER, device)
        return RegisteredUnits(units, WordDescriber(words), settings, may_rank=False)
    clip = read_encoder(directory / CLIP, device) if (directory / CLIP).is_dir() else None
    describer = read_describer(directory / DESCRIBER, device, clip=clip)
    return RegisteredUnits(units, describer, settings, may_rank=clip is not None)
