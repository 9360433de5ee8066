"""Features of exemplars: against the formula in float64, and encoders from files."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.models import alexnet, resnet18

from conceptry.models.encoders import load_encoder
from conceptry.models.errors import InputError
from conceptry.models.milan.describer.features import load_feature_encoder, pooled, read_feature_encoder


@pytest.fixture(scope="module")
def exemplars() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 2, 3, 64, 64), dtype=np.uint8)
    masks = np.zeros((3, 2, 1, 64, 64), dtype=np.uint8)
    masks[0, 0, 0, 10:50, 5:40] = 1
    masks[0, 1, 0, :32] = 1
    masks[1, 0] = 1
    return images, masks


def literal_pooling(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Half-pixel bilinear sampling of one mask (H, W), then the weighted sum of values (C, h, w), one by one."""
    (n_channels, height, width), (rows, columns) = values.shape, mask.shape
    weights = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y, x = (max((p + 0.5) * size / n - 0.5, 0) for p, size, n in ((i, rows, height), (j, columns, width)))
            top, left = int(y), int(x)
            bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            upper = mask[top, left] * (1 - (x - left)) + mask[top, right] * (x - left)
            lower = mask[bottom, left] * (1 - (x - left)) + mask[bottom, right] * (x - left)
            weights[i, j] = upper * (1 - (y - top)) + lower * (y - top)
    if weights.sum():
        weights /= weights.sum()
    return np.array([(values[c] * weights).sum() for c in range(n_channels)])


@pytest.mark.parametrize("size", [64, 32, 7, 2])
def test_a_level_is_pooled_as_the_formula_says(size: int) -> None:
    rng = np.random.default_rng(size)
    values, masks = rng.normal(size=(3, 4, size, size)), np.zeros((3, 1, 64, 64))
    masks[0, 0] = rng.random((64, 64)) > 0.7
    masks[1, 0, 20:60, 3:50] = 1
    got = pooled(torch.from_numpy(values), torch.from_numpy(masks))
    expected = [literal_pooling(value, mask[0]) for value, mask in zip(values, masks, strict=True)]
    np.testing.assert_allclose(got, np.stack(expected), atol=1e-12)
    assert not got[2].any()  # an empty mask stays zero


def test_emoji_features_are_those_of_the_visual_trunk(exemplars) -> None:
    images, masks = exemplars
    encoder = load_feature_encoder("zoo:emoji-clip", "cpu")
    assert encoder.n_features == 976
    got = encoder(images, masks)
    assert got.shape == (3, 2, 976)
    visual: Any = load_encoder("zoo:emoji-clip", "cpu").model.visual  # type: ignore[attr-defined]
    levels: list[torch.Tensor] = []
    modules = (visual.act3, visual.layer1, visual.layer2, visual.layer3, visual.layer4)
    hooks = [module.register_forward_hook(lambda _, __, out: levels.append(out.clone())) for module in modules]
    with torch.no_grad():
        visual((torch.from_numpy(images[0]).float() / 255 - 0.5) / 0.5)
    for hook in hooks:
        hook.remove()
    expected = [pooled(level, torch.from_numpy(masks[0]).float()) for level in levels]
    torch.testing.assert_close(got[0], torch.cat(expected, dim=-1), atol=1e-4, rtol=1e-4)
    assert not got[2].any()


def test_a_unit_has_the_same_features_alone(exemplars) -> None:
    images, masks = exemplars
    encoder = load_feature_encoder("zoo:emoji-clip", "cpu")
    together = encoder(images, masks)
    assert torch.equal(encoder(images[1:2], masks[1:2])[0], together[1])
    assert torch.equal(encoder(torch.from_numpy(images), torch.from_numpy(masks) * 255), together)
    images = images.copy()
    images.setflags(write=False)  # as files that are read in place
    assert torch.equal(encoder(images, masks.astype(bool)), together)
    assert encoder(images[:0], masks[:0]).shape == (0, 2, 976)


@pytest.mark.parametrize(("architecture", "n_features"), [("resnet18", 1024), ("alexnet", 1152)])
def test_torchvision_encoders(architecture: str, n_features: int, tmp_path, exemplars) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = {"resnet18": resnet18, "alexnet": alexnet}[architecture]().eval()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "net.pth")
    encoder = load_feature_encoder(f"torchvision:{architecture}@{tmp_path / 'net.pth'}", "cpu")
    assert encoder.n_features == n_features
    images, masks = (part[:1, :1] for part in exemplars)
    got = encoder(images, masks)[0]
    x = functional.interpolate(torch.from_numpy(images[0]) / 255, (224, 224), mode="bilinear", antialias=True)
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    first: Any = network.conv1 if architecture == "resnet18" else network.features[0]
    with torch.no_grad():
        expected = pooled(first(x), torch.from_numpy(masks[0]).float())
    torch.testing.assert_close(got[:, : expected.shape[1]], expected, atol=1e-5, rtol=1e-4)
    encoder.save(tmp_path / "saved")
    again = read_feature_encoder(tmp_path / "saved", "cpu")
    assert torch.equal(again(images, masks)[0], got)
    assert again.name == f"torchvision:{architecture}@net.pth"


def test_what_does_not_fit_is_refused(tmp_path, exemplars) -> None:
    images, masks = exemplars
    encoder = load_feature_encoder("zoo:emoji-clip", "cpu")
    with pytest.raises(InputError, match=r"images must be of shape \(n, k, 3, H, W\).*got \(3, 2, 3, 64, 64\) and"):
        encoder(images, masks[:, :1])
    with pytest.raises(InputError, match="images must be of type uint8, got float64"):
        encoder(images / 255, masks)
    with pytest.raises(InputError, match="unknown feature encoder 'zoo:emoji'; expected one such as zoo:emoji-clip"):
        load_feature_encoder("zoo:emoji")
    with pytest.raises(InputError, match="no such file"):
        load_feature_encoder(f"torchvision:resnet18@{tmp_path / 'none.pth'}", "cpu")
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "small.pth")
    with pytest.raises(InputError, match="the weights do not fit the network"):
        load_feature_encoder(f"torchvision:resnet18@{tmp_path / 'small.pth'}", "cpu")
    with pytest.raises(InputError, match=r"holds no encoder\.json"):
        read_feature_encoder(tmp_path, "cpu")
