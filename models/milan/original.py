"""Names of the published implementation, evandez/neuron-descriptions, so that its examples run with an import changed.

| there | here, in this module |
|---|---|
| `from src import milan, milannotations` | `milan`, `milannotations` |
| `src.exemplars.models.ModelConfig`, `src.utils.hubs.DatasetConfig` | `ModelConfig`, `DatasetConfig` |
| `python3 -m scripts.compute_exemplars MODEL DATASET` | `compute_exemplars("MODEL/DATASET", ...)` |
| `python3 -m scripts.compute_milan_descriptions MODEL DATASET` | `compute_milan_descriptions("MODEL/DATASET")` |

| variable | default | holds |
|---|---|---|
| MILAN_DATA_DIR | data | MILANNOTATIONS as ARCH/DATASET, data sets as DATASET, images of ImageNet in imagenet/val |
| MILAN_MODELS_DIR | models | converted describers as KEY or milan-KEY, weights of networks as MODEL-DATASET.pth |
| MILAN_RESULTS_DIR | results | what is computed: exemplars/MODEL/DATASET, descriptions/MODEL_DATASET.csv |

Nothing is downloaded: a sentence says what is missing, where it comes from and where it goes.
"""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conceptry.models.devices import resolve_device
from conceptry.models.encoders.load import load_encoder
from conceptry.models.encoders.protocol import PackagedEncoder
from conceptry.models.errors import InputError
from conceptry.models.method import Progress
from conceptry.models.milan.annotations.annotations import GROUPS, KEYS, AnnotatedUnits, load_annotations
from conceptry.models.milan.describer.describer import CONFIG, Describer, load_describer, read_describer
from conceptry.models.milan.exemplars.compute import compute_exemplars as compute_layers
from conceptry.models.milan.exemplars.records import UnitExemplars, read_results
from conceptry.models.milan.exemplars.sources import TorchSource
from conceptry.models.milan.exemplars.unit_store import ComputedUnits
from conceptry.models.milan.model import Milan, Unit
from conceptry.models.milan.network import default_layers
from conceptry.models.milan.settings import EMOJI_CLIP, EMOJI_MILAN, DecodingSettings, ExemplarSettings

_PAGE = "the project page of MILAN (milan.csail.mit.edu)"
_CLIP = "+clip"
_CLIP_BEAM = 1000  # candidates that the published `+clip` ranks


def data_dir() -> Path:
    """MILAN_DATA_DIR, by default ./data."""
    return Path(os.environ.get("MILAN_DATA_DIR") or "data")


def models_dir() -> Path:
    """MILAN_MODELS_DIR, by default ./models."""
    return Path(os.environ.get("MILAN_MODELS_DIR") or "models")


def results_dir() -> Path:
    """MILAN_RESULTS_DIR, by default ./results."""
    return Path(os.environ.get("MILAN_RESULTS_DIR") or "results")


class TopImagesDataset(Sequence[UnitExemplars]):
    """Exemplars of a results folder, one item a unit; each has layer, unit, images (k, 3, H, W) and masks (k, 1, H, W).

    Args:
        root: a folder with a folder for each layer, as `compute_exemplars` writes it.
        name: by default the last two parts of `root`.
    """

    def __init__(self, root: str | Path, name: str | None = None) -> None:
        self.root = Path(root)
        self.name = name or "/".join(self.root.absolute().parts[-2:])
        self._store = ComputedUnits(read_results(self.root))
        self.layers = self._store.layers
        self._places = [(layer, unit) for layer in self.layers for unit in self._store.numbers(layer)]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._store.unit(*self._places[index])

    def lookup(self, layer: str | int, unit: int) -> UnitExemplars:
        """The exemplars of a unit by its number. Raises InputError for unknown layers and units, with near ones."""
        return self._store.unit(str(layer), unit)

    def unit(self, index: int) -> tuple[str, int]:
        """Layer and unit of the item `index`."""
        return self._places[index]

    @property
    def k(self) -> int:
        """Exemplars of a unit, the "k" of "top-k"."""
        return len(self[0].images)


def load(
    name: str = "base", path: str | Path | None = None, *, source: str | Path = "imagenet/val", annotations: bool = True
) -> AnnotatedUnits | TopImagesDataset:
    """Load MILANNOTATIONS of a network or group, or exemplars that were computed.

    Args:
        name: a network, such as `alexnet/imagenet`, a group, such as `base`, or MODEL/DATASET as it was given to
            `compute_exemplars`.
        path: the folder of that network, or of all where `name` is a group; by default below MILAN_DATA_DIR, and for
            computed exemplars below MILAN_RESULTS_DIR/exemplars.
        source: ImageNet's validation images, a folder a class, below MILAN_DATA_DIR.
        annotations: whether the annotations are loaded where there are some.

    Returns:
        Units whose `lookup(layer, unit)` gives a sample with `images`, `masks` and, where people described it,
        `annotations`.

    Raises:
        InputError: for a name that stands for nothing, and saying what is missing and where it goes.
    """
    if name in GROUPS:
        return _annotated(Path(path or data_dir()), name, source)
    folders = [Path(path)] if path else [data_dir() / name, results_dir() / "exemplars" / name]
    there = [folder for folder in folders if folder.is_dir()]
    if name in KEYS and annotations and (not there or (there[0] / "annotations.csv").is_file()):
        folder = there[0] if there else folders[0]
        if folder.parts[-2:] != tuple(name.split("/")):
            raise InputError(f"{folder}: expected a folder that ends in {name}, or a name that goes by its folder")
        return _annotated(folder.parents[1], name, source)
    if not there:
        raise InputError(
            f"there are no exemplars of {name!r}: expected {' or '.join(map(str, folders))}; compute them with "
            f"compute_exemplars, or load a key of MILANNOTATIONS: {', '.join([*KEYS, *list(GROUPS)[:8]])}, not-..."
        )
    return TopImagesDataset(there[0], name)


def _annotated(root: Path, name: str, source: str | Path) -> AnnotatedUnits:
    images = data_dir() / source
    return load_annotations(root, name, images if images.is_dir() else None)


def pretrained(
    config: str = "base",
    path: str | Path | None = None,
    *,
    clip_encoder: str | PackagedEncoder | None = None,
    device: str | torch.device = "auto",
) -> Describer:
    """Load a describer: a released one, converted before, or one by any name that `load_describer` knows.

    Args:
        config: the key of a released describer, such as `base`, or `zoo:emoji-milan`; with `+clip` its candidates are
            ranked by a dual encoder.
        path: the converted folder; by default MILAN_MODELS_DIR/KEY or MILAN_MODELS_DIR/milan-KEY.
        clip_encoder: what `+clip` ranks by, by name or loaded; the published implementation took `clip:ViT-B/32`.
        device: auto, cpu, cuda or cuda:INDEX.

    Returns:
        A describer; called with images and masks of n units, it returns their `captions` and `scores`.

    Raises:
        InputError: for unknown keys, and where there is no converted folder; the sentence says how to make one.

    Example:
        >>> import numpy as np
        >>> decoder = pretrained("zoo:emoji-milan")
        >>> images, masks = np.zeros((2, 5, 3, 64, 64)), np.ones((2, 5, 1, 64, 64))
        >>> len(decoder(images, masks, strategy="greedy").captions)
        2
    """
    key = config.removesuffix(_CLIP)
    clip = _ranker(key, clip_encoder, device) if config.endswith(_CLIP) else None
    if ":" in key and path is None:
        describer = load_describer(key, device, clip=clip)
    else:
        folder = _converted(key, path)
        describer = read_describer(folder, device, name=f"describer:{folder}", clip=clip)
    if clip is not None:
        describer.settings = DecodingSettings(clip=True, beam_size=_CLIP_BEAM)
    return describer


def _ranker(key: str, encoder: str | PackagedEncoder | None, device: str | torch.device) -> PackagedEncoder:
    encoder = encoder or (EMOJI_CLIP if key == EMOJI_MILAN else None)
    if encoder is None:
        raise InputError(
            f"{key}{_CLIP} ranks by a dual encoder: name it as clip_encoder, such as clip:ViT-B/32 of the published "
            "implementation or open_clip:ViT-B-32@FILE"
        )
    return load_encoder(encoder, device) if isinstance(encoder, str) else encoder


def _converted(key: str, path: str | Path | None) -> Path:
    """The folder of a converted describer; InputError says how to convert one."""
    if path is None and key not in GROUPS:
        raise InputError(f"there is no released describer {key!r}; expected one of {', '.join(GROUPS)}")
    folders = [Path(path)] if path else [models_dir() / key, models_dir() / f"milan-{key}"]
    for folder in folders:
        if (folder / CONFIG).is_file():
            return folder
    files = [folder.with_suffix(".pth") for folder in folders if folder.suffix != ".pth"]
    file = next((file for file in files if file.is_file()), None)
    what = f"{file} is there, unconverted" if file else f"get milan-{key}.pth from {_PAGE}"
    raise InputError(
        f"{folders[0]}: there is no converted describer; {what}; convert it once: conceptry convert milan "
        f"{file or f'milan-{key}.pth'} --output {folders[0]}"
    )


@dataclass(frozen=True)
class ModelExemplarsConfig:
    """How exemplars of a network are computed; None takes the published default.

    Attributes:
        k: exemplars of each unit (15).
        quantile: share of a unit's activations that its masks leave out (.99).
        output_size: side of the delivered images in pixels (224).
        batch_size: images in one forward pass; it changes nothing but speed and memory.
        transform_inputs: the parts of a batch to the arguments of the network, see `compute_exemplars`.
        transform_hiddens: what a layer puts out to (n, units, h, w).
        transform_outputs: what the network puts out to images, for generators.
    """

    k: int | None = None
    quantile: float | None = None
    output_size: int | None = None
    batch_size: int | None = None
    transform_inputs: Callable[..., Any] | None = None
    transform_hiddens: Callable[[Any], Tensor] | None = None
    transform_outputs: Callable[[Any], Tensor] | None = None

    @property
    def settings(self) -> ExemplarSettings:
        """The settings of `compute_exemplars`."""
        given = {"k": self.k, "quantile": self.quantile, "batch_size": self.batch_size}
        named = {name: value for name, value in given.items() if value is not None}
        return ExemplarSettings(image_size=self.output_size or 224, **named)


DiscriminativeModelExemplarsConfig = GenerativeModelExemplarsConfig = ModelExemplarsConfig


class ModelConfig:
    """A network of one's own: how it is built, its weights and its layers.

    Args:
        factory: returns a torch module from keyword arguments.
        url: where weights come from; nothing is downloaded, the sentence for a missing file names it.
        requires_path: whether the factory takes the path of the weights as its first argument.
        load_weights: whether the weights of a file are put into the module; False where the factory did so.
        transform_weights: from what the file holds to a state by name, such as `lambda w: w["state_dict"]`.
        layers: dotted names of the layers; by default the network's stages.
        exemplars: how exemplars are computed.
        **defaults: keyword arguments of the factory.

    Example:
        >>> config = ModelConfig(nn.Conv2d, load_weights=False, in_channels=3, out_channels=8, kernel_size=1)
        >>> config.load()
        Conv2d(3, 8, kernel_size=(1, 1), stride=(1, 1))
    """

    def __init__(
        self,
        factory: Callable[..., nn.Module],
        url: str | None = None,
        requires_path: bool = False,
        load_weights: bool = True,
        transform_weights: Callable[[Any], Mapping[str, Tensor]] | None = None,
        *,
        layers: Sequence[str | int] | None = None,
        exemplars: ModelExemplarsConfig | None = None,
        **defaults: Any,
    ) -> None:
        self.factory, self.url, self.requires_path, self.load_weights = factory, url, requires_path, load_weights
        self.transform_weights, self.defaults = transform_weights, defaults
        self.layers = None if layers is None else tuple(map(str, layers))
        self.exemplars = exemplars or ModelExemplarsConfig()

    def load(
        self, path: str | Path | None = None, map_location: str | torch.device | None = None, **kwargs: Any
    ) -> nn.Module:
        """Build the network, in evaluation mode.

        Args:
            path: the weights, as `torch.save` writes a state; tensors alone are read, never code. None leaves the
                network as the factory returns it.
            map_location: the device that the weights are read to.
            **kwargs: keyword arguments of the factory that go before the defaults.

        Raises:
            InputError: where weights are needed and there is no such file, or other objects than tensors in it.
        """
        missing = self.requires_path if path is None else not Path(path).is_file()
        if (self.requires_path or self.load_weights) and missing:
            origin = f"get {self.url}" if self.url else "save the weights there, or set load_weights=False"
            raise InputError(f"{path}: there is no such file of weights, and nothing is downloaded; {origin}")
        arguments = self.defaults | kwargs
        module = self.factory(Path(str(path)), **arguments) if self.requires_path else self.factory(**arguments)
        if self.load_weights and path is not None:
            try:
                state = torch.load(path, map_location=map_location, weights_only=True)
                module.load_state_dict(self.transform_weights(state) if self.transform_weights else state)
            except Exception as error:  # a damaged or foreign file can fail anywhere in torch
                reason = str(error).strip().splitlines()[0][:200]
                raise InputError(f"{path}: does not hold the weights of the network: {reason}") from None
        return module.eval()


class DatasetConfig:
    """A data set of one's own: how it is built from its folder.

    Args:
        factory: returns a torch data set from a path and keyword arguments.
        url: where the data come from; nothing is downloaded, the sentence for a missing folder names it.
        requires_path: whether the factory takes the path as its first argument.
        **defaults: keyword arguments of the factory, such as `transform`.
    """

    def __init__(
        self, factory: Callable[..., Any], url: str | None = None, requires_path: bool = True, **defaults: Any
    ) -> None:
        self.factory, self.url, self.requires_path, self.defaults = factory, url, requires_path, defaults

    def load(self, path: str | Path | None = None, **kwargs: Any) -> Any:
        """Build the data set. Raises InputError where its folder is needed and not there."""
        if not self.requires_path:
            return self.factory(**(self.defaults | kwargs))
        if path is None or not Path(path).exists():
            origin = f"; get {self.url}" if self.url else ""
            raise InputError(f"{path}: there is no such data set, and nothing is downloaded{origin}")
        return self.factory(Path(path), **(self.defaults | kwargs))


def compute_exemplars(
    name: str,
    model: ModelConfig,
    dataset: DatasetConfig,
    *,
    layers: Sequence[str | int] | None = None,
    units: int | None = None,
    model_file: str | Path | None = None,
    dataset_path: str | Path | None = None,
    results_root: str | Path | None = None,
    device: str | torch.device = "auto",
    progress: Progress | None = None,
) -> Path:
    """Compute the exemplars of a network: the images that drive its units most, and where in them.

    Args:
        name: MODEL/DATASET, such as `resnet18/imagenet`, by which they are loaded again.
        model: the network.
        dataset: the data set that exemplars are chosen from. The normalisation is found in its `transform`; without
            one, its images must lie in [0, 1].
        layers: instead of those of `model`, names of layers, or their places among those of `model`.
        units: the first ones of each layer alone.
        model_file: weights; by default MILAN_MODELS_DIR/MODEL-DATASET.pth or MILAN_MODELS_DIR/MODEL/DATASET.pth.
        dataset_path: by default MILAN_DATA_DIR/DATASET.
        results_root: by default MILAN_RESULTS_DIR/exemplars.
        device: auto, cpu, cuda or cuda:INDEX.
        progress: told what is being done and the share that is.

    Returns:
        The folder `results_root`/MODEL/DATASET, which `load(name)` and `Milan(exemplars=...)` read. A run that was
        stopped goes on where it was.
    """
    _, slash, of_dataset = name.partition("/")
    if not slash or not of_dataset:
        raise InputError(f"expected MODEL/DATASET, such as resnet18/imagenet, got {name!r}")
    place = resolve_device(str(device))
    flat = models_dir() / f"{name.replace('/', '-')}.pth"
    file = Path(model_file) if model_file else flat if flat.is_file() else models_dir() / f"{name}.pth"
    needs_file = model.load_weights or model.requires_path or model_file is not None
    module = model.load(file if needs_file else None, map_location=place).to(place)
    data = dataset.load(dataset_path or (data_dir() / of_dataset if dataset.requires_path else None))
    mean, std = _normalisation(data)
    known = list(model.layers or default_layers(module, name))
    named = [known[layer] if isinstance(layer, int) else layer for layer in layers or known]
    how = model.exemplars
    folder = Path(results_root or results_dir() / "exemplars") / name
    compute_layers(
        module,
        TorchSource(data, of_dataset, mean, std),
        named,
        folder,
        how.settings,
        units={layer: range(units) for layer in named} if units else None,
        transform_inputs=how.transform_inputs,
        transform_hiddens=how.transform_hiddens,
        transform_outputs=how.transform_outputs,
        name=name,
        progress=progress,
    )
    return folder


def _normalisation(dataset: Any) -> tuple[Sequence[float] | None, Sequence[float] | None]:
    """Mean and standard deviation of the last normalisation among a data set's transforms; None without one."""
    transform = getattr(dataset, "transform", None)
    steps = getattr(transform, "transforms", [transform])
    for step in reversed(steps):
        if type(step).__name__ == "Normalize":
            return tuple(map(float, step.mean)), tuple(map(float, step.std))
    return None, None


def compute_milan_descriptions(
    name: str,
    milan: str | Describer = "base",
    *,
    path: str | Path | None = None,
    results_root: str | Path | None = None,
    device: str | torch.device = "auto",
    **settings: Any,
) -> Path:
    """Describe all units of a network whose exemplars are there.

    Args:
        name: MODEL/DATASET, as `load` takes it.
        milan: the key of a describer, as `pretrained` takes it, or a describer.
        path: the folder of the exemplars, see `load`.
        results_root: by default MILAN_RESULTS_DIR/descriptions.
        device: auto, cpu, cuda or cuda:INDEX.
        **settings: fields of `DecodingSettings`, such as temperature and beam_size.

    Returns:
        The file `results_root`/MODEL_DATASET.csv with the columns layer, unit and description.
    """
    dataset = load(name, path, annotations=False)
    describer = pretrained(milan, device=device) if isinstance(milan, str) else milan
    explainer = Milan(describer=describer, device=device)
    chosen = explainer.override(asdict(describer.settings) | settings)
    samples = [Unit(*dataset.unit(row), partial(_exemplars, dataset, row)) for row in range(len(dataset))]
    file = Path(results_root or results_dir() / "descriptions") / f"{name.replace('/', '_')}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("layer", "unit", "description"))
        for said in explainer.describe(samples, chosen):
            writer.writerow((said.layer, said.unit, said.text))
    return file


def _exemplars(dataset: AnnotatedUnits | TopImagesDataset, row: int) -> tuple[np.ndarray, np.ndarray]:
    exemplars = dataset[row]
    return exemplars.images, exemplars.masks


milannotations = SimpleNamespace(load=load, KEYS=KEYS, DATASET_GROUPINGS=GROUPS)
milan = SimpleNamespace(pretrained=pretrained)
