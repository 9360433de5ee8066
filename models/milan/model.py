"""MILAN over one network: which unit, and its description in words.

Hernandez et al., "Natural Language Descriptions of Deep Visual Features", ICLR 2022.

| part | what |
|---|---|
| units | the exemplars of the network's units: computed here, computed before, or read from a version |
| describer | from exemplars to words: a `Describer`, or CLIP-Dissect behind `WordDescriber` |
| settings | how descriptions are searched for, see `DecodingSettings` |

The network is needed for its exemplars alone; a description is made of these.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch

from conceptry.models.devices import resolve_device
from conceptry.models.encoders.load import read_encoder
from conceptry.models.encoders.protocol import PackagedEncoder
from conceptry.models.errors import InputError
from conceptry.models.explained.source import OwnPreparation
from conceptry.models.manifest import read_json
from conceptry.models.method import Package, Progress, check_options
from conceptry.models.milan.baselines import clip_dissect
from conceptry.models.milan.baselines.clip_dissect import ClipDissect, load_clip_dissect, read_clip_dissect
from conceptry.models.milan.describer.describer import Describer, load_describer, read_describer
from conceptry.models.milan.describer.ranking import Description
from conceptry.models.milan.exemplars.records import LayerExemplars
from conceptry.models.milan.exemplars.sources import source_of
from conceptry.models.milan.exemplars.unit_store import NetworkUnits, UnitStore
from conceptry.models.milan.package import (
    CLIP,
    CONFIG,
    DESCRIBER,
    UNITS,
    describe_package,
    describer_name,
    encoder_name,
    exemplars_name,
    is_describer_folder,
    ranking_encoder,
    write_package,
)
from conceptry.models.milan.record import UnitDescription, UnitDescriptions, unit_description
from conceptry.models.milan.settings import (
    CLIP_DISSECT,
    EMOJI_MILAN,
    NONE,
    SEARCH,
    DecodingSettings,
    MilanOptions,
    check_words,
)
from conceptry.models.milan.units import LoadedUnit, Unit, batches, given_units, named_units

if TYPE_CHECKING:
    from conceptry.models.milan.network import NetworkExemplars


class Describes(Protocol):
    """Descriptions of units, given uint8 images (n, k, 3, H, W) and masks (n, k, 1, H, W)."""

    def describe(self, images: np.ndarray, masks: np.ndarray, settings: DecodingSettings, /) -> list[Description]: ...


class WordDescriber:
    """CLIP-Dissect, of whose settings only the number of alternatives is one of a request."""

    def __init__(self, words: ClipDissect) -> None:
        self.words = words

    def describe(self, images: np.ndarray, masks: np.ndarray, settings: DecodingSettings, /) -> list[Description]:
        return self.words.describe(images, masks, settings.alternatives)


class Milan:
    """Describe the units of a network in words.

    Args:
        network: what is explained: a name as `load_network` takes it (`zoo:scenes`, `torchvision:resnet18@FILE`,
            `timm:NAME@FILE`, `open_clip:ARCH@TAG`, ...), or a torch module that takes images (n, 3, H, W) in [0, 1], or
            the items of `data`. Exemplars may be given in its place. Without both, `explain` takes images and masks.
        describer: `zoo:emoji-milan`, a folder (`describer:FOLDER`), a `Describer`, `clip-dissect` or a `ClipDissect`.
        exemplars: a results folder, as `conceptry exemplars` writes it, or what `compute_exemplars` returned; the
            network is then needed only for the lineage of a version.
        layers: dotted names of layers; by default the network's stages, or all of the exemplars.
        data: the images that exemplars are chosen from: a name as `open_source` takes it, uint8 (n, H, W, 3), a torch
            data set, or a source such as `TorchSource`. By default `zoo:emoji-scenes` for a network given by name.
        size: at most so many images of data that are given by name.
        k, quantile, image_size, channels: see `ExemplarSettings`.
        classes, input_size, mean, std, preprocessing: of a network given by name, see `load_network`.
        units: the units of a layer that exemplars are computed of, {layer: numbers}; by default all.
        words: of `clip-dissect`: a text file, one entry a line, or the words themselves.
        clip_encoder: what `clip` ranks by and `clip-dissect` names by: the name of a dual encoder, a loaded one, or
            `none`.
        name: what a module or exemplars of one's own go by.
        directory: where exemplars are computed to, which can be gone on with; by default a temporary folder.
        device: auto, cpu, cuda or cuda:INDEX; a module stays where it is.
        progress: told what is being done and the share that is.
        **settings: fields of `DecodingSettings`, such as strategy, temperature and beam_size.

    Raises:
        InputError: for unknown names and settings, values outside their range, and parts that do not fit one another.

    Example:
        >>> from conceptry import Milan
        >>> milan = Milan("zoo:scenes", layers=["layer4"], size=60, k=5)
        >>> record = milan.explain(["layer4:3", ("layer4", 7)], alternatives=1)
        >>> [unit.name for unit in record]
        ['layer4:3', 'layer4:7']
        >>> record[0].text == record.to_dict()["explanations"][0]["description"]
        True
        >>> record[0].exemplars.images.shape
        (5, 3, 64, 64)
    """

    method: ClassVar[str] = "milan"

    def __init__(
        self,
        network: Any = None,
        describer: str | Path | Describer | ClipDissect = EMOJI_MILAN,
        *,
        exemplars: str | Path | Mapping[str, LayerExemplars] | UnitStore | None = None,
        layers: Sequence[str] = (),
        data: Any = None,
        size: int | None = None,
        k: int | None = None,
        quantile: float | None = None,
        image_size: int | None = None,
        channels: str | None = None,
        classes: Sequence[str] | None = None,
        input_size: int | Sequence[int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        preprocessing: str | None = None,
        units: Mapping[str, Sequence[int]] | None = None,
        words: str | Path | Sequence[str] | None = None,
        clip_encoder: str | PackagedEncoder | None = None,
        name: str | None = None,
        directory: str | Path | None = None,
        device: str | torch.device = "auto",
        progress: Progress | None = None,
        **settings: Any,
    ) -> None:
        if isinstance(network, Path | Mapping) and exemplars is None:
            network, exemplars = None, network
        if isinstance(layers, str):
            layers = (layers,)
        place = resolve_device(str(device))
        if isinstance(describer, Path) or (isinstance(describer, str) and is_describer_folder(describer)):
            describer = f"describer:{describer}"
        if unknown := sorted(settings.keys() - set(SEARCH)):
            raise InputError(f"unknown setting {unknown[0]!r} of Milan; expected one of {', '.join(SEARCH)}")
        of_exemplars = {"size": size, "k": k, "quantile": quantile, "image_size": image_size}
        of_exemplars["channels"] = channels
        values = {n: v for n, v in {**of_exemplars, **settings}.items() if v is not None}
        check_options(MilanOptions, values)
        self._options = MilanOptions(
            describer=describer_name(describer),
            words=str(words) if isinstance(words, str | Path) else None,
            clip_encoder=encoder_name(clip_encoder, describer),
            exemplars=None if exemplars is None else exemplars_name(exemplars),
            **values,
        )
        self.settings = self._options.settings_of_search()
        clip = ranking_encoder(self._options, clip_encoder, describer, place)
        if isinstance(describer, str) and describer != CLIP_DISSECT:
            describer = load_describer(describer, place, clip=clip)
        elif isinstance(describer, Describer) and clip is not None:
            describer = copy(describer)
            describer.clip = clip
        self._found: NetworkExemplars | None = None
        if not isinstance(exemplars, UnitStore) and (exemplars is not None or network is not None):
            # Here, because a server needs neither networks nor what computes exemplars.
            from conceptry.models.milan.network import gather_exemplars

            self._found = gather_exemplars(
                network,
                Path(exemplars) if isinstance(exemplars, str) else exemplars,
                self._options.settings(),
                layers=layers,
                data=data,
                size=size,
                name=name,
                device=place,
                preparation=OwnPreparation(classes, input_size, mean, std, preprocessing),
                units=units,
                directory=directory,
                progress=progress,
            )
        if isinstance(describer, str):
            assert clip is not None  # the options have seen to it
            if self._found is None:
                raise InputError(f"{CLIP_DISSECT} asks how frequent words are in the data of exemplars; give some")
            named = data is None or isinstance(data, str)
            describer = load_clip_dissect(words, self._found.data if named else source_of(data), clip)
        self.units = exemplars if isinstance(exemplars, UnitStore) else self._found and self._found.store
        self.describer: Describes = WordDescriber(describer) if isinstance(describer, ClipDissect) else describer

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the explained layers, in order."""
        return () if self.units is None else self.units.layers

    @property
    def may_rank(self) -> bool:
        """Whether there is a dual encoder for `clip`."""
        return isinstance(self.describer, Describer) and self.describer.clip is not None

    def explain(
        self,
        units: Any = None,
        *,
        images: Any = None,
        masks: Any = None,
        exemplars: bool = False,
        progress: Progress | None = None,
        **params: Any,
    ) -> UnitDescriptions:
        """Describe units of the network, or of any other one by its exemplars.

        Args:
            units: "layer4:3", "layer4:0-9", ("layer4", 3), "layer4" for all units of a layer, or a list of these.
            images: instead of units, the images that drive a unit most, the strongest first: (k, 3, H, W), uint8 or in
                [0, 1], or a list of PIL images, paths or file contents; (n, k, 3, H, W) for n units.
            masks: for each image where the unit is active: (k, 1, H, W), not 0 where it is, or a list as of images,
                whose grey levels above 127 are in; (n, k, 1, H, W) for n units.
            exemplars: whether the answers of the record carry images and masks of units of the network.
            progress: told what is being done and the share that is.
            **params: fields of `DecodingSettings` that are to differ from those of the explainer.

        Returns:
            One description for each unit, in the order in which they were asked for.

        Raises:
            InputError: for unknown layers, units and params, for values outside their range, and for images and masks
                that do not fit one another.
        """
        if unknown := sorted(params.keys() - set(SEARCH)):
            raise InputError(
                f"unknown param {unknown[0]!r} of milan; expected one of {', '.join([*SEARCH, 'exemplars'])}"
            )
        check_options(DecodingSettings, {name: value for name, value in params.items() if value not in (None, "")})
        settings = self.override(params)
        if units is not None and images is not None:
            raise InputError("units and images are both given; expected units of the network, or images of another")
        asked = self._named(units) if images is None else given_units(images, masks)
        return UnitDescriptions(list(self.describe(asked, settings, progress)), exemplars=exemplars)

    def override(self, values: Mapping[str, Any]) -> DecodingSettings:
        """The settings of the explainer with the given ones changed; None and "" leave what there is.

        What it was made with gives way where it cannot hold beside what is given: `clip` to another strategy. Raises
        InputError for values outside their range and for what this explainer's describer does not have.
        """
        given = {name: value for name, value in values.items() if value is not None and value != ""}
        check_words(isinstance(self.describer, WordDescriber), given)
        way = {"clip": False} if given.get("strategy", "rerank") not in ("mi", "rerank") else {}
        settings = dataclasses.replace(self.settings, **(way | given))
        if settings.clip and not self.may_rank:
            raise InputError("clip ranks by a dual encoder, and this version has none; register it with clip_encoder")
        return settings

    def describe(
        self, units: Iterable[Unit], settings: DecodingSettings, progress: Progress | None = None
    ) -> Iterator[UnitDescription]:
        """Descriptions of units, in their order; those next to each other with images of one shape at once.

        One batch is read and decoded at a time, so that what is held does not grow with the request.
        """
        units = list(units)
        done = 0
        for batch in batches(units, self.units):
            yield from self._described(batch, settings)
            done += len(batch)
            if progress is not None:
                progress("describing", done / len(units))

    def to_package(self, directory: Path) -> Package:
        """Write the package folder of a version, see `package`, and say what the registry is to know of it.

        Raises:
            InputError: where there is no network whose units a version could describe, and for an explainer that was
                read from a version.
        """
        if self._found is None:
            if self.units is None:
                raise InputError("a version describes the units of a network: make Milan with a network or exemplars")
            raise InputError(
                "this explainer was read from a version, which alone knows its network and data; log the one that it "
                "was made from, or copy the version with mlflow.MlflowClient().copy_model_version"
            )
        describer = self.describer
        if isinstance(describer, WordDescriber):
            write_package(directory, self._found.layers, describer.words, self.settings, None)
        else:
            assert isinstance(describer, Describer)  # there is no other
            write_package(directory, self._found.layers, describer, self.settings, describer.clip)
        return describe_package(self._options, self._found, directory)

    def __repr__(self) -> str:
        counts = {} if self.units is None else self.units.counts
        of = ", ".join(f"{layer} ({count} units)" for layer, count in counts.items()) or "any unit"
        return f"{type(self).__name__}({of}; {self._options.describer})"

    def _named(self, units: Any) -> list[Unit]:
        """The units that the names stand for. Raises InputError for other names and for units that are not there."""
        if self.units is None:
            raise InputError("this explainer has no network; give images and masks, or make it with a network")
        if units is None:
            raise InputError(f"no unit is named; expected LAYER:UNIT or LAYER, such as {self.layers[0]}:0")
        return named_units(units, self.units)

    def _described(self, batch: Sequence["LoadedUnit"], settings: DecodingSettings) -> Iterator[UnitDescription]:
        active = [loaded for loaded in batch if loaded.images is not None]
        said: Iterator[Description] = iter(())
        if active:
            images, masks = (np.stack([getattr(loaded, name) for loaded in active]) for name in ("images", "masks"))
            said = iter(self.describer.describe(images, masks, settings))
        for loaded in batch:
            description = None if loaded.images is None else next(said)
            yield unit_description(loaded.unit.layer, loaded.unit.unit, description, loaded.source)


def read_package(directory: Path, device: torch.device) -> Milan:
    """The explainer whose package `directory` is; its digests have been checked."""
    settings, units = read_json(directory / CONFIG), NetworkUnits(directory / UNITS)
    if (directory / DESCRIBER / clip_dissect.RECORD).is_file():
        words = read_clip_dissect(directory / DESCRIBER, device)
        return Milan(exemplars=units, describer=words, device=device, **settings)
    clip = read_encoder(directory / CLIP, device) if (directory / CLIP).is_dir() else None
    describer = read_describer(directory / DESCRIBER, device, clip=clip)
    return Milan(exemplars=units, describer=describer, clip_encoder=clip or NONE, device=device, **settings)
