"""The networks that classify tables, texts and images, from logistic regression to small convolutional ones.

| arch | modality | network | hidden |
|---|---|---|---|
| logistic | table | one linear layer | - |
| mlp2, mlp5 | table | 2 or 5 linear layers with ReLU between | width, 100 |
| resmlp5 | table | the same, each inner layer h -> ReLU(W h + c + h) | width, 100 |
| lstm2 | text | 2 LSTM layers, left to right; the last state decides | state, 256 |
| cnn | text | filters over 3, 4 and 5 words, each one's maximum decides (TextCNN) | filters of each width, 100 |
| lenet | image | two 5 x 5 convolutions with pooling, two hidden layers | width of the first, 120 |
| vgg | image | three stages of two 3 x 3 convolutions and a pooling | channels of the first stage, 16 |
| resnet | image | three residual blocks, then the mean over positions | channels of the first block, 16 |
| stages | image | 3 x 3 convolutions `layer1` to `layer4`, then the maximum over positions | channels of layer1, 32 |

LeNet: LeCun et al., 1998. VGG: Simonyan and Zisserman, 2015. ResNet: He et al., 2016. TextCNN: Kim, 2014.

| symbol | meaning | shape |
|---|---|---|
| x | features: standardised columns, embeddings, pixels in [0, 1] | (batch, k), (batch, L, d), (batch, C, H, W) |
| lengths | how many of the L positions are words; None for all | (batch,) |
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from conceptry.models.errors import InputError
from conceptry.models.explained.classifiers.features import PAD

ARCHITECTURES = {
    "table": ("logistic", "mlp2", "mlp5", "resmlp5"),
    "text": ("lstm2", "cnn"),
    "image": ("lenet", "vgg", "resnet", "stages"),
}
HIDDEN = {"lstm2": 256, "cnn": 100, "lenet": 120, "vgg": 16, "resnet": 16, "stages": 32}  # 100 for all others
SINGLE_LOGIT = ("logistic", "lstm2", "cnn")  # one logit, of the second class, where there are two


@dataclass(frozen=True)
class Shape:
    """All that a network is built from. `inputs`: (features,), (tokens,) or (channels, height, width)."""

    arch: str
    inputs: tuple[int, ...]
    n_outputs: int
    hidden: int
    embedding: int = 0  # d, of texts
    dropout: float = 0.0  # of the hidden layers; of embeddings too


def build_network(shape: Shape) -> nn.Module:
    """The network, with weights from torch's generator. Raises InputError for an unknown `arch`."""
    if shape.arch in ARCHITECTURES["table"]:
        return _table_network(shape)
    if shape.arch in ARCHITECTURES["text"]:
        return LSTM(shape) if shape.arch == "lstm2" else TextCNN(shape)
    if shape.arch == "lenet":
        return _lenet(shape)
    if shape.arch == "vgg":
        return _vgg(shape)
    if shape.arch == "resnet":
        return _resnet(shape)
    if shape.arch == "stages":
        return _stages(shape)
    known = ", ".join(arch for archs in ARCHITECTURES.values() for arch in archs)
    raise InputError(f"unknown architecture {shape.arch!r}; expected one of {known}")


def _table_network(shape: Shape) -> nn.Module:
    (width,), hidden = shape.inputs, shape.hidden
    if shape.arch == "logistic":
        return nn.Linear(width, shape.n_outputs)
    layers: list[nn.Module] = [nn.Linear(width, hidden), nn.ReLU()]
    for _ in range(0 if shape.arch == "mlp2" else 3):
        layers += [_Residual(nn.Linear(hidden, hidden))] if shape.arch == "resmlp5" else [nn.Linear(hidden, hidden)]
        layers += [nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout(shape.dropout), nn.Linear(hidden, shape.n_outputs))


class _Residual(nn.Module):
    """f(x) + s(x), with s the identity unless given."""

    def __init__(self, f: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.f = f
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x) + self.shortcut(x)


class _TextNetwork(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        small = torch.empty(shape.inputs[0], shape.embedding).uniform_(-0.2, 0.2)  # rare words, hardly trained, stay so
        self.embedding = nn.Embedding.from_pretrained(small, freeze=False, padding_idx=PAD)
        self.dropout = nn.Dropout(shape.dropout)


class LSTM(_TextNetwork):
    """The state after a text's own last word decides, so what is padded after it cannot matter."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.lstm = nn.LSTM(shape.embedding, shape.hidden, num_layers=2, batch_first=True)
        self.output = nn.Linear(shape.hidden, shape.n_outputs)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        states, _ = self.lstm(self.dropout(x))
        last = states[:, -1] if lengths is None else states[torch.arange(len(x), device=x.device), lengths - 1]
        return self.output(self.dropout(last))

    def train(self, mode: bool = True) -> "LSTM":
        super().train(mode)
        self.lstm.train()  # CUDA differentiates an LSTM in this mode only; with no dropout inside, it changes nothing
        return self


class TextCNN(_TextNetwork):
    """Each filter slides over the text and past both of its ends, so texts of a single word have windows too.

    Windows that start past the end of a text read zeros, and are set to 0, which no maximum over ReLU prefers.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(shape.embedding, shape.hidden, width, padding=width - 1) for width in (3, 4, 5)
        )
        self.output = nn.Linear(3 * shape.hidden, shape.n_outputs)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        lengths = torch.full((len(x),), x.shape[1], device=x.device) if lengths is None else lengths
        words = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        columns = (self.dropout(x) * words[..., None]).transpose(1, 2)
        maxima = []
        for convolution in self.convolutions:
            windows = functional.relu(convolution(columns))  # (batch, filters, L + width - 1)
            n_windows = lengths + windows.shape[2] - x.shape[1]
            real = torch.arange(windows.shape[2], device=x.device) < n_windows[:, None]
            maxima.append((windows * real[:, None]).amax(dim=2))
        return self.output(self.dropout(torch.cat(maxima, dim=1)))


class _Centre(nn.Module):
    """Pixels from [0, 1] to [-1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - 1


def _lenet(shape: Shape) -> nn.Module:
    channels, height, width = shape.inputs
    _check_size(shape, 4)
    return nn.Sequential(
        *(_Centre(), nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(16 * (height // 4) * (width // 4), shape.hidden), nn.ReLU(), nn.Dropout(shape.dropout)),
        *(nn.Linear(shape.hidden, 84), nn.ReLU(), nn.Linear(84, shape.n_outputs)),
    )


def _vgg(shape: Shape) -> nn.Module:
    channels, height, width = shape.inputs
    _check_size(shape, 8)
    layers: list[nn.Module] = [_Centre()]
    for stage in range(3):
        depth = shape.hidden * 2**stage
        layers += [*_convolution(channels, depth), nn.ReLU(), *_convolution(depth, depth), nn.ReLU(), nn.MaxPool2d(2)]
        channels = depth
    features = channels * (height // 8) * (width // 8)
    layers += [nn.Flatten(), nn.Linear(features, channels), nn.ReLU(), nn.Dropout(shape.dropout)]
    return nn.Sequential(*layers, nn.Linear(channels, shape.n_outputs))


def _resnet(shape: Shape) -> nn.Module:
    depth = shape.hidden
    layers: list[nn.Module] = [_Centre(), *_convolution(shape.inputs[0], depth), nn.ReLU()]
    for stride in (1, 2, 2):
        inner = nn.Sequential(
            *_convolution(depth, depth * stride, stride), nn.ReLU(), *_convolution(depth * stride, depth * stride)
        )
        shortcut = None if stride == 1 else nn.Conv2d(depth, depth * stride, 1, stride, bias=False)
        layers += [_Residual(inner, shortcut), nn.ReLU()]
        depth *= stride
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(depth, shape.n_outputs))


def _stages(shape: Shape) -> nn.Module:
    """Stage s of 1 to 4 has s times `hidden` channels; its output, after the ReLU, is the output of `layer<s>`."""
    layers: list[tuple[str, nn.Module]] = [("centre", _Centre())]
    channels = shape.inputs[0]
    for stage, stride in enumerate((2, 2, 2, 1), start=1):
        depth = shape.hidden * stage
        layers.append((f"layer{stage}", nn.Sequential(*_convolution(channels, depth, stride), nn.ReLU())))
        channels = depth
    layers += [("pool", nn.AdaptiveMaxPool2d(1)), ("flatten", nn.Flatten()), ("dropout", nn.Dropout(shape.dropout))]
    return nn.Sequential(OrderedDict([*layers, ("output", nn.Linear(channels, shape.n_outputs))]))


def _convolution(channels: int, depth: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, depth, 3, stride, padding=1, bias=False), nn.BatchNorm2d(depth)


def _check_size(shape: Shape, least: int) -> None:
    if min(shape.inputs[1:]) < least:
        raise InputError(f"{shape.arch} takes images of {least} x {least} pixels or more, got {shape.inputs[1:]}")
