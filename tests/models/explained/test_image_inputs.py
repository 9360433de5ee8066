"""Models seen from the pixels that their networks read: the zoo's, logged modules, published preprocessing."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.explained import DifferentiableModel, PixelModel, as_pixel_model, load_explained
from conceptry.models.explained.base import Description
from conceptry.models.explained.image_inputs import Preparation, Scaling, TorchImages, to_images
from conceptry.models.explained.loaders.onnx import OnnxFile
from conceptry.models.explained.preprocessing import Preprocessing, of_timm, of_torchvision, preparation_from_json

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 20, 25, 3), np.uint8)
CROPPED = Preprocessing((16,), (12, 12), MEAN, STD, "bicubic")


class Means(nn.Module):
    """The mean of each channel, and of the upper left pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean((2, 3)), x[:, :, 0, 0]], 1)


def model_of(preparation: Preparation) -> TorchImages:
    module = Means().eval()
    return TorchImages(Description("means", "image"), OnnxFile(Path("none")), module, CPU, preparation)


@pytest.fixture(scope="module")
def digits() -> PixelModel:
    return as_pixel_model(load_explained("zoo:digits", "cpu"))


def test_the_pixels_of_the_zoos_network(digits: PixelModel) -> None:
    assert (digits.channels, digits.size, digits.resizes) == (1, (8, 8), False)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8).repeat(3, 3)
    x = digits.to_pixels(pictures)
    assert (x.shape, x.dtype, x.requires_grad) == ((5, 1, 8, 8), torch.float32, False)
    np.testing.assert_array_equal(digits.to_images(x), pictures)
    x.requires_grad_()
    outputs = digits.from_pixels(x)
    np.testing.assert_allclose(outputs.detach(), digits(pictures), atol=1e-5)
    np.testing.assert_allclose(digits.module(x).detach(), outputs.detach())
    assert torch.autograd.grad(outputs[:, 3].sum(), x)[0].abs().sum() > 0
    assert not digits.module.training
    assert not any(parameter.requires_grad for parameter in digits.module.parameters())


def test_the_zoo_takes_one_size(digits: PixelModel) -> None:
    with pytest.raises(InputError, match="zoo:digits: the network takes pictures of 8 x 8 pixels, got 25 x 20; scale"):
        digits.to_pixels(PICTURES)
    for shape in ((2, 3, 8, 8), (2, 1, 9, 8), (1, 8, 8)):
        with pytest.raises(InputError, match=r"takes pixels \(batch, 1, 8, 8\), got \("):
            digits.from_pixels(torch.zeros(shape))


def test_models_without_pixels() -> None:
    with pytest.raises(InputError, match="zoo:wine: takes table, expected a network over pictures"):
        as_pixel_model(load_explained("zoo:wine", "cpu"))
    with pytest.raises(InputError, match="object: takes nothing known"):
        as_pixel_model(object())

    class Opaque:
        name, modality = "onnx:graph.onnx", "image"

    with pytest.raises(InputError, match=r"onnx:graph\.onnx: its outputs cannot be differentiated in the pixels"):
        as_pixel_model(Opaque())


def test_published_preprocessing_ends_at_the_pixels() -> None:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms._presets import ImageClassification

    model = model_of(CROPPED)
    assert isinstance(model, DifferentiableModel)
    assert (model.channels, model.size, model.resizes) == (3, (12, 12), True)
    preset = ImageClassification(crop_size=12, resize_size=16, interpolation=InterpolationMode.BICUBIC)
    assert of_torchvision(preset) == CROPPED
    pixels = torch.tensor(PICTURES).permute(0, 3, 1, 2) / 255
    literal = preset(pixels)
    np.testing.assert_allclose(model(PICTURES), Means()(literal), atol=1e-6)
    x = model.to_pixels(PICTURES)
    assert (x.shape, x.dtype, x.is_contiguous()) == ((3, 3, 12, 12), torch.float32, True)
    shown = (literal * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]).clamp(0, 1)
    torch.testing.assert_close(x, shown)
    normalised = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(model.from_pixels(x), Means()(normalised))


def test_strips_that_would_fill_the_memory_are_refused() -> None:
    model = model_of(dataclasses.replace(CROPPED, resize=(256,)))
    assert model.to_pixels(np.zeros((1, 1, 700, 3), np.uint8)).shape == (1, 3, 12, 12)
    for shape, got in (((1, 800), "800 x 1"), ((100_000, 1), "1 x 100000")):
        with pytest.raises(InputError, match=f"a picture of {got} pixels is too narrow: with a shorter side of 256 it"):
            model.to_pixels(np.zeros((1, *shape, 3), np.uint8))


def test_what_was_delivered_can_be_handed_in_again() -> None:
    for preparation in (CROPPED, Scaling((3, 12, 12)), Scaling((1, 12, 12))):
        model = model_of(preparation)
        pictures = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 1), np.uint8).repeat(3, 3)
        np.testing.assert_array_equal(model.to_images(model.to_pixels(pictures)), pictures)


def test_logged_modules_take_the_size_that_they_state() -> None:
    fixed, free, wide = (model_of(Scaling(shape)) for shape in ((3, 12, 12), (3, -1, -1), (3, -1, 30)))
    assert [(m.size, m.resizes) for m in (fixed, free, wide)] == [((12, 12), False), (None, False), (None, False)]
    np.testing.assert_array_equal(free.to_images(free.to_pixels(PICTURES)), PICTURES)
    with pytest.raises(InputError, match="means: the network takes pictures of 12 x 12 pixels, got 25 x 20"):
        fixed.to_pixels(PICTURES)
    with pytest.raises(InputError, match="means: the network takes pictures of 30 x 20 pixels, got 25 x 20"):
        wide.to_pixels(PICTURES)
    with pytest.raises(InputError, match=r"takes pixels \(batch, 3, height, width\), got \(1, 1, 20, 20\)"):
        free.from_pixels(torch.zeros(1, 1, 20, 20))


def test_timms_data_configuration() -> None:
    config = {"input_size": (3, 12, 12), "crop_pct": 0.75, "mean": MEAN, "std": STD, "interpolation": "bicubic"}
    assert of_timm(config) == CROPPED
    assert of_timm(config | {"input_size": (3, 12, 24)}).resize == (16, 32)


def test_preprocessing_as_json() -> None:
    import json

    assert preparation_from_json(json.loads(json.dumps(CROPPED.to_json()))) == CROPPED


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.floats(-2, 3, width=32), st.sampled_from([1, 3]))
def test_pictures_are_clipped_and_rounded(value: float, channels: int) -> None:
    pictures = to_images(torch.full((2, channels, 4, 5), value))
    assert (pictures.shape, pictures.dtype) == ((2, 4, 5, 3), np.uint8)
    assert (pictures == int(np.rint(np.float32(np.clip(value, 0, 1)) * np.float32(255)))).all()
