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
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch

from conceptry.models.devices import resolve_device
from conceptry.models.encoders.load import load_encoder, read_encoder
from conceptry.models.encoders.protocol import PackagedEncoder
from conceptry.models.errors import InputError, truncated_repr
from conceptry.models.manifest import read_json
from conceptry.models.method import Package, Progress, check_options
from conceptry.models.milan.baselines import clip_dissect
from conceptry.models.milan.baselines.clip_dissect import ClipDissect, load_clip_dissect, read_clip_dissect
from conceptry.models.milan.describer.describer import Describer, load_describer, read_describer
from conceptry.models.milan.describer.inputs import exemplar_arrays
from conceptry.models.milan.describer.ranking import Description
from conceptry.models.milan.exemplars.records import LayerExemplars, UnitExemplars
from conceptry.models.milan.exemplars.sources import source_of
from conceptry.models.milan.exemplars.unit_store import NetworkUnits, UnitStore
from conceptry.models.milan.package import CLIP, CONFIG, DESCRIBER, UNITS, describe_package, write_package
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

if TYPE_CHECKING:
    from conceptry.models.milan.network import NetworkExemplars

MAX_UNITS = 32  # described at once
MAX_PIXELS = 2**24  # of the images of one batch together: some 100 photographs of 400 x 400
_UNIT = re.compile(r"(?P<layer>.+):(?P<first>\d{1,9})(?:-(?P<last>\d{1,9}))?", re.DOTALL)


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
class Unit:
    """A unit to describe: of the explained network, by layer and number, or by the images and masks that `read` gives.

    read: returns uint8 images (k, 3, H, W) and masks (k, 1, H, W) of 0 and 1, when it is the unit's turn.
    """

    layer: str = ""
    unit: int = -1
    read: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None


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
        k, quantile, image_size: see `ExemplarSettings`.
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
        if isinstance(describer, Path) or (isinstance(describer, str) and _is_folder(describer)):
            describer = f"describer:{describer}"
        if unknown := sorted(settings.keys() - set(SEARCH)):
            raise InputError(f"unknown setting {unknown[0]!r} of Milan; expected one of {', '.join(SEARCH)}")
        of_exemplars = {"size": size, "k": k, "quantile": quantile, "image_size": image_size}
        values = {n: v for n, v in {**of_exemplars, **settings}.items() if v is not None}
        check_options(MilanOptions, values)
        self._options = MilanOptions(
            describer=_describer_name(describer),
            words=str(words) if isinstance(words, str | Path) else None,
            clip_encoder=_encoder_name(clip_encoder, describer),
            exemplars=None if exemplars is None else _exemplars_name(exemplars),
            **values,
        )
        self.settings = self._options.settings_of_search()
        clip = _encoder(self._options, clip_encoder, describer, place)
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
        asked = self._named(units) if images is None else _given(images, masks)
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
        for batch in self._batches(units):
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
        names = [units] if isinstance(units, str) or _is_pair(units) else list(units)
        found = [Unit(layer, unit) for name in names for layer, unit in self._pairs(name)]
        for one in found:
            self.units.check(one.layer, one.unit)
        return found

    def _pairs(self, name: Any) -> list[tuple[str, int]]:
        assert self.units is not None
        if _is_pair(name):
            return [(str(name[0]), int(name[1]))]
        if not isinstance(name, str):
            raise InputError(f"a unit is named LAYER:UNIT or (layer, unit), got {truncated_repr(name)}")
        parts = _UNIT.fullmatch(name)
        if name in self.layers or parts is None:
            return [(name, unit) for unit in self.units.numbers(name)]
        first, last = int(parts["first"]), int(parts["last"] or parts["first"])
        if last < first:
            raise InputError(f"{truncated_repr(name)}: expected LAYER:FIRST-LAST in ascending order")
        self.units.check(parts["layer"], last)  # before many are counted up to one that is not there
        return [(parts["layer"], unit) for unit in range(first, last + 1)]

    def _batches(self, units: Sequence[Unit]) -> Iterator[list["_Loaded"]]:
        batch: list[_Loaded] = []
        shape, pixels = (), 0
        for unit in map(self._load, units):
            new = () if unit.images is None else unit.images.shape
            size = int(np.prod(new[:1] + new[2:])) if new else 0
            pixels += size
            if len(batch) == MAX_UNITS or (batch and pixels > MAX_PIXELS) or (new and shape and new != shape):
                yield batch
                batch, shape, pixels = [], (), size
            batch.append(unit)
            shape = new or shape
        if batch:
            yield batch

    def _load(self, unit: Unit) -> "_Loaded":
        if unit.read is not None:
            images, masks = unit.read()
            source = UnitExemplars(unit.layer, unit.unit, images, masks)
            return _Loaded(unit, source, images, masks) if masks.any() else _Loaded(unit, source)
        assert self.units is not None  # units by name have been checked
        if not self.units.is_active(unit.layer, unit.unit):
            return _Loaded(unit, self.units)
        exemplars = self.units.unit(unit.layer, unit.unit)
        return _Loaded(unit, self.units, exemplars.images, exemplars.masks)

    def _described(self, batch: Sequence["_Loaded"], settings: DecodingSettings) -> Iterator[UnitDescription]:
        active = [loaded for loaded in batch if loaded.images is not None]
        said: Iterator[Description] = iter(())
        if active:
            images, masks = (np.stack([getattr(loaded, name) for loaded in active]) for name in ("images", "masks"))
            said = iter(self.describer.describe(images, masks, settings))
        for loaded in batch:
            description = None if loaded.images is None else next(said)
            yield unit_description(loaded.unit.layer, loaded.unit.unit, description, loaded.source)


@dataclass(frozen=True)
class _Loaded:
    """A unit with its exemplars: uint8 images (k, 3, H, W) and masks (k, 1, H, W); None where it is never active."""

    unit: Unit
    source: UnitStore | UnitExemplars
    images: np.ndarray | None = None
    masks: np.ndarray | None = None


def read_package(directory: Path, device: torch.device) -> Milan:
    """The explainer whose package `directory` is; its digests have been checked."""
    settings, units = read_json(directory / CONFIG), NetworkUnits(directory / UNITS)
    if (directory / DESCRIBER / clip_dissect.RECORD).is_file():
        words = read_clip_dissect(directory / DESCRIBER, device)
        return Milan(exemplars=units, describer=words, device=device, **settings)
    clip = read_encoder(directory / CLIP, device) if (directory / CLIP).is_dir() else None
    describer = read_describer(directory / DESCRIBER, device, clip=clip)
    return Milan(exemplars=units, describer=describer, clip_encoder=clip or NONE, device=device, **settings)


def _is_folder(describer: str) -> bool:
    return ":" not in describer and Path(describer).is_dir()


def _describer_name(describer: Any) -> str:
    if isinstance(describer, str):
        return describer
    if isinstance(describer, ClipDissect):
        return CLIP_DISSECT
    if isinstance(describer, Describer):
        return describer.name
    raise InputError(
        f"describer must be a name, a folder, a Describer or a ClipDissect, got {type(describer).__name__}"
    )


def _exemplars_name(exemplars: Any) -> str:
    """What sentences call exemplars that are there already."""
    if isinstance(exemplars, str | Path):
        return str(exemplars)
    if isinstance(exemplars, UnitStore) or (isinstance(exemplars, Mapping) and exemplars):
        return "exemplars"
    raise InputError(f"exemplars must be a folder or LayerExemplars by layer, got {truncated_repr(exemplars)}")


def _encoder_name(encoder: Any, describer: Any) -> str | None:
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


def _encoder(options: MilanOptions, encoder: Any, describer: Any, device: torch.device) -> PackagedEncoder | None:
    """The dual encoder itself; None where there is none, or where CLIP-Dissect has its own."""
    if isinstance(describer, ClipDissect) or options.encoder_name is None:
        return None
    given = encoder if encoder is not None else getattr(describer, "clip", None)
    return load_encoder(options.encoder_name, device) if given is None or isinstance(given, str) else given


def _is_pair(name: Any) -> bool:
    """Whether a name is (layer, unit)."""
    if not isinstance(name, tuple) or len(name) != 2 or not isinstance(name[0], str | int):
        return False
    return isinstance(name[1], int | np.integer) and not isinstance(name[1], bool)


def _given(images: Any, masks: Any) -> list[Unit]:
    """The units whose exemplars a user hands in; see `Milan.explain`."""
    if masks is None:
        raise InputError("images are given without masks; a mask that is 1 everywhere takes the whole image")
    images, masks = exemplar_arrays(images, masks)
    if images.ndim == 4:
        images, masks = images[None], masks[None]
    if images.ndim != 5 or images.shape[2] != 3 or masks.shape != (*images.shape[:2], 1, *images.shape[3:]):
        raise InputError(
            f"images must be (k, 3, H, W) and masks (k, 1, H, W), or both of n units, got {images.shape} and "
            f"{masks.shape}"
        )
    inside = (masks != 0).astype(np.uint8)
    return [Unit(read=lambda row=row: (images[row], inside[row])) for row in range(len(images))]
