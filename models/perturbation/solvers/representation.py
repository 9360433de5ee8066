"""What a layer of a network makes of pixels, read by a hook that is gone afterwards.

| symbol | meaning | shape |
|---|---|---|
| x | pixels | (batch, C, H, W) |
| f(x) | representation: the output of a named layer, else the input of the last Linear, flattened | (batch, d) |
| f(t) | the representation to match, of a picture t | (batch, d) |

Inversion minimises ||f(x + delta) - f(t)|| / ||f(t)||.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.explained.hooks import find_layer, format_names, forward_hooks
from conceptry.models.explained.protocol import PixelModel


def layer_to_match(model: PixelModel, layer: str | None) -> tuple[nn.Module, bool]:
    """The module to hook, and whether its output is meant (else its input, of the last Linear).

    Raises InputError with near names for an unknown layer, and where no name is given and there is no Linear.
    """
    if layer is not None:
        return find_layer(model.module, layer, model.name), True
    linear = [module for module in model.module.modules() if isinstance(module, nn.Linear)]
    if linear:
        return linear[-1], False
    names = [path for path, _ in model.module.named_modules() if path]
    raise InputError(f"{model.name}: has no Linear layer; name one of {format_names(names)} as the layer to match")


@contextmanager
def representation(model: PixelModel, layer: str | None = None) -> Iterator[Callable[[Tensor], Tensor]]:
    """f of the table above, differentiable, for as long as the context lasts.

    Other threads may call the same network meanwhile: the hook listens to the thread that opened the context.
    Raises InputError for unknown layers, layers that are not run, and layers that do not put out one tensor.
    """
    module, after = layer_to_match(model, layer)
    recorded: list[Any] = []

    def record(_name: str, inputs: tuple[Any, ...], output: Any) -> None:
        value = output if after else inputs[0]
        # A copy: a later module, such as an in-place ReLU, may write its own output over the layer's.
        recorded.append(value.clone() if isinstance(value, Tensor) else value)

    def read(pixels: Tensor) -> Tensor:
        recorded.clear()
        model.from_pixels(pixels)
        if not recorded:
            raise InputError(f"{model.name}: layer {layer!r} is not run as a module of its own, so it cannot be read")
        value = recorded.pop()
        recorded.clear()  # of a layer that is run several times the last run counts
        if not isinstance(value, Tensor) or not value.is_floating_point() or len(value) != len(pixels):
            raise InputError(f"{model.name}: layer {layer!r} does not put out one tensor (batch, ...) of numbers")
        return value.flatten(1)

    with forward_hooks(model.module, {"matched": module}, record):
        yield read


def relative_distance(features: Tensor, target: Tensor) -> Tensor:
    """||f - t|| / ||t|| of each row, (batch,); a target of zeros is measured against the least normal number."""
    norm = torch.linalg.vector_norm(target, dim=1).clamp_min(torch.finfo(target.dtype).tiny)
    return torch.linalg.vector_norm(features.to(target.dtype) - target, dim=1) / norm
