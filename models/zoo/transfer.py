"""Two ways for a network of images to learn more than its classes tell: properties named aside, another network first.

Properties: the network is trained with a longer last layer, whose further outputs name properties of the pictures such
as the background's colour; the loss is the mean cross-entropy of the class and of each property. Those outputs are cut
off afterwards, the units that learned to serve them stay.

Start: all layers but the last are taken over from a network that ships, and all are trained on.

| symbol | meaning |
|---|---|
| c | classes of the data |
| p_1 ... p_m | values of each property |
| o | outputs while training: c + p_1 + ... + p_m |
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from conceptry.models.errors import InputError
from conceptry.models.zoo.architectures import Shape, build_network
from conceptry.models.zoo.classifier import read_classifier
from conceptry.models.zoo.shipped import weights_directory

LAST = "output"  # the name of the last layer of the architecture `stages`


def property_sizes(properties: np.ndarray) -> tuple[int, ...]:
    """p_1 ... p_m of properties int64 (n, m), each counted from 0."""
    return tuple(int(size) + 1 for size in properties.max(axis=0))


def widened(shape: Shape, sizes: tuple[int, ...]) -> Shape:
    """The shape of the network that is trained: o outputs. Raises InputError for other architectures than stages."""
    if shape.arch != "stages":
        raise InputError(f"properties are learned by the architecture stages alone, got {shape.arch}")
    return replace(shape, n_outputs=shape.n_outputs + sum(sizes))


def joint_loss(outputs: Tensor, classes: Tensor, properties: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Mean cross-entropy of outputs (batch, o) for classes (batch,) and for each column of properties (batch, m)."""
    parts = outputs.split((outputs.shape[1] - sum(sizes), *sizes), dim=1)
    targets = (classes, *properties.T)
    losses = [functional.cross_entropy(part, target) for part, target in zip(parts, targets, strict=True)]
    return torch.stack(losses).mean()


def cut(network: nn.Module, shape: Shape) -> nn.Module:
    """The network of `shape` with the first outputs of a widened one."""
    state = dict(network.state_dict())
    for name in (f"{LAST}.weight", f"{LAST}.bias"):
        state[name] = state[name][: shape.n_outputs].clone()
    with torch.device("meta"):
        narrow = build_network(shape)
    narrow.load_state_dict(state, assign=True)
    return narrow


def start_from(network: nn.Module, shape: Shape, name: str) -> None:
    """Give all layers of `network` but the last the weights of the network `zoo:name`.

    Raises InputError where that is of another architecture, width or size of images.
    """
    other = read_classifier(weights_directory(name, "classifier"), torch.device("cpu"), f"zoo:{name}")
    theirs = other.description.shape
    if shape.arch != "stages" or replace(theirs, n_outputs=0, dropout=0.0) != replace(shape, n_outputs=0, dropout=0.0):
        raise InputError(f"start must be a network of the same shape {shape}, zoo:{name} is {theirs}")
    state = {key: value for key, value in other.network.state_dict().items() if not key.startswith(f"{LAST}.")}
    network.load_state_dict(state, strict=False)
