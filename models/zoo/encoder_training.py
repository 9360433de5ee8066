"""Train the zoo's small CLIP on scenes of the emoji world, into a folder that open_clip's `local-dir:` reads.

Each step draws fresh scenes of the train split and minimises, with AdamW and a cosine schedule,
caption_loss + word_loss + sum_weight * sum_loss + overlap_weight * overlap_loss (see `encoder_losses`).

The folder:
| file | content |
|---|---|
| open_clip_config.json, open_clip_model.safetensors | the model as open_clip reads it, float16 |
| tokens.json | the byte-pair ids its token table holds, and its context length |
| vocabulary.txt | the words, one a line, least frequent first |
| image_mean.safetensors | `image_mean`, float32 (d,): mean of unit-norm embeddings of training scenes |
| ATTRIBUTION.txt | whose pictures these are |

The same settings on the same number of threads give the same weights, byte for byte.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from conceptry.models.artifacts import write_json, write_lines
from conceptry.models.encoders.tokens import CompactTokenizer, used_bpe_ids
from conceptry.models.errors import InputError
from conceptry.models.zoo import encoder_losses as losses
from conceptry.models.zoo.captions import known_texts, prompts
from conceptry.models.zoo.emoji import ATTRIBUTION, COLOURS, OBJECTS, PATTERNS
from conceptry.models.zoo.encoder_model import (
    CONTEXT_LENGTH,
    MEAN,
    STD,
    TextTower,
    build_model,
    model_config,
    to_pixels,
)
from conceptry.models.zoo.scenes import EmojiScenes, Scene

OnStep = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class EncoderTraining:
    """Settings of a training. Raises InputError for a value outside its bounds."""

    n_objects: int = len(OBJECTS)  # how many of the objects, evenly spaced through the list; 12 or more
    steps: int = 2000
    batch_size: int = 128  # scenes a step, 2 or more
    learning_rate: float = 1.5e-3  # at its peak, after `warmup` steps; falls to 0 on a cosine
    warmup: int = 100
    weight_decay: float = 0.05  # of matrices and kernels; gains and biases have none
    two_objects: float = 0.6  # share of scenes with two objects
    sum_weight: float = 4.0
    overlap_weight: float = 1.0
    embed_dim: int = 128  # d
    width: int = 16  # channels of the image trunk's first stage, / 4
    text_width: int = 128
    text_layers: int = 2
    mean_scenes: int = 8192  # training scenes that the image mean is taken over
    seed: int = 0

    def __post_init__(self) -> None:
        bounds = {"n_objects": (12, len(OBJECTS)), "two_objects": (0, 1), "batch_size": (2, math.inf)}
        may_be_zero = {"seed", "warmup", "weight_decay", "sum_weight", "overlap_weight"}
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = bounds.get(field.name, (0, math.inf))
            whole = isinstance(field.default, int)
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                raise InputError(f"{field.name} must be {'a whole number' if whole else 'a number'}, got {value!r}")
            above = field.name not in bounds and field.name not in may_be_zero
            if not low <= value <= high or (above and value == 0) or not math.isfinite(value):
                limit = f"from {low} to {high}" if high < math.inf else f"{'above' if above else 'at least'} {low}"
                raise InputError(f"{field.name} must be {limit}, got {value!r}")

    @property
    def objects(self) -> tuple[str, ...]:
        """The objects that are pictured."""
        names = tuple(OBJECTS)
        return tuple(names[i * len(names) // self.n_objects] for i in range(self.n_objects))

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words that the encoder is taught, least frequent first."""
        return (*self.objects, *COLOURS, *PATTERNS)


def training_scenes(settings: EncoderTraining, n_objects: int) -> EmojiScenes:
    """The scenes that training draws from: item `step * batch_size + i` of this set is item `i` of a step."""
    size = settings.steps * settings.batch_size + settings.mean_scenes
    return EmojiScenes("train", size, settings.seed, n_objects, settings.objects)


def train_encoder(settings: EncoderTraining, directory: Path, on_step: OnStep | None = None) -> None:
    """Train an encoder and write its files into `directory`, which is made.

    on_step: called after each step with its number (from 1) and the values of the losses.
    """
    tokenizer = CompactTokenizer(used_bpe_ids(known_texts(settings.vocabulary)), CONTEXT_LENGTH)
    sizes = (settings.embed_dim, settings.width, settings.text_width, settings.text_layers)
    config = model_config(len(tokenizer), *sizes)
    model = build_model(config, settings.seed)
    scale, bias = nn.Parameter(torch.tensor(math.log(20.0))), nn.Parameter(torch.tensor(-5.0))
    optimizer = _optimizer(settings, [*model.parameters(), scale, bias])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings))
    texts, words = TextTower(model), _WordTexts(settings.vocabulary, tokenizer)
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, 1]))
    for step, scenes in enumerate(_batches(settings, rng), start=1):
        y = truth(scenes, settings.vocabulary)
        z = model.encode_image(to_pixels([scene.image for scene in scenes]), normalize=True)
        t = texts(tokenizer([scene.caption for scene in scenes]))
        c, v = losses.centred(texts(words.draw(rng))), losses.centred(z)
        parts = {
            "caption_loss": losses.caption_loss(z, t, model.logit_scale.exp()),
            "word_loss": losses.word_loss(v, c, y, scale.exp(), bias),
            "sum_loss": losses.sum_loss(v, c, y),
            "overlap_loss": losses.overlap_loss(c),
        }
        weights = {"sum_loss": settings.sum_weight, "overlap_loss": settings.overlap_weight}
        loss = torch.stack([weights.get(name, 1.0) * part for name, part in parts.items()]).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))  # as CLIP's authors do
        if on_step:
            on_step(step, {"loss": loss.item(), **{name: part.item() for name, part in parts.items()}})
    _write(settings, model, config, tokenizer, directory)


def truth(scenes: Sequence[Scene], vocabulary: Sequence[str]) -> Tensor:
    """float32 (n_scenes, n_words): 1 where the word is true of the scene. KeyError if it has a word of no column."""
    column = {word: i for i, word in enumerate(vocabulary)}
    y = torch.zeros(len(scenes), len(vocabulary))
    for row, scene in zip(y, scenes, strict=True):
        row[[column[word] for word in scene.concepts]] = 1
    return y


def _batches(settings: EncoderTraining, rng: np.random.Generator) -> Iterator[list[Scene]]:
    single, double = training_scenes(settings, 1), training_scenes(settings, 2)
    for first in range(0, settings.steps * settings.batch_size, settings.batch_size):
        two = rng.random(settings.batch_size) < settings.two_objects
        yield [(double if pair else single)[first + i] for i, pair in enumerate(two)]


class _WordTexts:
    """Tokens of every word: half the time the word alone, else one of its prompts for each."""

    def __init__(self, vocabulary: Sequence[str], tokenizer: CompactTokenizer) -> None:
        self._alone = tokenizer(vocabulary)
        self._prompts = [tokenizer(prompts(word)) for word in vocabulary]

    def draw(self, rng: np.random.Generator) -> Tensor:
        if rng.random() < 0.5:
            return self._alone
        return torch.stack([tokens[rng.integers(len(tokens))] for tokens in self._prompts])


def _optimizer(settings: EncoderTraining, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    decayed = {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay}
    others = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
    return torch.optim.AdamW([decayed, others], lr=settings.learning_rate, betas=(0.9, 0.98))


def _rate(step: int, settings: EncoderTraining) -> float:
    warm = (step + 1) / settings.warmup if step < settings.warmup else 1.0
    return warm * (1 + math.cos(math.pi * step / settings.steps)) / 2


def _write(
    settings: EncoderTraining, model: nn.Module, config: dict, tokenizer: CompactTokenizer, directory: Path
) -> None:
    """Write the folder. The image mean is taken after rounding to float16: it belongs to the weights that ship."""
    directory.mkdir(parents=True, exist_ok=True)
    state = {name: t.half() if t.is_floating_point() else t for name, t in model.state_dict().items()}
    model.load_state_dict(state)
    weights = save({name: t.contiguous() for name, t in state.items()})
    (directory / "open_clip_model.safetensors").write_bytes(weights)
    preprocess = {"mean": MEAN, "std": STD, "interpolation": "bilinear", "resize_mode": "shortest"}
    write_json(directory / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preprocess})
    tokens = {"bpe_ids": tokenizer.bpe_ids, "context_length": tokenizer.context_length}
    write_json(directory / "tokens.json", tokens)
    write_lines(directory / "vocabulary.txt", list(settings.vocabulary))
    (directory / "image_mean.safetensors").write_bytes(save({"image_mean": _image_mean(settings, model)}))
    (directory / "ATTRIBUTION.txt").write_text(ATTRIBUTION, encoding="utf-8")


@torch.no_grad()
def _image_mean(settings: EncoderTraining, model: nn.Module) -> Tensor:
    scenes = EmojiScenes("train", settings.mean_scenes, settings.seed + 1, None, settings.objects)
    total = torch.zeros(settings.embed_dim, dtype=torch.float64)
    model.eval()
    for start in range(0, len(scenes), 256):
        images = [scenes[i].image for i in range(start, min(start + 256, len(scenes)))]
        total += model.encode_image(to_pixels(images), normalize=True).sum(dim=0)  # type: ignore[operator]  # open_clip's
    return (total / len(scenes)).float()
