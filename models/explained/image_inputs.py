"""Torch modules over images: from the images of a user to what the module reads, and the way back.

| symbol | meaning | shape |
|---|---|---|
| p | an image in [0, 1], of the size that was handed in | (3, height, width) |
| x = fit(p) | what the network sees of it, in [0, 1]: resized, cropped, luma where C = 1 | (C, h, w) |
| f((x - mean) / std) | outputs of the module f, which may also normalise by itself | (k,) |

`forward` goes from p, so that a baseline can be learned as an image of any size; `from_pixels` from x, where
perturbations live.

`preprocessing` has what image classifiers publish. Where a module has been logged alone, it takes [0, 1] and holds its
own normalisation; one channel is the luma of ITU-R 601; images of another size than the module's are scaled to it in
calls (bilinear, antialiased).
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.explained.base import Description, ModelBase, Source
from conceptry.models.explained.protocol import PixelModel


def as_pixel_model(model: Any) -> PixelModel:
    """`model` itself; raises InputError unless it takes pictures and is differentiable in their pixels."""
    name, modality = getattr(model, "name", type(model).__name__), getattr(model, "modality", "nothing known")
    if modality != "image":
        raise InputError(f"{name}: takes {modality}, expected a network over pictures")
    if not isinstance(model, PixelModel):
        raise InputError(
            f"{name}: its outputs cannot be differentiated in the pixels; expected a torch network, such as "
            "zoo:digits, torchvision:resnet50 or a model logged with mlflow.pytorch"
        )
    return model


def to_images(x: Tensor) -> np.ndarray:
    """Pixels (n, C, h, w) to uint8 (n, h, w, 3): clipped to [0, 1], rounded to 8 bits, one channel repeated.

    x = v / 255 of whole v from 0 to 255 gives v back.
    """
    eight = x.detach().clamp(0, 1).mul(255).round().to(torch.uint8)
    return np.ascontiguousarray(eight.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy())


def check_pixels(name: str, x: Tensor, channels: int, size: tuple[int, int] | None) -> None:
    """Raise InputError unless x is (batch, channels, *size); a size of None is any."""
    if x.ndim != 4 or x.shape[1] != channels or size not in (None, tuple(x.shape[2:])):
        height, width = size or ("height", "width")
        raise InputError(f"{name}: takes pixels (batch, {channels}, {height}, {width}), got {tuple(x.shape)}")


def wrong_size(name: str, taken: tuple[int, int], got: tuple[int, int]) -> InputError:
    """The sentence that names both sizes, each (height, width), as width x height."""
    return InputError(
        f"{name}: the network takes pictures of {taken[1]} x {taken[0]} pixels, got {got[1]} x {got[0]}; "
        "scale or crop them to that size first"
    )


CHUNK = 64  # pictures in one call of a module
PIXELS_NOTE = "pictures are given to the model as values in [0, 1]; it has to hold its own normalisation"
_LUMA = (0.299, 0.587, 0.114)


class Preparation(Protocol):
    """What is done to pictures before a module. channels, size, resizes: as `PixelModel` has them.

    mean, std: of the channels, by which x is normalised; empty where the module does that itself.
    """

    @property
    def channels(self) -> int: ...
    @property
    def size(self) -> tuple[int, int] | None: ...
    @property
    def resizes(self) -> bool: ...
    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...

    def fit(self, pixels: Tensor) -> Tensor:
        """p (batch, 3, any, any) to x (batch, channels, height, width), differentiable."""
        ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Scaling:
    """A module that holds its own normalisation. shape: (channels, height, width) as it takes them, -1 for any."""

    shape: tuple[int, ...]
    resizes: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> tuple[int, int] | None:
        height, width = self.shape[1:]
        return (height, width) if height > 0 and width > 0 else None

    def fit(self, pixels: Tensor) -> Tensor:
        pixels = as_channels(pixels, self.channels)
        wanted = [there if want < 0 else want for want, there in zip(self.shape[1:], pixels.shape[2:], strict=True)]
        if list(pixels.shape[2:]) == wanted:
            return pixels
        return nn.functional.interpolate(pixels, size=wanted, mode="bilinear", antialias=True)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class TorchImages(ModelBase):
    """A module over pictures behind its preparation: `DifferentiableModel` and `PixelModel`."""

    def __init__(
        self,
        description: Description,
        source: Source,
        module: nn.Module,
        device: torch.device,
        preparation: Preparation,
    ) -> None:
        super().__init__(description, source)
        self.module, self.device, self.preparation = module, device, preparation
        self._dtype = floating_type(module)
        self.channels, self.size, self.resizes = preparation.channels, preparation.size, preparation.resizes
        # Made once: on CUDA, a tensor from numbers waits for the device.
        self._mean, self._std = (
            torch.tensor(values, device=device)[:, None, None] for values in (preparation.mean, preparation.std)
        )

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        def run() -> Tensor:
            return torch.cat([self.forward(to_pixels(part, self.device)) for part in chunks(inputs)])

        with torch.no_grad():
            return self.outputs(run, len(inputs))

    def settings(self) -> dict[str, Any]:
        return {"preprocessing": self.preparation.to_json()}

    def encode(self, inputs: np.ndarray) -> Tensor:
        return to_pixels(check_images(inputs), self.device)

    def forward(self, x: Tensor) -> Tensor:
        return self._outputs(self.preparation.fit(x))

    def feature_owner(self, inputs: np.ndarray) -> Tensor:
        height, width = check_images(inputs).shape[1:3]
        return torch.full((3, height, width), -1, device=self.device)

    def to_pixels(self, images: np.ndarray) -> Tensor:
        """See `PixelModel`. Bicubic resizing overshoots at edges; what leaves [0, 1] is clipped."""
        height, width = check_images(images).shape[1:3]
        with torch.no_grad():
            pixels = to_pixels(images, self.device)
            if self.size == (height, width):
                # A picture that was delivered can be handed in again: it is not resized and cropped twice.
                pixels = as_channels(pixels, self.channels)
            else:
                pixels = self.preparation.fit(pixels).clamp(0, 1)
                h, w = pixels.shape[2:]
                if (h, w) != (height, width) and not self.resizes:
                    raise wrong_size(self.name, (h, w), (height, width))
        return pixels.contiguous()

    def from_pixels(self, x: Tensor) -> Tensor:
        check_pixels(self.name, x, self.channels, self.size)
        return self._outputs(x)

    def to_images(self, x: Tensor) -> np.ndarray:
        return to_images(x)

    def _outputs(self, x: Tensor) -> Tensor:
        # A copy where nothing is normalised here: the module may do that in place, and x is the caller's.
        normalised = (x - self._mean) / self._std if self.preparation.mean else x.clone()
        return as_matrix(one_output(self.module(normalised.to(self._dtype))))


def check_images(inputs: Any) -> np.ndarray:
    """Pictures as uint8 (batch, height, width, 3); raises InputError for anything else."""
    images = np.asarray(inputs)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise InputError(
            f"pictures must be uint8 of shape (batch, height, width, 3), got {images.dtype} {images.shape}"
        )
    return images


def example_images(height: int, width: int) -> np.ndarray:
    """Four images that a model can be tried on, uint8 (4, height, width, 3): black, grey, white and noise."""
    plain = [np.full((height, width, 3), level, np.uint8) for level in (0, 128, 255)]
    return np.stack([*plain, np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)])


def chunks(inputs: Any) -> Iterator[np.ndarray]:
    """The checked pictures, CHUNK at a time, so that a large batch costs no more memory than its bytes."""
    images = check_images(inputs)
    return (images[i : i + CHUNK] for i in range(0, len(images), CHUNK))


def to_pixels(images: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (batch, height, width, 3) to float32 (batch, 3, height, width) in [0, 1]."""
    return torch.tensor(images, device=device).permute(0, 3, 1, 2).float() / 255


def as_channels(pixels: Tensor, channels: int) -> Tensor:
    """(batch, 3, height, width) to (batch, channels, height, width): the luma where that is one."""
    if channels == 3:
        return pixels
    return (pixels * torch.tensor(_LUMA, device=pixels.device)[:, None, None]).sum(1, keepdim=True)


def floating_type(module: nn.Module) -> torch.dtype:
    """The type that a module computes in: that of its first floating parameter or buffer, else float32."""
    tensors = (*module.parameters(), *module.buffers())
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)


def one_output(result: Any) -> Tensor:
    """The tensor that a module returned, one of 16 bits in float32; InputError where it returned something else."""
    if not isinstance(result, Tensor):
        raise InputError(f"the module returns {type(result).__name__}, expected one tensor (batch, outputs)")
    return result.float() if result.dtype in (torch.float16, torch.bfloat16) else result


def as_matrix(result: Tensor) -> Tensor:
    return result[:, None] if result.ndim == 1 else result
