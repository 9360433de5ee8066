"""Train the zoo's small CLIP on scenes of the emoji world, into a folder that open_clip's `local-dir:` reads.

The network is an open_clip CLIP with a convolutional image trunk, small enough for a CPU. It learns to tell captions
apart, and to be a sum of word directions. Each step draws fresh scenes of the train split and minimises, with AdamW and
a cosine schedule,

    caption_loss + word_loss + sum_weight * sum_loss + overlap_weight * overlap_loss

| symbol | meaning | shape |
|---|---|---|
| z, t | unit-norm embeddings of images and of their captions | (batch, d) |
| w | unit-norm embeddings of the words | (n_words, d) |
| y | 1 where a word is true of an image, else 0 | (batch, n_words) |
| v, c | z and w, less their means, normalised: what sparse linear concept embeddings work with | |

Radford et al. 2021 (CLIP) give the first loss. A CLIP loss alone leaves no sparse decomposition to find: true words
are not the ones an image correlates with. The other three make it one, in the centred space where it is solved.

The folder:

| file | content |
|---|---|
| open_clip_config.json, open_clip_model.safetensors | the model as open_clip reads it, float16 |
| tokens.json | the byte-pair ids its token table holds, and its context length |
| vocabulary.txt | the words, one a line, least frequent first |
| image_mean.safetensors | `image_mean`, float32 (d,): mean of unit-norm embeddings of training scenes |
| ATTRIBUTION.txt | whose images these are |

The same settings on the same number of threads give the same weights, byte for byte.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the usual name
from torch import Tensor

from conceptry.models.zoo.emoji_world.emoji import SCENE_SIZE

if TYPE_CHECKING:
    from open_clip.model import CLIP
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from safetensors.torch import save
from torch import nn

from conceptry.models.encoders.tokens import CompactTokenizer, used_bpe_ids
from conceptry.models.errors import InputError
from conceptry.models.manifest import write_json, write_lines
from conceptry.models.method import keep_plain_numbers
from conceptry.models.zoo.emoji_world.captions import known_texts, prompts
from conceptry.models.zoo.emoji_world.emoji import ATTRIBUTION, COLOURS, OBJECTS, PATTERNS
from conceptry.models.zoo.emoji_world.scenes import EmojiScenes, Scene


def centre(embeddings: Tensor) -> Tensor:
    """Rows less their mean, normalised; (n, d) to (n, d)."""
    return F.normalize(embeddings - embeddings.mean(dim=0), dim=-1)


def caption_loss(z: Tensor, t: Tensor, scale: Tensor) -> Tensor:
    """Cross-entropy of finding each image's caption in the batch, and each caption's image; their mean."""
    logits = scale * z @ t.T
    truth = torch.arange(len(z))
    return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2


def word_loss(v: Tensor, c: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Binary cross-entropy of each word of each image, from scale <v, c> + bias; sum over words, mean over images."""
    return F.binary_cross_entropy_with_logits(scale * v @ c.T + bias, y, reduction="sum") / len(v)


def sum_loss(v: Tensor, c: Tensor, y: Tensor) -> Tensor:
    """1 - cosine between an image and the sum of its true words, mean over images: 0 if they explain it entirely."""
    return 1 - (v * F.normalize(y @ c, dim=-1)).sum(dim=-1).mean()


def overlap_loss(c: Tensor) -> Tensor:
    """Squared cosines between different words, summed over the others, mean over words: 0 if all are orthogonal."""
    gram = c @ c.T
    return (gram - torch.eye(len(c))).square().sum() / len(c)


CONTEXT_LENGTH = 16  # tokens of a text, start and end of text included
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # of the pixels, scaled to 0..1, per channel


def model_config(n_tokens: int, embed_dim: int, width: int, text_width: int, text_layers: int) -> dict[str, Any]:
    """open_clip's model_cfg: a ModifiedResNet over 64x64 pixels and a text transformer over `n_tokens` rows."""
    return {
        "embed_dim": embed_dim,
        "vision_cfg": {
            "image_size": SCENE_SIZE,
            "layers": [1, 2, 2, 1],
            "width": width,
            "head_width": 64,
        },
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": n_tokens,
            "width": text_width,
            "heads": max(1, text_width // 32),
            "layers": text_layers,
        },
    }


def build_model(config: dict[str, Any], seed: int) -> "CLIP":
    """The network with weights drawn from `seed`; torch's global generator is left as it was."""
    from open_clip.model import CLIP

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIP(**config)
    model.visual.to(memory_format=torch.channels_last)  # twice as fast on a CPU
    return model.train()


def to_pixels(images: Sequence[np.ndarray]) -> Tensor:
    """uint8 images (64, 64, 3) to what the trunk reads: float32 (n, 3, 64, 64), normalised, channels last."""
    scaled = torch.from_numpy(np.stack(images)).float() / 255
    return ((scaled - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


class TextTower:
    """The model's text half, cut to the longest text of the batch.

    Attention is causal and an embedding is read at end of text, so what comes after cannot matter: the same
    embeddings as `encode_text`, in a third of the time for single words.
    """

    def __init__(self, model: "CLIP") -> None:
        self._model = model

    def __call__(self, tokens: Tensor) -> Tensor:
        """Token rows (n, context_length) to unit-norm embeddings (n, d)."""
        model: Any = self._model  # open_clip's attributes are typed as Tensor or Module, which says nothing
        end = tokens.argmax(dim=-1)
        length = int(end.max()) + 1
        x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
        x = x[torch.arange(len(tokens)), end] @ model.text_projection
        return torch.nn.functional.normalize(x, dim=-1)


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
        keep_plain_numbers(self)
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
        c, v = centre(texts(words.draw(rng))), centre(z)
        parts = {
            "caption_loss": caption_loss(z, t, model.logit_scale.exp()),
            "word_loss": word_loss(v, c, y, scale.exp(), bias),
            "sum_loss": sum_loss(v, c, y),
            "overlap_loss": overlap_loss(c),
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
