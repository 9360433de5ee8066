"""A classifier with a map of its features as a dual encoder: the formula, its folder, both runtimes, its layers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from conceptry.models.encoders import load_encoder, read_encoder
from conceptry.models.encoders.conse import MAP, ConseEncoder
from conceptry.models.encoders.load import save_encoder
from conceptry.models.encoders.protocol import encode_images
from conceptry.models.encoders.text_unlock import (
    PREFIX,
    AgreementWarning,
    TextUnlockEncoder,
    find_head,
    perceptron,
    shortfall,
    without_layer,
)
from conceptry.models.errors import InputError
from conceptry.models.explained.base import Description
from conceptry.models.explained.image_inputs import TorchImages
from conceptry.models.explained.loaders.vision import Network
from conceptry.models.explained.preprocessing import Preprocessing

CPU = torch.device("cpu")
KNOWN = {"agreement": 0.5, "agreement_conse": 0.75, "agreement_constant": 0.25, "held_out": 12}


@pytest.fixture(scope="module")
def small(conse_parts: tuple[Any, ...]) -> TextUnlockEncoder:
    classifier, texts, config, tensors = conse_parts
    torch.manual_seed(0)
    layers = {f"{PREFIX}{name}": tensor for name, tensor in perceptron(512, 6, 4).state_dict().items()}
    known = {MAP: {"head": find_head(classifier)} | KNOWN}
    return TextUnlockEncoder("own:small", classifier, texts, config | known, tensors | layers)


def images() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(256, size=shape, dtype=np.uint8)) for shape in ((40, 60, 3), (300, 260, 3))]


def test_an_image_is_where_the_map_takes_the_features_before_the_last_layer(small: TextUnlockEncoder) -> None:
    network, map_ = small.classifier.module, small.model.visual[1]  # type: ignore[index]  # network and map
    kept: list[torch.Tensor] = []
    handle = network.classifier[1].register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))  # type: ignore[index]
    for image in images():
        network(small.preprocess(image)[None])
    handle.remove()
    # Behind its last layer, a SqueezeNet has a ReLU and the mean over positions.
    h = torch.cat([maps.relu().mean(dim=(2, 3)) for maps in kept]).double().numpy()
    w, b, v, c = (map_.state_dict()[name].double().numpy() for name in ("0.weight", "0.bias", "2.weight", "2.bias"))
    inner = h @ w.T + b
    gelu = inner * np.vectorize(lambda x: 0.5 * (1 + torch.erf(torch.tensor(x / 2**0.5)).item()))(inner)
    f = gelu @ v.T + c
    assert np.allclose(encode_images(small, images()), f / np.linalg.norm(f, axis=1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_a_version_carries_all_of_it(small: TextUnlockEncoder, tmp_path: Path, runtime: str) -> None:
    save_encoder(small, tmp_path / "encoder", runtime)
    again: Any = read_encoder(tmp_path / "encoder", CPU)
    assert (again.name, again.runtime) == ("own:small", runtime)
    assert torch.allclose(encode_images(again, images()), encode_images(small, images()), atol=1e-5)
    assert torch.allclose(again.encode_text(["a red dog", "cat"]), small.encode_text(["a red dog", "cat"]), atol=1e-6)


def test_one_folder_is_read_with_the_map_and_without(
    small: TextUnlockEncoder, conse_parts: tuple[Any, ...], tmp_path: Path
) -> None:
    small.save(tmp_path)
    sentence = (
        rf"^textunlock:{tmp_path} names the class that the classifier finds in 0\.500 of 12 held-out images, and "
        rf"ConSE, which needs no map, in 0\.750: use conse:{tmp_path} with the vocabulary photos and the penalty \.45, "
        "or train on more images$"
    )
    with pytest.warns(AgreementWarning, match=sentence):
        mapped = load_encoder(f"textunlock:{tmp_path}", "cpu")
    assert torch.equal(encode_images(mapped, images()), encode_images(small, images()))
    plain: Any = load_encoder(f"conse:{tmp_path}", "cpu")
    assert torch.equal(encode_images(plain, images()), encode_images(ConseEncoder("", *conse_parts), images()))
    plain.save(tmp_path / "plain")  # the map is left out
    with pytest.raises(InputError, match=r"holds no map of a classifier's features; expected a folder that `conceptry"):
        load_encoder(f"textunlock:{tmp_path / 'plain'}", "cpu")


def test_a_map_that_says_less_than_one_class_always_is_told_apart(tmp_path: Path) -> None:
    said = shortfall(KNOWN | {"agreement_constant": 0.9}, tmp_path)
    assert "the class that it finds most often, named always, would be right in 0.900: its words say little" in said
    assert shortfall(KNOWN | {"agreement": 0.75}, tmp_path) == ""


def network(module: nn.Module, classes: int = 3) -> TorchImages:
    """A module over images of 8 x 8 pixels."""
    description = Description("own:net", "image", "logits", tuple(f"class {i}" for i in range(classes)))
    preparation = Preprocessing((8,), (8, 8), (0.5,) * 3, (0.5,) * 3)
    description = description.with_outputs("logits", np.zeros((1, classes)))
    return TorchImages(description, Network(module, "timm", "own", classes), module.eval(), CPU, preparation)


class TwoHeads(nn.Module):
    """The mean of two heads, of different features."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x.mean(dim=(2, 3))) + self.second(x[:, 0, 0, :5])


def flat(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers)


def test_the_head_is_the_last_layer_that_scores_the_classes() -> None:
    module = flat(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.Linear(3, 7), nn.Linear(7, 3), nn.Tanh())
    assert find_head(network(module)) == "6"
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(module[-2:](without_layer(without_layer(module, "6"), "7")(x)), module(x))  # type: ignore[index]
    assert module[6] is not None  # type: ignore[index]  # it stays as it was
    assert all(a is b for a, b in zip(without_layer(module, "6").parameters(), module.parameters(), strict=False))


@pytest.mark.parametrize(
    ("module", "classes", "sentence"),
    [
        (flat(nn.Linear(3, 1)), 1, "own:net: has 1 output; expected a classifier with one for each of two or more"),
        (flat(), 3, "own:net: has no linear or convolutional layer with its 3 classes as outputs"),
        (TwoHeads(), 2, "own:net: does not run without its last layer, second: "),
    ],
)
def test_networks_without_features_are_refused(module: nn.Module, classes: int, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        find_head(network(module, classes))
