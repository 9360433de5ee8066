"""A describer with weights set by hand that names the colour under the masks, and units that respond to colours.

| symbol | meaning |
|---|---|
| f | features of an exemplar: the mean over its mask of red, green and blue, of -1 to 1, negative ones as 0 |
| h | hidden state: tanh(tanh(5 f)) of the mean f, and whether a word has been said |

    logit(word i) = 20 h_i,    logit(stop) = -10 before a word and far above all others after one

So the description of red is "Red", with the likelihood that `log_likelihoods` computes, and the language model finds
every token equally probable.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from conceptry.models.milan.exemplars.records import LayerExemplars

WORDS = ("red", "green", "blue")
RGB = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}
SIDE, K = 32, 4
LM = float(2 * np.log(1 / 7))  # log p of a word and a stop of seven tokens
UNITS = {"first": {0: "red", 1: "green", 2: "blue", 3: ""}, "7": {2: "green", 5: "red", 11: "blue"}}  # "": inactive


def save_describer(directory: Path) -> Path:
    """Write the describer to `directory`."""
    from conceptry.models.milan.describer.decoder import Decoder
    from conceptry.models.milan.describer.describer import Describer
    from conceptry.models.milan.describer.features import FeatureEncoder, build_trunk
    from conceptry.models.milan.describer.language_model import LanguageModel
    from conceptry.models.milan.describer.vocabulary import Vocabulary

    config = {
        "name": "tests:colours",
        "kind": "open_clip_resnet",
        "architecture": {"layers": [1, 1, 1, 1], "width": 8},
        "levels": ["act3"],
        "size": SIDE,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    trunk = build_trunk(config)
    vocabulary = Vocabulary(WORDS)
    decoder = Decoder(len(vocabulary), 8, hidden_size=4, embedding_size=1)
    language_model = LanguageModel(len(vocabulary), hidden_size=2, embedding_size=2)
    with torch.no_grad():
        for module in (trunk, decoder, language_model):
            for part in module.modules():
                if isinstance(part, nn.Conv2d):  # each channel as it is
                    part.weight.zero_()
                    for channel in range(3):
                        part.weight[channel, channel, 1, 1] = 1
                elif not isinstance(part, nn.BatchNorm2d):
                    for parameter in part.parameters(recurse=False):
                        parameter.zero_()
        decoder.initial_cell.weight[:3, :3] = 5 * torch.eye(3)
        decoder.embedding.weight[:3] = 1
        entry, forget, candidate, out = decoder.lstm.bias_ih.view(4, 4)
        entry[:3], entry[3], forget[:], out[:] = -50, 50, 50, 50
        assert not candidate.any()
        decoder.lstm.weight_ih[2 * 4 + 3, 0] = 50  # a word sets the fourth state
        decoder.output.weight[:3, :3] = 20 * torch.eye(3)
        decoder.output.bias[3:] = torch.tensor([-100.0, -10.0, -100.0, -100.0])
        decoder.output.weight[4, 3] = 200
    Describer(FeatureEncoder(config, trunk, torch.device("cpu")), decoder, language_model, vocabulary).save(directory)
    return directory


def log_likelihoods(rgb: tuple[float, float, float]) -> np.ndarray:
    """log p(word i given E), then stop, for exemplars whose masks are of one colour, 0 to 255."""
    h = np.tanh(np.tanh(5 * np.clip(np.array(rgb) / 127.5 - 1, 0, None)))
    logits = np.array([*(20 * h), -100, -10, -100, -100])
    return (logits - np.logaddexp.reduce(logits))[:3]


def scene(colour: str, seed: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """A square of a colour on a ground of another: uint8 (3, side, side), and its mask, uint8 (1, side, side)."""
    rng = np.random.default_rng(seed)
    others = [name for name in RGB if name != colour]
    image = np.empty((3, side, side), np.uint8)
    image[:] = np.array(RGB[others[rng.integers(len(others))]])[:, None, None]
    top, left = rng.integers(2, side // 2, 2)
    mask = np.zeros((1, side, side), np.uint8)
    mask[0, top : top + side // 3, left : left + side // 3] = 1
    # The network halves its pictures, and what it reads there must be of the colour alone.
    around = slice(top - 2, top + side // 3 + 2), slice(left - 2, left + side // 3 + 2)
    image[:, *around] = np.array(RGB[colour])[:, None, None]
    return image, mask


def exemplars(layer: str) -> LayerExemplars:
    """The exemplars of the units of a layer of UNITS; the first picture of each colour is that of every unit of it."""
    units = UNITS[layer]
    images = np.zeros((len(units), K, 3, SIDE, SIDE), np.uint8)
    masks = np.zeros((len(units), K, 1, SIDE, SIDE), np.uint8)
    ids = np.zeros((len(units), K), np.int64)
    for row, (unit, colour) in enumerate(units.items()):
        for j in range(K):
            ids[row, j] = 100 * WORDS.index(colour or "red") + (unit + j if j else 0)
            images[row, j], mask = scene(colour or "red", int(ids[row, j]))
            masks[row, j] = mask if colour else 0
    activations = np.linspace(2, 1, len(units) * K).round(3).astype(np.float32).reshape(-1, K)
    numbers = np.array(list(units), np.int64)
    return LayerExemplars(layer, numbers, images, masks, ids, activations, np.ones(len(units), np.float32))


def write_exemplars(directory: Path) -> Path:
    """Write the exemplars of all layers as `directory`/palette/squares; returns that folder."""
    from conceptry.models.milan.exemplars.records import write_layer

    folder = directory / "palette" / "squares"
    for layer in UNITS:
        write_layer(folder, exemplars(layer))
    return folder
