"""The frozen encoder: features of the masked region of an image, at every level of a pyramid; by name or from a folder.

| name | levels | F |
|---|---|---|
| `zoo:emoji-clip` | stem, layer1-4 of the encoder's visual trunk | 976 |
| `torchvision:resnet18@FILE` (34, 50, 101, 152) | conv1, layer1-4 | 1,024 (3,904 from 50 on) |
| `torchvision:alexnet@FILE` | features.0, 3, 6, 8, 10 | 1,152 |
| any of these and `+surroundings` | each pooled over the mask, then over what it leaves out | twice as many |

| symbol | meaning | shape |
|---|---|---|
| x | an image, not masked | (3, H, W) |
| m | its mask | (1, H, W) |
| v_l | what level l of the trunk makes of x | (C_l, h_l, w_l) |
| m_l | m brought to h_l x w_l bilinearly, divided by its sum; an empty mask stays zero | (1, h_l, w_l) |
| f | sum over h_l, w_l of m_l v_l, for every level, one after the other | (F,) |
| y | of a training unit: for each word, the share of the captions that hold it | (D,) |
| W | weights of the projection | (F, D) |
| l | ridge penalty, after each feature is divided by its standard deviation | scalar |
| z | what the decoder reads where there is a projection: evidence for words | (D,) |

An encoder may end in a linear projection, fitted in closed form before the decoder is trained. With f the mean over a
unit's exemplars, which tells what they share from what one shows:

    W = argmin  mean |y - mean(y) - W^T (f - mean f)|^2 + l |W|^2
    z = W^T (f - mean f), each word's divided by its standard deviation over the units

The decoder reads z of each exemplar. Its LSTM then need not find out, a gradient step at a time, which of thousands of
correlated features speak for which word: with a few thousand annotated units it learns an order of magnitude faster,
and combinations that it has never seen come out right.

Differences from the paper, both off unless they are asked for: the projection; and `+surroundings`, which lets a
description say what a unit's region lies on.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from conceptry.models.devices import resolve_device
from conceptry.models.errors import InputError, truncated_repr
from conceptry.models.manifest import read_json, read_tensors, write_json

PROJECTION = "projection.safetensors"
RIDGE = 1e-2


@dataclass(frozen=True)
class Projection:
    """z = (f - mean) matrix; mean: float32 (F,), matrix: float32 (F, D)."""

    mean: Tensor
    matrix: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """z (..., D) of features (..., F)."""
        return (features - self.mean) @ self.matrix

    def to(self, device: torch.device) -> "Projection":
        """Copy the projection to another device."""
        return Projection(self.mean.to(device), self.matrix.to(device))

    def save(self, path: Path) -> None:
        """Write mean and matrix as float16: rounded once, here, so that what is trained on it should be trained after
        `rounded`."""
        from safetensors.torch import save

        path.write_bytes(save({"mean": self.mean.half().cpu(), "matrix": self.matrix.half().contiguous().cpu()}))

    def rounded(self) -> "Projection":
        """What reading the saved file gives."""
        return Projection(self.mean.half().float(), self.matrix.half().float())


def read_projection(path: Path) -> Projection:
    """The projection that `save` wrote; raises InputError for another file."""
    state = read_tensors(path)
    if state.keys() != {"mean", "matrix"} or state["matrix"].shape[:1] != state["mean"].shape:
        raise InputError(f"{path}: expected mean (F,) and matrix (F, D), got {', '.join(sorted(state)) or 'nothing'}")
    return Projection(state["mean"].float(), state["matrix"].float())


class ProjectionFit:
    """Sums over batches of rows, in float64; order and size of the batches change rounding alone."""

    def __init__(self) -> None:
        self._gram: Tensor | float = 0.0
        self._moments: Tensor | float = 0.0

    def add(self, features: Tensor, words: Tensor) -> None:
        """features: f of n units, (n, F); words: y of each, (n, D)."""
        rows = torch.cat([features, features.new_ones(len(features), 1)], dim=-1)
        self._gram = self._gram + (rows.T @ rows).double()
        self._moments = self._moments + (rows.T @ words).double()

    def solve(self, ridge: float = RIDGE) -> Projection:
        """The projection; features that never vary get no weight, words in every caption or none a column of zeros."""
        if not isinstance(self._gram, Tensor) or not isinstance(self._moments, Tensor):
            raise InputError("a projection needs features to be fitted on; add some first")
        count = self._gram[-1, -1]
        mean, frequency = self._gram[-1, :-1] / count, self._moments[-1] / count
        covariance = self._gram[:-1, :-1] / count - torch.outer(mean, mean)
        moments = self._moments[:-1] / count - torch.outer(mean, frequency)
        std = covariance.diagonal().clamp_min(0).sqrt()
        scale = torch.where(std > 1e-4, 1 / std.clamp_min(1e-4), 0)
        system = covariance * scale[:, None] * scale + ridge * torch.eye(len(scale), dtype=torch.float64)
        weights = scale[:, None] * torch.linalg.solve(system, moments * scale[:, None])
        spread = torch.einsum("fd,fg,gd->d", weights, covariance, weights).clamp_min(0).sqrt()
        factor = torch.where(spread > 1e-6, 1 / spread.clamp_min(1e-6), 0)
        return Projection(mean.float(), (weights * factor).float())


CONFIG, WEIGHTS = "encoder.json", "encoder.safetensors"


class FeatureEncoder:
    """A trunk, taken apart into the modules that follow one another, and the levels that are read.

    Call it with images uint8 (n, k, 3, H, W) and masks uint8 or bool (n, k, 1, H, W), arrays or tensors, for float32
    features (n, k, F). A unit's pictures are a batch of their own, so its features do not depend on the others.

    config: what the folder says, see `read_feature_encoder`. projection: None, or what f is projected
    by; F is then its number of outputs.
    """

    def __init__(self, config: Mapping[str, Any], trunk: nn.Sequential, device: torch.device) -> None:
        self.config = dict(config)
        self.name: str = config["name"]
        self.levels: tuple[str, ...] = tuple(config["levels"])
        self.size: int = config["size"]
        self.device = device
        self.trunk = trunk.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch knows it, its stubs do not
        self._reading = {level.replace(".", "_") for level in self.levels}
        self.surroundings = bool(config.get("surroundings"))
        self.projection: Projection | None = None
        self._mean, self._std = (torch.tensor(config[key], device=device).view(3, 1, 1) for key in ("mean", "std"))
        pixels = torch.zeros(1, 1, 3, 8, 8, dtype=torch.uint8)
        self.n_features = self(pixels, pixels[:, :, :1]).shape[-1]

    @torch.no_grad()
    def __call__(self, images: np.ndarray | Tensor, masks: np.ndarray | Tensor) -> Tensor:
        if images.ndim != 5 or images.shape[2] != 3 or tuple(masks.shape) != (*images.shape[:2], 1, *images.shape[3:]):
            raise InputError(
                "images must be of shape (n, k, 3, H, W) and masks (n, k, 1, H, W), "
                f"got {tuple(images.shape)} and {tuple(masks.shape)}"
            )
        if (kind := str(images.dtype).removeprefix("torch.")) != "uint8":
            raise InputError(f"images must be of type uint8, got {kind}")
        # Copies, since arrays may be files that cannot be written to.
        units = (
            [torch.tensor(part) if isinstance(part, np.ndarray) else part for part in unit]
            for unit in zip(images, masks, strict=True)
        )
        features = [self._unit(*unit) for unit in units]
        return torch.stack(features) if features else torch.zeros(0, images.shape[1], self.n_features)

    def _unit(self, images: Tensor, masks: Tensor) -> Tensor:
        mask = (masks != 0).to(self.device).float()
        return self.joined([self.pool(values, mask) for values in self.pyramid(images)])

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """f (n, F) of what `pool` gives of each level in turn, projected where the encoder projects."""
        f = torch.cat([*parts], dim=-1)
        return f if self.projection is None else self.projection(f)

    def pool(self, values: Tensor, masks: Tensor) -> Tensor:
        """The part of f (n, C or 2 C) that one level gives; values: (n, C, h, w), masks: 0 or 1 (n, 1, H, W)."""
        inside = pooled(values, masks)
        return torch.cat([inside, pooled(values, 1 - masks)], dim=-1) if self.surroundings else inside

    def projected(self, projection: Projection) -> "FeatureEncoder":
        """This encoder with features projected; raises InputError where they are not those that it projects."""
        if self.projection is not None or projection.mean.shape != (self.n_features,):
            raise InputError(
                f"{self.name}: gives {self.n_features} features, the projection is of {len(projection.mean)}"
            )
        encoder = copy(self)
        encoder.projection, encoder.n_features = projection.to(self.device), projection.matrix.shape[1]
        return encoder

    @torch.no_grad()
    def pyramid(self, images: Tensor) -> Iterator[Tensor]:
        """The levels v_l (n, C_l, h_l, w_l) of images uint8 (n, 3, H, W), one after the other.

        A level is to be used before the next one is asked for: the next module may work in place.
        """
        yield from self.levels_of(images.to(self.device).float().div(255))

    @torch.no_grad()
    def levels_of(self, x: Tensor) -> Iterator[Tensor]:
        """Levels v_l, see `pyramid`, of pixels (n, 3, H, W) in [0, 1]."""
        if x.shape[-2:] != (self.size, self.size):
            x = functional.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)
        x = ((x - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        for name, module in self.trunk.named_children():
            x = module(x)
            if name in self._reading:
                yield x

    @property
    def in_zoo(self) -> bool:
        """Whether its name finds it wherever conceptry is installed."""
        return self.name.startswith("zoo:")

    @property
    def public_name(self) -> str:
        """Name of the encoder without the folders of a file."""
        from conceptry.models.explained.base import without_folders

        return without_folders(self.name)

    def save(self, directory: Path) -> None:
        """Write what `read_feature_encoder` needs: weights, and how pictures come to them."""
        from safetensors.torch import save_file

        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / CONFIG, self.config | {"name": self.public_name})
        state = {name: tensor.contiguous().cpu() for name, tensor in self.trunk.state_dict().items()}
        save_file(state, str(directory / WEIGHTS))


def pooled(values: Tensor, masks: Tensor) -> Tensor:
    """Features (n, C) of one level: values (n, C, h, w) weighted by masks (n, 1, H, W), which sum to one or zero."""
    weights = functional.interpolate(masks, values.shape[-2:], mode="bilinear", align_corners=False)
    total = weights.sum(dim=(-2, -1), keepdim=True)
    weights = weights / torch.where(total > 0, total, 1)
    return torch.einsum("nchw,nhw->nc", values, weights[:, 0])


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
    raise InputError(f"unknown feature encoder {truncated_repr(name)}; expected one such as {', '.join(SCHEMES)}")


def read_feature_encoder(directory: Path, device: str | torch.device = "auto") -> FeatureEncoder:
    """The encoder in a folder that `save` wrote: encoder.json and encoder.safetensors."""
    from conceptry.models.explained.checkpoints import Undrawn, fill

    for file in (CONFIG, WEIGHTS):
        if not (directory / file).is_file():
            raise InputError(f"{directory}: holds no {file}; expected a folder with a feature encoder")
    try:
        config = read_json(directory / CONFIG)
        with Undrawn():
            trunk = build_trunk(config)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{directory / CONFIG}: does not describe a feature encoder ({error})") from None
    fill(trunk, read_tensors(directory / WEIGHTS), f"{directory / WEIGHTS}")
    return FeatureEncoder(config, trunk, resolve_device(str(device)))


def _emoji_clip(name: str, device: torch.device) -> FeatureEncoder:
    from safetensors.torch import load_file

    from conceptry.models.encoders.clip import WEIGHTS as CLIP_WEIGHTS
    from conceptry.models.explained.checkpoints import fill
    from conceptry.models.shipped import weights_directory

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
    from conceptry.models.explained.checkpoints import fill, read_checkpoint

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
