"""The frozen encoder: features of the masked region of a picture, at every level of a pyramid.

| symbol | meaning | shape |
|---|---|---|
| x | a picture, not masked | (3, H, W) |
| m | its mask | (1, H, W) |
| v_l | what level l of the trunk makes of x | (C_l, h_l, w_l) |
| m_l | m brought to h_l x w_l bilinearly, divided by its sum; an empty mask stays zero | (1, h_l, w_l) |
| f | sum over h_l, w_l of m_l v_l, for every level, one after the other | (F,) |

Differences from the original: `+surroundings`, which lets a description say what a unit's region lies on, and the
projection that an encoder may end in (see projection.py). Both are off unless they are asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from conceptry.models.artifacts import write_json
from conceptry.models.errors import InputError
from conceptry.models.milan.projection import Projection

CONFIG, WEIGHTS = "encoder.json", "encoder.safetensors"


class FeatureEncoder:
    """A trunk, taken apart into the modules that follow one another, and the levels that are read.

    Call it with images uint8 (n, k, 3, H, W) and masks uint8 or bool (n, k, 1, H, W), arrays or tensors, for float32
    features (n, k, F). A unit's pictures are a batch of their own, so its features do not depend on the others.

    config: what the folder says, see `feature_encoders.read_feature_encoder`. projection: None, or what f is projected
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
        """As `pyramid`, of pixels (n, 3, H, W) in [0, 1]."""
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
        """Its name without the folders of a file."""
        from conceptry.models.explained.description import without_folders

        return without_folders(self.name)

    def save(self, directory: Path) -> None:
        """Write what `feature_encoders.read_feature_encoder` needs: weights, and how pictures come to them."""
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
