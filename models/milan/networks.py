"""The network whose units are described, by name."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.explained.load import load_explained
from conceptry.models.explained.pixels import as_pixel_model, to_pictures
from conceptry.models.explained.protocol import PixelModel
from conceptry.models.milan.stages import default_layers

__all__ = ["ImageTower", "default_layers", "load_network"]


class ImageTower:
    """The image half of a dual encoder, as a network over pixels."""

    modality, form, classes, columns = "image", "values", (), ()
    channels, resizes = 3, True

    def __init__(self, encoder: Any) -> None:
        from torchvision.transforms import Normalize

        self.name, self.device, self.module = encoder.name, encoder.device, encoder.model.visual
        steps = list(encoder.processing.preprocess.transforms)
        normalise = steps.pop()
        if not isinstance(normalise, Normalize):
            raise InputError(f"{encoder.name}: its preprocessing does not end in a normalisation")
        self._prepare = steps
        self._mean, self._std = (
            torch.tensor(values, device=self.device)[:, None, None] for values in (normalise.mean, normalise.std)
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
        fitted = []
        for picture in pictures:
            value: Any = Image.fromarray(picture)
            for step in self._prepare:
                value = step(value)
            fitted.append(value)
        return torch.stack(fitted).to(self.device)

    encode = to_pixels

    def from_pixels(self, x: Tensor) -> Tensor:
        return self.module((x - self._mean) / self._std)

    forward = from_pixels

    def to_pictures(self, x: Tensor) -> np.ndarray:
        return to_pictures(x)

    def feature_owner(self, inputs: np.ndarray) -> Tensor:
        return torch.full(self.encode(inputs).shape[1:], -1, device=self.device)


def load_network(name: str, device: str | torch.device = "auto") -> PixelModel:
    """The network over pictures called `name`: any that `load_explained` knows, or the image half of an encoder,
    `zoo:emoji-clip` or `open_clip:...`. Raises InputError for unknown names and for models of anything else.
    """
    from conceptry.models.zoo.shipped import shipped_names

    scheme, _, rest = name.partition(":")
    if scheme == "open_clip" or (scheme == "zoo" and rest in shipped_names("encoder")):
        from conceptry.models.encoders.load import load_encoder

        tower = ImageTower(load_encoder(name, device))
        assert isinstance(tower, PixelModel)
        return tower
    return as_pixel_model(load_explained(name, device))
