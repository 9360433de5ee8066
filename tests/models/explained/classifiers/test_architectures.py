"""The networks: shapes, gradients, their definitions restated slowly, and no influence of what pads a batch."""

import re

import pytest
import torch
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.explained.classifiers.architectures import ARCHITECTURES, LSTM, Shape, TextCNN, build_network

SHAPES = [
    *(Shape(arch, (5,), 3, 7) for arch in ARCHITECTURES["table"]),
    *(Shape(arch, (11,), 1, 6, embedding=4) for arch in ARCHITECTURES["text"]),
    *(Shape(arch, (1, 8, 8), 4, 6) for arch in ARCHITECTURES["image"]),
    *(Shape(arch, (3, 13, 17), 2, 4) for arch in ARCHITECTURES["image"]),
]


def _network(shape: Shape) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_network(shape).eval()


def _features(shape: Shape, n: int = 3, length: int = 6) -> Tensor:
    sizes = (length, shape.embedding) if shape.embedding else shape.inputs
    return torch.rand(n, *sizes, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.arch}{shape.inputs}")
def test_outputs_and_gradients(shape: Shape):
    x = _features(shape).requires_grad_()
    outputs = _network(shape)(x)
    assert outputs.shape == (3, shape.n_outputs)
    (gradient,) = torch.autograd.grad(outputs[0].sum(), x)
    assert gradient[0].abs().max() > 0
    assert torch.equal(gradient[1:], torch.zeros_like(gradient[1:]))  # no row looks at another


@pytest.mark.parametrize(("arch", "n_linear"), [("logistic", 1), ("mlp2", 2), ("mlp5", 5), ("resmlp5", 5)])
def test_tables_have_as_many_layers_as_their_names_say(arch: str, n_linear: int):
    network = _network(Shape(arch, (5,), 3, 7))
    assert sum(isinstance(module, nn.Linear) for module in network.modules()) == n_linear


def test_residual_layers_add_their_input():
    network = _network(Shape("resmlp5", (5,), 3, 7))
    x = _features(Shape("resmlp5", (5,), 3, 7))
    first, *inner, last = [module for module in network.modules() if isinstance(module, nn.Linear)]
    h = torch.relu(x @ first.weight.T + first.bias)
    for layer in inner:
        h = torch.relu(h @ layer.weight.T + layer.bias + h)
    assert torch.allclose(network(x), h @ last.weight.T + last.bias, atol=1e-6)


def test_text_filters_restated_window_by_window():
    network = _network(Shape("cnn", (11,), 2, 3, embedding=4))
    assert isinstance(network, TextCNN)
    for length in (1, 2, 6):
        x = _features(Shape("cnn", (11,), 2, 3, embedding=4), n=1, length=length)
        maxima = []
        for convolution in network.convolutions:
            assert isinstance(convolution, nn.Conv1d)
            width = convolution.kernel_size[0]
            zeros = torch.zeros(width - 1, 4)
            text = torch.cat([zeros, x[0], zeros])
            windows = [text[i : i + width] for i in range(length + width - 1)]
            values = torch.stack([torch.einsum("fdw,wd->f", convolution.weight, window) for window in windows])
            assert convolution.bias is not None
            maxima.append(torch.relu(values + convolution.bias).amax(dim=0))
        expected = network.output(torch.cat(maxima))
        assert torch.allclose(network(x)[0], expected, atol=1e-6)


@pytest.mark.parametrize("arch", ARCHITECTURES["text"])
def test_padding_changes_nothing_whatever_it_holds(arch: str):
    shape = Shape(arch, (11,), 1, 6, embedding=4)
    network, x = _network(shape), _features(shape)
    lengths = torch.tensor([6, 3, 1])
    together = network(x, lengths)
    alone = torch.cat([network(x[i : i + 1, :length]) for i, length in enumerate(lengths)])
    assert torch.allclose(together, alone, atol=1e-6)
    longer = torch.cat([x, torch.full((3, 4, 4), 9.0)], dim=1)
    assert torch.allclose(network(longer, lengths), alone, atol=1e-6)


def test_an_lstm_in_use_can_be_differentiated_on_any_device_and_drops_nothing_out():
    network = _network(Shape("lstm2", (11,), 1, 6, embedding=4, dropout=0.5))
    assert isinstance(network, LSTM)
    x = _features(Shape("lstm2", (11,), 1, 6, embedding=4))
    assert network.lstm.training
    assert not network.dropout.training
    assert torch.equal(network(x), network(x))


def test_unknown_networks_and_images_too_small_are_refused():
    with pytest.raises(InputError, match="unknown architecture 'mlp3'; expected one of logistic, mlp2, "):
        build_network(Shape("mlp3", (5,), 3, 7))
    with pytest.raises(InputError, match=re.escape("vgg takes images of 8 x 8 pixels or more, got (6, 9)")):
        build_network(Shape("vgg", (1, 6, 9), 3, 7))
