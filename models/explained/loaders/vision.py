"""Image classifiers of torchvision, timm and efficientnet-lite-pytorch as packages: weights, and names that rebuild.

| file | content |
|---|---|
| explained.json | the library, the architecture, its options, the number of outputs, the preprocessing |
| model.safetensors | the weights |

Resizing, cropping and normalisation are part of the model: pictures of any size go in, and a learned baseline is a
picture of that size.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from conceptry.models.errors import InputError, closest
from conceptry.models.explained.base import Description
from conceptry.models.explained.checkpoints import Undrawn, fill
from conceptry.models.explained.image_inputs import Preparation, TorchImages, example_images
from conceptry.models.explained.preprocessing import Preprocessing, preparation_from_json

_WEIGHTS = "model.safetensors"
_OWN = ("architecture", "num_classes", "options")
KINDS = {
    "torchvision": ("safetensors", "torch", "torchvision"),
    "timm": ("safetensors", "timm", "torch", "torchvision"),
    "efficientnet_lite": ("efficientnet-lite-pytorch", "safetensors", "torch", "torchvision"),
}


@dataclass(frozen=True)
class Network:
    """A network by its library, one of KINDS, and by what that library rebuilds it from."""

    module: nn.Module
    kind: str
    architecture: str
    num_classes: int
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def requirements(self) -> tuple[str, ...]:
        return KINDS[self.kind]

    def write(self, directory: Path) -> dict[str, Any]:
        (directory / _WEIGHTS).write_bytes(_state_bytes(self.module))
        return {key: getattr(self, key) for key in _OWN}


def build(kind: str, architecture: str, num_classes: int, options: dict[str, Any]) -> nn.Module:
    """The architecture with weights that mean nothing yet; torch's generators are left as they are."""
    with torch.random.fork_rng(devices=[]):
        if kind == "torchvision":
            from torchvision.models import get_model

            return get_model(architecture, weights=None, num_classes=num_classes, **options)
        if kind == "timm":
            import timm

            return timm.create_model(architecture, pretrained=False, num_classes=num_classes, **options)
        from efficientnet_lite_pytorch import EfficientNet

        return EfficientNet.from_name(architecture, num_classes=num_classes)


def described(
    name: str,
    network: Network,
    preprocessing: Preprocessing,
    device: torch.device,
    outputs: str,
    *,
    names: Sequence[str] = (),
    sha256: str = "",
    notes: tuple[str, ...] = (),
) -> TorchImages:
    """The network as an explained model called `name`.

    names: of the classes where they are known; 1,000 of unknown names are those of ImageNet. sha256: of the file that
    the weights came from (default: of the weights).
    """
    digest = sha256 or hashlib.sha256(_state_bytes(network.module)).hexdigest()
    lineage = {"explained_model": name, "explained_sha256": digest}
    description = Description(name, "image", notes=notes, lineage=tuple(sorted(lineage.items())))
    model = _model(description, network, preprocessing, device)
    tried = model(example_images(*preprocessing.size))
    # Classifiers of these libraries put out logits.
    form = "logits" if outputs == "auto" else outputs
    known = names or (imagenet_names() if tried.shape[1] == 1000 else ())
    return _model(description.with_outputs(form, tried, known), network, preprocessing, device)


def read_vision(directory: Path, description: Description, own: dict[str, Any], device: torch.device) -> TorchImages:
    """The network in a folder that `save` wrote; nothing is downloaded."""
    from safetensors.torch import load_file

    kind, given = own["kind"], {key: own[key] for key in _OWN}
    try:
        with Undrawn():
            module = build(kind, **given)
    except ModuleNotFoundError as error:
        raise InputError(f"{description.name} needs the package {error.name}, which is not installed here") from None
    fill(module, load_file(directory / _WEIGHTS), description.name)
    network = Network(module, kind, **given)
    return _model(description, network, preparation_from_json(own["preprocessing"]), device)


def imagenet_names() -> tuple[str, ...]:
    """The 1,000 classes of ImageNet in their usual order, from torchvision's metadata."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def unknown(what: str, name: str, names: list[str]) -> InputError:
    """The sentence that names what is near."""
    near = closest(name, names) or sorted(names)[:5]
    return InputError(f"{what} {name!r}; did you mean {', '.join(near)}?")


def _model(description: Description, network: Network, preparation: Preparation, device: torch.device) -> TorchImages:
    module = network.module.to(device).eval().requires_grad_(False)
    return TorchImages(description, network, module, device, preparation)


def _state_bytes(module: nn.Module) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()})
