"""The network whose units are described, by name; and the layers that are described where none are named.

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
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conceptry.models.encoders.processing import Preprocess
from conceptry.models.errors import InputError
from conceptry.models.explained.hooks import format_names
from conceptry.models.explained.image_inputs import as_pixel_model, to_images
from conceptry.models.explained.load import load_explained
from conceptry.models.explained.protocol import PixelModel

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


__all__ = ["ImageTower", "default_layers", "load_network"]


class ImageTower:
    """The image half of a dual encoder, as a network over pixels."""

    modality, form, classes, columns = "image", "values", (), ()
    channels, resizes = 3, True

    def __init__(self, encoder: Any) -> None:
        self.name, self.device, self.module = encoder.name, encoder.device, encoder.model.visual
        self._preprocess: Preprocess = encoder.processing.preprocess
        self._mean, self._std = (
            torch.tensor(values, device=self.device)[:, None, None] for values in self._preprocess.normalisation
        )
        side = self.module.image_size
        self.size: tuple[int, int] | None = (side, side) if isinstance(side, int) else (side[0], side[1])

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.forward(self.encode(inputs)).double().cpu().numpy()

    def to_pixels(self, pictures: np.ndarray) -> Tensor:
        from PIL import Image

        if tuple(pictures.shape[1:3]) == self.size:
            return torch.tensor(pictures, device=self.device).permute(0, 3, 1, 2).float() / 255
        return torch.stack([self._preprocess.fit(Image.fromarray(image)) for image in pictures]).to(self.device)

    encode = to_pixels

    def from_pixels(self, x: Tensor) -> Tensor:
        return self.module((x - self._mean) / self._std)

    forward = from_pixels

    def to_images(self, x: Tensor) -> np.ndarray:
        return to_images(x)

    def feature_owner(self, inputs: np.ndarray) -> Tensor:
        return torch.full(self.encode(inputs).shape[1:], -1, device=self.device)


def load_network(name: str, device: str | torch.device = "auto") -> PixelModel:
    """The network over pictures called `name`: any that `load_explained` knows, or the image half of an encoder,
    `zoo:emoji-clip`, `open_clip:...` or `clip:...`.

    Raises InputError for unknown names and for models of anything else.
    """
    from conceptry.models.shipped import shipped_names

    scheme, _, rest = name.partition(":")
    if scheme in ("open_clip", "clip") or (scheme == "zoo" and rest in shipped_names("encoder")):
        from conceptry.models.encoders.load import load_encoder

        tower = ImageTower(load_encoder(name, device))
        assert isinstance(tower, PixelModel)
        return tower
    return as_pixel_model(load_explained(name, device))
