"""Ablation against networks with the units' weights removed by hand; hooks gone afterwards; other threads untouched."""

import re
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.explained.classifiers.architectures import Shape, build_network
from conceptry.models.explained.classifiers.classifier import Classifier, Description
from conceptry.models.milan.ablation import (
    LabelledImages,
    ablated,
    accuracy,
    accuracy_under_ablation,
    by_layer,
    random_like,
)


class Tokens(nn.Module):
    """A layer of tokens (n, T, units) between two others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x))).mean(dim=1)


def _model(n_outputs: int = 3) -> Classifier:
    shape = Shape("stages", (3, 16, 16), n_outputs, 4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(shape)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):  # as after a training
                module.running_mean = torch.randn(module.num_features) * 0.1
                module.weight.data.uniform_(0.5, 2)
                module.bias.data.normal_()
    classes = tuple(f"class {k}" for k in range(max(n_outputs, 2)))
    return Classifier("zoo:test", Description(shape, "image", "logits", classes), network, torch.device("cpu"))


def _pixels(n: int = 6) -> Tensor:
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def _hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) for part in module.modules())


def test_maps_without_a_unit_are_those_of_a_network_whose_unit_has_no_weights():
    model, x = _model(), _pixels()
    by_hand = _model()
    for stage, units in (("layer2", [1, 3]), ("layer4", [0])):
        norm = getattr(by_hand.network, stage)[1]
        norm.weight.data[units], norm.bias.data[units] = 0, 0  # then a ReLU of 0
    before = model.from_pixels(x)
    with ablated(model.module, {"layer2": [1, 3], "layer4": [0], "layer1": []}):
        assert torch.allclose(model.from_pixels(x), by_hand.from_pixels(x), atol=1e-6)
        with ablated(model.module, {"layer2": [0, 2, 4, 5, 6, 7]}):  # the units of both are silent
            by_hand.network.layer2[1].weight.data.zero_()  # type: ignore[index,union-attr]
            by_hand.network.layer2[1].bias.data.zero_()  # type: ignore[index,union-attr]
            assert torch.allclose(model.from_pixels(x), by_hand.from_pixels(x), atol=1e-6)
    assert torch.equal(model.from_pixels(x), before)
    assert not _hooks(model.module)


def test_tokens_and_features_lose_their_last_axis_at_the_unit():
    module, x = Tokens().eval(), torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    hidden = torch.relu(module.first(x))
    hidden[:, :, 1] = 0
    with ablated(module, {"first": [1]}):
        assert torch.allclose(module(x), module.last(hidden).mean(dim=1))
    model = _model()
    flat = model.network.flatten(model.network.pool(model.network.layer4(  # type: ignore[operator]
        model.network.layer3(model.network.layer2(model.network.layer1(model.network.centre(_pixels())))))))  # type: ignore[operator]  # fmt: skip
    flat[:, 2] = 0
    with ablated(model.module, {"flatten": [2]}):
        assert torch.allclose(model.from_pixels(_pixels()), model.network.output(flat), atol=1e-6)  # type: ignore[operator]


def test_the_module_is_left_as_it_was_found_whatever_happens():
    model = _model()
    model.module.train()
    handle = model.module.register_forward_hook(lambda *_: None)
    with ablated(model.module, {"layer1": [0]}):
        assert not model.module.training
    with pytest.raises(ZeroDivisionError), ablated(model.module, {"layer1": [0]}):
        raise ZeroDivisionError
    assert model.module.training
    assert _hooks(model.module) == 1
    handle.remove()


def test_another_thread_reads_the_whole_network_meanwhile():
    model, x = _model(), _pixels()
    model.module.eval()
    whole = model.from_pixels(x)
    inside, done = Event(), Event()

    def ablate() -> Tensor:
        with ablated(model.module, {"layer4": list(range(16))}):
            inside.set()
            assert done.wait(10)
            return model.from_pixels(x)

    with ThreadPoolExecutor(1) as pool:
        silent = pool.submit(ablate)
        assert inside.wait(10)
        assert torch.equal(model.from_pixels(x), whole)
        done.set()
        bias = model.network.output.bias  # type: ignore[union-attr]
        assert torch.allclose(silent.result(), bias.expand(6, 3))  # type: ignore[operator]


def test_accuracy_is_the_share_of_largest_outputs():
    model, x = _model(), _pixels(10)
    named = model.from_pixels(x).argmax(dim=1).numpy()
    labels = named.copy()
    labels[:4] = (labels[:4] + 1) % 3
    assert accuracy(model, LabelledImages(x, labels), batch_size=3) == pytest.approx(0.6)
    single = _model(1)
    above = (single.from_pixels(x)[:, 0] > 0).long().numpy()
    assert accuracy(single, LabelledImages(x, above)) == 1
    with pytest.raises(InputError, match="accuracy is that of one picture or more, got none"):
        accuracy(model, LabelledImages(x[:0], labels[:0]))


def test_curves_ablate_the_first_units_of_the_order():
    model, x = _model(), _pixels(20)
    data = LabelledImages(x, model.from_pixels(x).argmax(dim=1).numpy())
    order = [("layer4", 3), ("layer1", 0), ("layer4", 1), *(("layer3", unit) for unit in range(12))]
    seen: list[int] = []
    found = accuracy_under_ablation(model, data, order, (0, 2, 15), on_count=seen.append)
    assert seen == [0, 2, 15]
    assert found[0] == 1
    assert found[1] == accuracy(model, data, [("layer1", 0), ("layer4", 3)])
    assert found[2] == accuracy(model, data, order)
    with pytest.raises(InputError, match=re.escape("unit 3 of layer layer4 is in the order twice")):
        accuracy_under_ablation(model, data, [*order, ("layer4", 3)], (1,))
    with pytest.raises(InputError, match=re.escape("counts must lie between 0 and the 15 units of the order, got 16")):
        accuracy_under_ablation(model, data, order, (0, 16))


def test_random_units_are_of_the_same_layers_and_each_there_once():
    units = [("b", 3), ("a", 1), ("b", 7), ("b", 1)]
    known = {"a": [1], "b": [1, 3, 5, 7, 9], "c": [0]}
    for seed in range(20):
        drawn = random_like(units, known, np.random.default_rng(seed))
        assert [layer for layer, _ in drawn] == ["b", "a", "b", "b"]
        assert len(set(drawn)) == 4
        assert all(unit in known[layer] for layer, unit in drawn)
    assert random_like(units, known, np.random.default_rng(3)) == random_like(units, known, np.random.default_rng(3))
    counts = np.zeros(10)
    for seed in range(300):
        counts[[unit for layer, unit in random_like(units, known, np.random.default_rng(seed)) if layer == "b"]] += 1
    assert np.allclose(counts[[1, 3, 5, 7, 9]] / 300, 0.6, atol=0.1)
    assert by_layer(units) == {"b": [3, 7, 1], "a": [1]}


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ({"layer5": [0]}, "zoo:test: has no layer 'layer5'; expected one such as layer"),
        ({"layer1": [4]}, "zoo:test: layer 'layer1' has the units 0 to 3, there is no unit 4"),
        ({"layer1": [-1]}, "zoo:test: layer 'layer1' has the units 0 to 3, there is no unit -1"),
    ],
)
def test_what_is_not_there_is_named(units: dict[str, list[int]], message: str):
    model = _model()
    with pytest.raises(InputError, match=re.escape(message)), ablated(model.module, units, model.name):
        model.from_pixels(_pixels())
    assert not _hooks(model.module)


def test_a_layer_of_several_tensors_is_refused():
    module = nn.LSTM(2, 3)
    wrapped = nn.Sequential(module)
    message = "model: layer '0' must put out maps (n, units, h, w), tokens (n, T, units) or features (n, units)"
    with pytest.raises(InputError, match=re.escape(message)), ablated(wrapped, {"0": [0]}):
        wrapped(torch.zeros(1, 1, 2))
