"""Image classifiers of torchvision and timm with their published weights, and the preprocessing that belongs to them.

Weights are downloaded by the two libraries because the user named them, and read as tensors alone, never as pickles.
Resizing, cropping and normalisation are part of the model: pictures of any size go in, and a learned baseline is a
picture of that size.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.explained.columns import reason_of
from conceptry.models.explained.description import Description
from conceptry.models.explained.pictures import TorchImages
from conceptry.models.explained.preprocessing import Preprocessing, of_timm, of_torchvision

_WEIGHTS = "model.safetensors"
# Their weights come with a normalisation of their own, and with auxiliary heads, which are silent at evaluation.
_INCEPTION = {"transform_input": True, "aux_logits": True, "init_weights": False}
_EXTRA = {"googlenet": _INCEPTION, "inception_v3": _INCEPTION}


@dataclass(frozen=True)
class Network:
    """A network by the library and the names that rebuild it. own: what the reader needs besides the weights."""

    module: nn.Module
    own: dict[str, Any]
    kind: str
    requirements: tuple[str, ...]

    def write(self, directory: Path) -> dict[str, Any]:
        (directory / _WEIGHTS).write_bytes(_state_bytes(self.module))
        return self.own


def load_torchvision(rest: str, device: torch.device, outputs: str) -> TorchImages:
    """`NAME[@WEIGHTS]`, the default weights where none are named; see `load_explained`."""
    import torchvision.models
    from torchvision.models import list_models

    architecture, _, tag = rest.partition("@")
    if architecture not in list_models(module=torchvision.models):
        raise InputError(_unknown("torchvision has no image classifier", architecture, list_models(torchvision.models)))
    published = torchvision.models.get_model_weights(architecture)
    if tag and tag not in published.__members__:
        raise InputError(_unknown(f"torchvision's {architecture} has no weights", tag, list(published.__members__)))
    weights = published[tag] if tag else published["DEFAULT"]
    name = f"torchvision:{architecture}@{weights.name}"
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except OSError as error:
        raise InputError(
            f"{name}: its weights are not in the cache and cannot be downloaded from {weights.url} "
            f"({getattr(error, 'reason', error)})"
        ) from None
    own = {"architecture": architecture, "weights": weights.name}
    module = _torchvision_module(architecture, state)
    source = Network(module, own, "torchvision", ("safetensors", "torch", "torchvision"))
    return _described(name, source, of_torchvision(weights.transforms()), weights.meta["categories"], device, outputs)


def load_timm(architecture: str, device: torch.device, outputs: str) -> TorchImages:
    """An image classifier of timm with its pretrained weights; see `load_explained`."""
    try:
        import timm
        from timm.data.config import resolve_model_data_config
    except ModuleNotFoundError:
        raise InputError(f"timm:{architecture} needs the package timm, which is not installed here") from None
    if not timm.is_model(architecture):
        raise InputError(_unknown("timm has no model", architecture, timm.list_models()))
    try:
        with torch.random.fork_rng(devices=[]):
            module = timm.create_model(architecture, pretrained=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"timm:{architecture}: its weights cannot be loaded or downloaded ({reason_of(error)})"
        ) from None
    config = resolve_model_data_config(module)
    keys = ("input_size", "mean", "std", "crop_pct", "interpolation")
    own = {
        "architecture": architecture,
        "num_classes": module.num_classes,
        "data": {key: config[key] for key in keys},
    }
    source = Network(module, own, "timm", ("safetensors", "timm", "torch", "torchvision"))
    return _described(f"timm:{architecture}", source, of_timm(own["data"]), (), device, outputs)


def read_vision(directory: Path, description: Description, own: dict[str, Any], device: torch.device) -> TorchImages:
    """The network in a folder that `save` wrote; nothing is downloaded."""
    from safetensors.torch import load_file

    state = load_file(directory / _WEIGHTS)
    if own["kind"] == "torchvision":
        from torchvision.models import get_model_weights

        module = _torchvision_module(own["architecture"], state)
        preparation = of_torchvision(get_model_weights(own["architecture"])[own["weights"]].transforms())
        kept = {key: own[key] for key in ("architecture", "weights")}
        requirements = ("safetensors", "torch", "torchvision")
    else:
        import timm

        with torch.random.fork_rng(devices=[]):
            module = timm.create_model(own["architecture"], pretrained=False, num_classes=own["num_classes"])
        module.load_state_dict(state)
        preparation = of_timm(own["data"])
        kept = {key: own[key] for key in ("architecture", "num_classes", "data")}
        requirements = ("safetensors", "timm", "torch", "torchvision")
    source = Network(module, kept, own["kind"], requirements)
    return _model(description, source, preparation, device)


def _torchvision_module(architecture: str, state: dict[str, Tensor]) -> nn.Module:
    from torchvision.models import get_model

    with torch.random.fork_rng(devices=[]):
        module = get_model(architecture, weights=None, **_EXTRA.get(architecture, {}))
    module.load_state_dict(state)
    return module


def _described(
    name: str, source: Network, preparation: Preprocessing, categories: Any, device: torch.device, outputs: str
) -> TorchImages:
    lineage = {"explained_model": name, "explained_sha256": hashlib.sha256(_state_bytes(source.module)).hexdigest()}
    description = Description(name, "image", lineage=tuple(sorted(lineage.items())))
    model = _model(description, source, preparation, device)
    tried = model(np.full((1, 224, 224, 3), 128, np.uint8))
    # Classifiers of both libraries put out logits.
    form = "logits" if outputs == "auto" else outputs
    return _model(description.with_outputs(form, tried, categories), source, preparation, device)


def _model(description: Description, source: Network, preparation: Preprocessing, device: torch.device) -> TorchImages:
    module = source.module.to(device).eval().requires_grad_(False)
    return TorchImages(description, source, module, device, preparation)


def _state_bytes(module: nn.Module) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()})


def _unknown(what: str, name: str, names: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or sorted(names)[:5]
    return f"{what} {name!r}; did you mean {', '.join(near)}?"
