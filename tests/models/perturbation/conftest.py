"""A robust network over real digits, small pictures of them, and a network as a user could bring one."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conceptry.models.explained.image_inputs import to_images
from conceptry.models.explained.load import load_explained
from conceptry.models.zoo.datasets import load_dataset


class UserNetwork:
    """All that `PixelModel` asks for, over pixels (1, 4, 4) and with outputs of any form."""

    name, modality, columns, channels, size, resizes = "mine", "image", (), 1, (4, 4), False
    to_images = staticmethod(to_images)

    def __init__(self, module: nn.Module, form: str = "logits", classes: tuple[str, ...] = ("no", "yes")) -> None:
        self.module, self.form, self.classes = module.eval().requires_grad_(False), form, classes

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return self.from_pixels(self.to_pixels(inputs)).double().numpy()

    def encode(self, inputs: Any) -> Tensor:
        return self.to_pixels(inputs)

    def to_pixels(self, pictures: np.ndarray) -> Tensor:
        return torch.tensor(pictures).permute(0, 3, 1, 2)[:, :1].float() / 255

    def from_pixels(self, x: Tensor) -> Tensor:
        return self.module(x)

    forward = from_pixels

    def feature_owner(self, inputs: Any) -> Tensor:
        return torch.full((1, 4, 4), -1)


@pytest.fixture(scope="session")
def user_network() -> Callable[..., UserNetwork]:
    return UserNetwork


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower by several threads, most of all where other tests run beside them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def network() -> Any:
    return load_explained("zoo:digits-robust", "cpu")


@pytest.fixture(scope="package")
def pictures() -> np.ndarray:
    """Two held-out pictures of each digit in turn, uint8 (20, 8, 8, 3); the class of row i is i % 10."""
    data = load_dataset("digits")
    rows = [data.heldout[data.targets[data.heldout] == i % 10][i // 10] for i in range(20)]
    return data.inputs[rows]
