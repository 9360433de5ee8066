"""Networks and data sets of one's own, and their exemplars, by the published names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from conceptry.models.devices import resolve_device
from conceptry.models.errors import InputError
from conceptry.models.method import Progress
from conceptry.models.milan.exemplars.compute import compute_exemplars as compute_layers
from conceptry.models.milan.exemplars.sources import TorchSource
from conceptry.models.milan.network import default_layers
from conceptry.models.milan.original.folders import data_dir, models_dir, results_dir
from conceptry.models.milan.settings import ExemplarSettings


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
