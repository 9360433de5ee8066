"""Find the layers of a network by their dotted names."""

import difflib
from collections.abc import Sequence

from torch import nn

from conceptry.models.errors import InputError, shown


def find_layer(module: nn.Module, layer: str, name: str) -> nn.Module:
    """The submodule of `module` called `layer`, such as "layer1.0.conv1".

    Raises InputError with near names where there is none; `name` is what the sentence calls the network.
    """
    layers = {path: part for path, part in module.named_modules() if path}
    if layer in layers:
        return layers[layer]
    near = difflib.get_close_matches(layer, layers, n=5, cutoff=0.4) or list(layers)
    raise InputError(f"{name}: has no layer {shown(layer)}; expected one such as {some(near)}")


def some(names: Sequence[str]) -> str:
    """The first names and how many there are besides: "a, b, c, d, e and 7 more"."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
