"""The layers that are described by default."""

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from conceptry.models.errors import InputError
from conceptry.models.milan.network import default_layers


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet18", ["conv1", "layer1", "layer2", "layer3", "layer4"]),
        ("alexnet", ["features.0", "features.3", "features.6", "features.8", "features.10"]),
        ("mobilenet_v2", ["features.1", "features.3", "features.6", "features.13", "features.18"]),
        ("convnext_tiny", ["features.1", "features.3", "features.5", "features.7"]),
        ("shufflenet_v2_x1_0", ["conv1", "stage2", "stage3", "stage4"]),
        ("vit_b_32", [f"encoder.layers.encoder_layer_{i}.mlp.0" for i in range(12)]),
    ],
)
def test_networks_of_torchvision(name: str, layers: list[str]) -> None:
    with torch.device("meta"):
        network = get_model(name, weights=None)
    assert default_layers(network) == layers
    assert default_layers(nn.ModuleDict({"trunk": network, "head": nn.Identity()})) == [f"trunk.{x}" for x in layers]


def test_networks_of_the_zoo() -> None:
    from conceptry.models.milan.network import load_network

    assert default_layers(load_network("zoo:emoji-clip", "cpu").module) == [
        "act3",
        "layer1",
        "layer2",
        "layer3",
        "layer4",
    ]
    assert default_layers(load_network("zoo:scenes", "cpu").module)[-1] == "layer4"


def test_networks_without_stages_ask_for_names() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    with pytest.raises(InputError, match="mine: has no stages of known names; name its layers, such as 0, 1"):
        default_layers(network, "mine")
    with torch.device("meta"), pytest.raises(InputError, match="has no stages"):  # its channels come last
        default_layers(get_model("swin_t", weights=None))
