"""The network whose units are described: by name or as an object, its layers, and the exemplars of its units.

The layers of a network that are described where none are named.

| network | layers |
|---|---|
| ResNets of torchvision, timm and open_clip, the zoo's | the stem (act3 or conv1) where there is one, layer1, ... |
| transformers: timm, torchvision, open_clip | the first linear layer of every block's MLP, such as blocks.0.mlp.fc1 |
| AlexNet, VGG | every convolution of `features` |
| others with features, blocks, _blocks, stages or layers | of these the last one at each size of the map |
| others with stage2, stage3, ... | conv1 where there is one, and these |

The first three are what the paper describes: its ResNet152, DINO and AlexNet.
"""

import re
import shutil
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conceptry.models.encoders.processing import Preprocess
from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.explained.hooks import find_layer, format_names, module_of
from conceptry.models.explained.image_inputs import as_pixel_model, to_images
from conceptry.models.explained.load import load_explained
from conceptry.models.explained.protocol import PixelModel
from conceptry.models.explained.source import UNSAID, OwnPreparation
from conceptry.models.folders import new_temporary_folder
from conceptry.models.manifest import read_json
from conceptry.models.method import Progress
from conceptry.models.milan.exemplars.checkpoint import RECORD, module_digest, said_of
from conceptry.models.milan.exemplars.compute import compute_exemplars
from conceptry.models.milan.exemplars.records import LayerExemplars, read_results
from conceptry.models.milan.exemplars.sources import Source, source_of
from conceptry.models.milan.exemplars.unit_store import ComputedUnits
from conceptry.models.milan.settings import DATA, INPUT_SIZE, ExemplarSettings

_BLOCKS = re.compile(r"blocks\.\d+\.mlp\.fc1|encoder\.layers\.\w+\.mlp\.0|transformer\.resblocks\.\d+\.mlp\.c_fc")
_WRAPPERS = ("trunk", "backbone", "model", "module", "network")
_SEQUENCES = ("features", "blocks", "_blocks", "stages", "layers")


def default_layers(module: nn.Module, name: str = "the network") -> list[str]:
    """The names of the layers that are described by default; see the table. None of them is run.

    Raises InputError where the network has no stages of known names; `name` is what the sentence calls it.
    """
    children = dict(module.named_children())
    stages = [child for child in children if re.fullmatch(r"(layer|stage)\d+", child)]
    if len(stages) > 1:
        return [stem for stem in ("act3", "conv1") if stem in children][:1] + stages
    names = [path for path, part in module.named_modules() if path]
    if blocks := [path for path in names if _BLOCKS.fullmatch(path)]:
        return blocks
    if not type(module).__name__.startswith("Swin"):  # whose channels come last, which no default can know
        for sequence in _SEQUENCES:
            part = children.get(sequence)
            if isinstance(part, nn.Sequential | nn.ModuleList) and len(part) > 1:
                return [f"{sequence}.{child}" for child in _stage_ends(part)]
    for wrapper in _WRAPPERS:
        if wrapper in children:
            return [f"{wrapper}.{layer}" for layer in default_layers(children[wrapper], name)]
    raise InputError(f"{name}: has no stages of known names; name its layers, such as {format_names(names)}")


def _stage_ends(sequence: nn.Module) -> list[str]:
    children = list(sequence.named_children())
    convolutions = [name for name, part in children if isinstance(part, nn.Conv2d)]
    if len(convolutions) > 1:
        return convolutions
    ends = [before for (before, _), (_, part) in pairwise(children) if _halves(part)]
    return [*ends, children[-1][0]]


def _halves(part: nn.Module) -> bool:
    """Whether a convolution or pooling in `part` takes larger steps than one."""
    for module in part.modules():
        stride = getattr(module, "stride", 1)
        steps = stride if isinstance(stride, tuple | list) else (stride,)
        if any(isinstance(step, int) and step > 1 for step in steps):
            return True
    return False


class ImageTower:
    """The image half of a dual encoder, as a network over pixels."""

    modality, form, classes, columns = "image", "values", (), ()
    channels, resizes = 3, True

    def __init__(self, encoder: Any) -> None:
        self.name, self.device, self.module = encoder.name, encoder.device, encoder.model.visual
        self._preprocess: Preprocess = encoder.processing.preprocess  # that of open_clip's models
        self._mean, self._std = (
            torch.tensor(values, device=self.device)[:, None, None] for values in self._preprocess.normalisation
        )
        side = self.module.image_size
        self.size: tuple[int, int] | None = (side, side) if isinstance(side, int) else (side[0], side[1])

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.forward(self.encode(inputs)).double().cpu().numpy()

    def to_pixels(self, images: np.ndarray) -> Tensor:
        from PIL import Image

        if tuple(images.shape[1:3]) == self.size:
            return torch.tensor(images, device=self.device).permute(0, 3, 1, 2).float() / 255
        return torch.stack([self._preprocess.fit(Image.fromarray(image)) for image in images]).to(self.device)

    encode = to_pixels

    def from_pixels(self, x: Tensor) -> Tensor:
        return self.module((x - self._mean) / self._std)

    forward = from_pixels

    def to_images(self, x: Tensor) -> np.ndarray:
        return to_images(x)

    def feature_owner(self, inputs: np.ndarray) -> Tensor:
        return torch.full(self.encode(inputs).shape[1:], -1, device=self.device)


def load_network(
    name: str,
    device: str | torch.device = "auto",
    *,
    classes: Sequence[str] | None = None,
    input_size: int | Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    preprocessing: str | None = None,
) -> PixelModel:
    """The network over pictures called `name`: any that `load_explained` knows, or the image half of an encoder,
    `zoo:emoji-clip`, `open_clip:...` or `clip:...`.

    Args:
        name: of the network.
        device: auto, cpu, cuda or cuda:INDEX.
        classes: names of its outputs.
        input_size: (height, width) that it takes, or one number for both: pictures are resized and cropped to it.
        mean, std: of the channels of pixels in [0, 1], by which these are normalised.
        preprocessing: "imagenet" for that of the published weights of its architecture.

    Raises:
        InputError: for unknown names and for models of anything else, and where neither the file of a network nor the
            user says how pictures are prepared for it.
    """
    return prepared_network(name, device, OwnPreparation(classes, input_size, mean, std, preprocessing))


def prepared_network(name: str, device: str | torch.device, preparation: OwnPreparation) -> PixelModel:
    """See `load_network`."""
    return as_pixel_model(preparation.applied(_named_network(name, device), INPUT_SIZE))


def _named_network(name: str, device: str | torch.device) -> Any:
    """The network, whose preprocessing may be a guess."""
    from conceptry.models.shipped import shipped_names

    scheme, _, rest = name.partition(":")
    if scheme in ("open_clip", "clip") or (scheme == "zoo" and rest in shipped_names("encoder")):
        from conceptry.models.encoders.load import load_encoder

        encoder = load_encoder(name, device)
        # Its image half is a classifier, whose units are asked about.
        return getattr(encoder, "classifier", None) or ImageTower(encoder)
    return as_pixel_model(load_explained(name, device))


@dataclass(frozen=True)
class NetworkExemplars:
    """Exemplars of a network, and where they come from: hyperparameters and lineage of a version.

    model, data: names of the network and of the images. params: size, k and quantile, as far as they are known.
    preparation: what the user has said of the network.
    """

    store: ComputedUnits
    model: str
    data: str
    params: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, str] = field(default_factory=dict)
    preparation: OwnPreparation = UNSAID

    @property
    def layers(self) -> Mapping[str, LayerExemplars]:
        """The exemplars by layer."""
        return self.store.exemplars


def gather_exemplars(
    network: Any,
    exemplars: Path | Mapping[str, LayerExemplars] | None,
    settings: ExemplarSettings,
    *,
    layers: Sequence[str] = (),
    data: Any = None,
    size: int | None = None,
    name: str | None = None,
    device: str | torch.device = "auto",
    preparation: OwnPreparation = UNSAID,
    **how: Any,
) -> NetworkExemplars:
    """The exemplars that `Milan` is given, or those of the network that it is given; see there.

    preparation: of a network that is given by name. how: keywords of `compute_network`.
    """
    if preparation != UNSAID and not (isinstance(network, str) and exemplars is None):
        raise InputError(
            "classes, input_size, mean, std and preprocessing are of a network that is given by name; a module takes "
            "its pictures as they are, and exemplars were computed already: leave them out"
        )
    if exemplars is not None:
        named = data if data is None or isinstance(data, str) else source_of(data).name
        return read_network(exemplars, network, layers=layers, model=name, data=named)
    if data is None and not isinstance(network, str):
        raise InputError(
            f"{network_name(network)}: the exemplars of one's own network need data to choose from: a torch data set, "
            "uint8 images (n, H, W, 3), or a name such as zoo:emoji-scenes or folder:PATH"
        )
    model = prepared_network(network, device, preparation) if isinstance(network, str) else network
    return compute_network(model, name, source_of(DATA if data is None else data, size), layers, settings, **how)


def compute_network(
    network: Any,
    name: str | None,
    data: Source,
    layers: Sequence[str],
    settings: ExemplarSettings,
    *,
    directory: str | Path | None = None,
    units: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
) -> NetworkExemplars:
    """The exemplars of a network, a `PixelModel` or a torch module, on disk; see `compute_exemplars`.

    layers: by default those of `default_layers`. directory: by default a temporary folder, which goes when nothing
    refers to the exemplars any more.
    """
    name = network_name(network, name)
    layers = layers or default_layers(_module(network), name)
    folder = new_temporary_folder("exemplars") if directory is None else Path(directory)
    try:
        found = compute_exemplars(network, data, layers, folder, settings, units=units, name=name, progress=progress)
        store = ComputedUnits(found)
    except BaseException:
        if directory is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if directory is None:
        weakref.finalize(store, shutil.rmtree, folder, ignore_errors=True)
    params = {"size": len(data), "k": settings.k, "quantile": settings.quantile, "channels": settings.channels}
    lineage = lineage_of(network, name) | {"data_sha256": data.digest}
    return NetworkExemplars(store, name, data.name, params, lineage, said_of(network))


def read_network(
    exemplars: Path | Mapping[str, LayerExemplars],
    network: Any = None,
    *,
    layers: Sequence[str] = (),
    model: str | None = None,
    data: str | None = None,
) -> NetworkExemplars:
    """Exemplars that were computed before: a results folder, or what `compute_exemplars` returned.

    network: the one that they are of, for the lineage: a name, a `PixelModel` or a torch module; by default the one
    that the record of the folder names. layers: some of those that are there. model, data: names that go before those
    of the record and of the folders.

    Raises InputError where a layer is missing, and where the network is not that of the exemplars.
    """
    folder = exemplars if isinstance(exemplars, Path) else None
    place = str(folder) if folder else "exemplars"
    found = read_results(exemplars) if isinstance(exemplars, Path) else dict(exemplars)
    if missing := [name for name in layers if name not in found]:
        raise InputError(f"{place}: holds no layer {missing[0]!r}; expected one such as {format_names(list(found))}")
    chosen = {layer: found[layer] for layer in layers or found}
    record = read_json(folder / RECORD) if folder and (folder / RECORD).is_file() else {}
    lineage = _lineage(network, model, record, chosen, place)
    if "data_sha256" in record:
        lineage["data_sha256"] = record["data_sha256"]
    counts = sorted({of_layer.images.shape[1] for of_layer in chosen.values()})
    params = {name: record.get(name) for name in ("size", "k", "quantile", "channels")}
    params["k"] = counts[0] if len(counts) == 1 else ",".join(map(str, counts))
    folders = (folder.absolute().parent.name, folder.absolute().name) if folder else ("network", "images")
    name = lineage.get("explained_model") or model or record.get("model") or folders[0]
    of_data, said = data or record.get("data") or folders[1], OwnPreparation.of_record(record)
    return NetworkExemplars(ComputedUnits(chosen), name, of_data, params, lineage, said)


def lineage_of(network: Any, name: str | None = None) -> dict[str, str]:
    """The network's name and digest; that of its module, where it is a module or the half of an encoder."""
    if known := getattr(network, "lineage", None):
        return dict(known)
    return {"explained_model": network_name(network, name), "explained_sha256": module_digest(_module(network))}


def network_name(network: Any, name: str | None = None) -> str:
    """What a network goes by: the name that it is given here, its own, or that of its class."""
    own = None if isinstance(network, nn.Module) else getattr(network, "name", None)
    return name or own or type(network).__name__


def _lineage(
    network: Any, name: str | None, record: Mapping[str, Any], layers: Iterable[str], place: str
) -> dict[str, str]:
    """Lineage of the network that the user gives, else of the one that the record names; {} where neither does.

    Raises InputError where the given network is not that of the exemplars.
    """
    if network is not None:
        # Weights and lineage are asked for, which do not depend on how pictures are prepared.
        found = _named_network(network, "cpu") if isinstance(network, str) else network
        given = network if isinstance(network, str) else network_name(network, name)
        module = _module(found)
        for layer in layers:
            find_layer(module, layer, given)
        if record and record["model_sha256"] != module_digest(module):
            raise InputError(f"{place}: holds exemplars of {record['model']}, whose weights are not those of {given}")
        return lineage_of(found, name)
    if not record:
        return {}
    known = {"explained_model": record["model"], "explained_sha256": record["model_sha256"]}
    try:
        model = _named_network(record["model"], "cpu")
    except ConceptryError:
        return known  # a module of the user's own, which no name leads to
    return lineage_of(model) if module_digest(model.module) == record["model_sha256"] else known


def _module(network: Any) -> nn.Module:
    module = module_of(network)
    if module is None:
        raise InputError(f"expected the name of a network or a torch module, got {type(network).__name__}")
    return module
