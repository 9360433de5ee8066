"""Feature encoders by name, and from the folder that one was saved to.

| name | levels | F |
|---|---|---|
| `zoo:emoji-clip` | stem, layer1-4 of the encoder's visual trunk | 976 |
| `torchvision:resnet18@FILE` (34, 50, 101, 152) | conv1, layer1-4 | 1,024 (3,904 from 50 on) |
| `torchvision:alexnet@FILE` | features.0, 3, 6, 8, 10 | 1,152 |
| any of these and `+surroundings` | each pooled over the mask, then over what it leaves out | twice as many |
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from conceptry.models.artifacts import read_json, read_tensors
from conceptry.models.device import resolve_device
from conceptry.models.errors import InputError, shown
from conceptry.models.milan.features import CONFIG, WEIGHTS, FeatureEncoder

SCHEMES = ("zoo:emoji-clip", "torchvision:resnet18@FILE", "torchvision:resnet101@FILE", "torchvision:alexnet@FILE")
SURROUNDINGS = "+surroundings"
_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
_IMAGENET = {"size": 224, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def load_feature_encoder(name: str, device: str | torch.device = "auto") -> FeatureEncoder:
    """The encoder called `name` (see the table above). Raises InputError for another name and an unfit file."""
    device = resolve_device(str(device))
    if name.endswith(SURROUNDINGS):
        inner = load_feature_encoder(name.removesuffix(SURROUNDINGS), device)
        return FeatureEncoder(inner.config | {"name": name, "surroundings": True}, inner.trunk, device)
    scheme, _, rest = name.partition(":")
    if name == "zoo:emoji-clip":
        return _emoji_clip(name, device)
    architecture, at, file = rest.partition("@")
    if scheme == "torchvision" and at and architecture in (*_RESNETS, "alexnet"):
        return _torchvision(name, architecture, Path(file), device)
    raise InputError(f"unknown feature encoder {shown(name)}; expected one such as {', '.join(SCHEMES)}")


def read_feature_encoder(directory: Path, device: str | torch.device = "auto") -> FeatureEncoder:
    """The encoder in a folder that `save` wrote: encoder.json and encoder.safetensors."""
    from conceptry.models.explained.checkpoint import fill

    for file in (CONFIG, WEIGHTS):
        if not (directory / file).is_file():
            raise InputError(f"{directory}: holds no {file}; expected a folder with a feature encoder")
    try:
        config = read_json(directory / CONFIG)
        trunk = build_trunk(config)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{directory / CONFIG}: does not describe a feature encoder ({error})") from None
    fill(trunk, read_tensors(directory / WEIGHTS), f"{directory / WEIGHTS}")
    return FeatureEncoder(config, trunk, resolve_device(str(device)))


def _emoji_clip(name: str, device: torch.device) -> FeatureEncoder:
    from safetensors.torch import load_file

    from conceptry.models.encoders.clip import WEIGHTS as CLIP_WEIGHTS
    from conceptry.models.explained.checkpoint import fill
    from conceptry.models.zoo.shipped import weights_directory

    folder = weights_directory("emoji-clip")
    description = read_json(folder / "open_clip_config.json")
    vision, preprocessing = description["model_cfg"]["vision_cfg"], description["preprocess_cfg"]
    config = {
        "name": name,
        "kind": "open_clip_resnet",
        "architecture": {"layers": vision["layers"], "width": vision["width"]},
        "levels": ["act3", "layer1", "layer2", "layer3", "layer4"],
        "size": vision["image_size"],
        "mean": preprocessing["mean"],
        "std": preprocessing["std"],
    }
    trunk = build_trunk(config)
    state = load_file(folder / CLIP_WEIGHTS)
    wanted = {f"visual.{key}": key for key in trunk.state_dict()}
    fill(trunk, {wanted[key]: value.float() for key, value in state.items() if key in wanted}, name)
    return FeatureEncoder(config, trunk, device)


def _torchvision(name: str, architecture: str, file: Path, device: torch.device) -> FeatureEncoder:
    from conceptry.models.explained.checkpoint import fill, read_checkpoint

    levels = ["conv1", "layer1", "layer2", "layer3", "layer4"]
    if architecture == "alexnet":
        levels = [f"features.{i}" for i in (0, 3, 6, 8, 10)]
    config = {"name": name, "kind": "torchvision", "architecture": architecture, "levels": levels, **_IMAGENET}
    trunk = build_trunk(config)
    names = {key.replace("features_", "features."): key for key in trunk.state_dict()}
    state = read_checkpoint(file, names).state
    fill(trunk, {names[key]: value.float() for key, value in state.items() if key in names}, name)
    return FeatureEncoder(config, trunk, device)


def build_trunk(config: Mapping[str, Any]) -> nn.Sequential:
    """The modules up to the last level, in their order, with weights that mean nothing yet."""
    with torch.random.fork_rng(devices=[]):
        if config["kind"] == "open_clip_resnet":
            from open_clip.modified_resnet import ModifiedResNet

            module: nn.Module = ModifiedResNet(
                output_dim=1, heads=1, image_size=config["size"], **config["architecture"]
            )
        else:
            from torchvision.models import get_model

            module = get_model(config["architecture"], weights=None)
    children = OrderedDict(module.named_children())
    if config["architecture"] == "alexnet":
        children = OrderedDict((f"features_{key}", part) for key, part in module.features.named_children())  # type: ignore[union-attr,operator]
    last = list(children).index(config["levels"][-1].replace(".", "_"))
    return nn.Sequential(OrderedDict(list(children.items())[: last + 1]))
