"""Units of which it is known what they respond to: neurons planted in the emoji encoder, and arithmetic on colours.

A planted neuron is a 1x1 convolution on the trunk of the encoder that responds to one concept: an object, a colour or
a pattern of the emoji world. It is fitted on exact masks of training scenes:

    minimise over w, b   sum over scenes and cells (y - w . v - b)^2 + l |w|^2

| symbol | meaning | shape |
|---|---|---|
| v | what a level of the trunk makes of a cell of a scene, divided by its root mean square | (C,) |
| y | share of the cell that the concept covers; a colour or pattern covers the background | |
| w, b | weights of the concept's unit | (C,), 1 |

Each concept has one unit, on the level where its strongest pictures are right most often (on other training scenes; of
equals, the finer level). Concepts that no level finds in at least `LEAST_RIGHT` of them are left out. The describer
never sees these units in training: their exemplars, from held-out scenes, say whether it names neurons at all.

Colour units are arithmetic on the channels r, g, b of an image in [0, 1], each the mean of a window of 9 x 9 pixels.
They are known by construction, without any training. The window is what a receptive field is to a real unit: an area
of the colour counts, a speck does not.

| unit | activation | greatest for |
|---|---|---|
| red | r - max(g, b) | (1, 0, 0) |
| green | g - max(r, b) | (0, 1, 0) |
| blue | b - max(r, g) | (0, 0, 1) |
| yellow | min(r, g) - b | (1, 1, 0) |
| purple | min(r, b) - g | (1, 0, 1) |
| black | 1 - max(r, g, b) | (0, 0, 0) |
| white | min(r, g, b) | (1, 1, 1) |
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from conceptry.models.errors import InputError
from conceptry.models.manifest import read_json, read_tensors, write_json
from conceptry.models.method import Progress
from conceptry.models.milan.describer.features import FeatureEncoder, load_feature_encoder
from conceptry.models.shipped import weights_directory
from conceptry.models.zoo.emoji_world.emoji import VOCABULARY
from conceptry.models.zoo.emoji_world.scenes import EmojiScenes, Scene

NAME, CONFIG, WEIGHTS = "emoji-probes", "probes.json", "model.safetensors"
LEVELS = ("layer2", "layer3", "layer4")
LEAST_RIGHT, STRONGEST = 0.8, 15
_BATCH = 128


class PlantedUnits(nn.Module):
    """Pixels (n, 3, 64, 64) in [0, 1] -> activations of all units, by layer.

    The trunk is lent by `encoder`, on the CPU, and no part of this module. Layers to hook are called `probes.LEVEL`;
    unit `i` of one responds to `concepts["probes.LEVEL"][i]`.
    """

    def __init__(self, encoder: FeatureEncoder, concepts: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__()
        self.concepts = {f"probes.{level}": tuple(words) for level, words in concepts.items()}
        self._encoder = encoder
        pixels = torch.zeros(1, 3, encoder.size, encoder.size)
        found = zip(encoder.levels, encoder.levels_of(pixels), strict=True)
        channels = {level: values.shape[1] for level, values in found}
        self.probes = nn.ModuleDict(
            {level: nn.Conv2d(channels[level], len(words), kernel_size=1) for level, words in concepts.items()}
        )

    @property
    def truths(self) -> dict[str, str]:
        """LAYER:UNIT -> concept, for every unit."""
        return {f"{layer}:{i}": word for layer, words in self.concepts.items() for i, word in enumerate(words)}

    @property
    def trunk(self) -> nn.Module:
        """The network below the units, no part of this module."""
        return self._encoder.trunk

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        levels = zip(self._encoder.levels, self._encoder.levels_of(pixels), strict=True)
        return {level: self.probes[level](values) for level, values in levels if level in self.probes}


def load_planted_units() -> PlantedUnits:
    """The planted neurons that ship with conceptry."""
    return read_planted_units(weights_directory(NAME, "probes"))


def read_planted_units(directory: Path) -> PlantedUnits:
    """The planted neurons in a folder that `save_planted_units` wrote."""
    if not (directory / CONFIG).is_file() or not (directory / WEIGHTS).is_file():
        raise InputError(f"{directory}: holds no {CONFIG} and {WEIGHTS}; expected a folder of planted neurons")
    config = read_json(directory / CONFIG)
    units = PlantedUnits(
        load_feature_encoder(config["encoder"], "cpu"), {k: tuple(v) for k, v in config["concepts"].items()}
    )
    units.probes.load_state_dict({name: value.float() for name, value in read_tensors(directory / WEIGHTS).items()})
    return units.eval().requires_grad_(False)


def save_planted_units(units: PlantedUnits, directory: Path) -> None:
    """Write probes.json and model.safetensors (float16)."""
    from safetensors.torch import save

    directory.mkdir(parents=True, exist_ok=True)
    concepts = {layer.removeprefix("probes."): list(words) for layer, words in units.concepts.items()}
    write_json(directory / CONFIG, {"encoder": units._encoder.name, "concepts": concepts})
    state = {name: value.half().contiguous() for name, value in units.probes.state_dict().items()}
    (directory / WEIGHTS).write_bytes(save(state))


def plant(
    encoder: FeatureEncoder, n_scenes: int = 8192, seed: int = 0, ridge: float = 1.0, progress: Progress | None = None
) -> PlantedUnits:
    """Fit a unit for every concept on `n_scenes` training scenes, and choose its level on a quarter as many others."""
    tell = progress or (lambda _what, _share: None)
    fits = {level: _Fit() for level in LEVELS}
    for done, scenes in _batches(EmojiScenes("train", n_scenes, seed)):
        for level, values in _levels(encoder, scenes):
            fits[level].add(values, _coverage(scenes, values.shape[-1]))
        tell("fitting planted neurons", 0.8 * done / n_scenes)
    solved = {level: fit.solve(ridge) for level, fit in fits.items()}
    others = EmojiScenes("train", n_scenes // 4, seed + 1)
    peaks: dict[str, list[Tensor]] = {level: [] for level in LEVELS}
    for done, scenes in _batches(others):
        for level, values in _levels(encoder, scenes):
            weight, bias = solved[level]
            activations = torch.einsum("oc,nchw->nohw", weight, values) + bias[:, None, None]
            peaks[level].append(activations.amax(dim=(2, 3)))
        tell("choosing their levels", 0.8 + 0.2 * done / len(others))
    return _chosen(encoder, solved, {level: torch.cat(parts) for level, parts in peaks.items()}, others)


class _Fit:
    """Sums of ridge regression, in float64: the bias is the weight of a constant feature."""

    def __init__(self) -> None:
        self.gram: Tensor | float = 0.0
        self.moments: Tensor | float = 0.0

    def add(self, values: Tensor, targets: Tensor) -> None:
        rows = values.permute(0, 2, 3, 1).flatten(0, 2)
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
        self.gram = self.gram + (rows.T @ rows).double()
        self.moments = self.moments + (rows.T @ targets).double()

    def solve(self, ridge: float) -> tuple[Tensor, Tensor]:
        assert isinstance(self.gram, Tensor)  # there was a batch
        count = self.gram[-1, -1]
        scale = (self.gram.diagonal() / count).sqrt().clamp_min(1e-3)
        scaled = self.gram / count / scale[:, None] / scale[None, :]
        penalty = torch.full_like(scale, ridge * 1e-3)
        penalty[-1] = 0
        solution = torch.linalg.solve(scaled + penalty.diag(), self.moments / count / scale[:, None]) / scale[:, None]
        return solution[:-1].T.float().contiguous(), solution[-1].float()


def _batches(data: EmojiScenes):
    for start in range(0, len(data), _BATCH):
        stop = min(start + _BATCH, len(data))
        yield stop, [data[i] for i in range(start, stop)]


def _levels(encoder: FeatureEncoder, scenes: list[Scene]):
    images = torch.from_numpy(np.stack([scene.image for scene in scenes]).transpose(0, 3, 1, 2).copy())
    for level, values in zip(encoder.levels, encoder.pyramid(images), strict=True):
        if level in LEVELS:
            yield level, values


def _coverage(scenes: list[Scene], side: int) -> Tensor:
    """float32 (n * side * side, concepts): the share of each cell that each concept covers."""
    y = np.zeros((len(scenes), side, side, len(VOCABULARY)), dtype=np.float32)
    column = {word: i for i, word in enumerate(VOCABULARY)}
    for target, scene in zip(y, scenes, strict=True):
        parts = [*zip(scene.objects, scene.masks, strict=True)]
        parts += [(scene.colour, scene.background_mask), (scene.pattern, scene.background_mask)]
        for word, mask in parts:
            cells = mask.reshape(side, mask.shape[0] // side, side, -1)
            target[:, :, column[word]] = cells.mean(axis=(1, 3))
    return torch.from_numpy(y.reshape(-1, len(VOCABULARY)))


def _chosen(
    encoder: FeatureEncoder, solved: dict[str, tuple[Tensor, Tensor]], peaks: dict[str, Tensor], data: EmojiScenes
) -> PlantedUnits:
    shown = np.array([[word in data.concepts(i) for word in VOCABULARY] for i in range(len(data))])
    right = {level: np.take_along_axis(shown, _strongest(found), axis=0).mean(axis=0) for level, found in peaks.items()}
    shares = np.stack([right[level] for level in LEVELS])
    best = shares.argmax(axis=0)  # of equals the first, the finest
    concepts = {
        level: tuple(w for i, w in enumerate(VOCABULARY) if best[i] == n and shares[n, i] >= LEAST_RIGHT)
        for n, level in enumerate(LEVELS)
    }
    units = PlantedUnits(encoder, {level: words for level, words in concepts.items() if words})
    with torch.no_grad():
        for level, words in concepts.items():
            rows = [VOCABULARY.index(word) for word in words]
            if rows:
                units.probes[level].weight.copy_(solved[level][0][rows][:, :, None, None])  # type: ignore[operator]  # a Conv2d
                units.probes[level].bias.copy_(solved[level][1][rows])  # type: ignore[operator]  # as above
    return units.eval().requires_grad_(False)


def _strongest(peaks: Tensor) -> np.ndarray:
    """(15, concepts): the scenes of the greatest activations."""
    return peaks.argsort(dim=0, descending=True, stable=True)[:STRONGEST].numpy()


COLOUR_UNITS = ("red", "green", "blue", "yellow", "purple", "black", "white")
_WINDOW = 9  # pixels


class ColourUnits(nn.Module):
    """(n, 3, H, W) in [0, 1] -> (n, 7, H, W); unit `i` responds to `COLOUR_UNITS[i]`. Layer `units` puts them out."""

    def __init__(self) -> None:
        super().__init__()
        self.units = _Arithmetic()

    def forward(self, pixels: Tensor) -> Tensor:
        # Beyond the border nothing counts: the mean is over the pixels that there are.
        blurred = functional.avg_pool2d(pixels, _WINDOW, stride=1, padding=_WINDOW // 2, count_include_pad=False)
        return self.units(blurred)


class _Arithmetic(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        r, g, b = pixels.unbind(dim=1)
        return torch.stack(
            [
                r - torch.maximum(g, b),
                g - torch.maximum(r, b),
                b - torch.maximum(r, g),
                torch.minimum(r, g) - b,
                torch.minimum(r, b) - g,
                1 - pixels.amax(dim=1),
                pixels.amin(dim=1),
            ],
            dim=1,
        )
