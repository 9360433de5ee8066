"""Train a describer: the decoder on annotated units, the language model on their captions, each with early stopping.

Hernandez et al. 2022, section 3.3 and appendix.

| symbol | meaning | shape |
|---|---|---|
| n | captions of a batch, each with the features of its unit | |
| k, L | exemplars, tokens | |
| a_tj | attention to exemplar j at place t | (n, L, k) |
| z | features that are evidence for the first D words of the vocabulary (`describer.features`) | (k, D) |
| e_w | embedding of word w | (E,) |
| c_w, h_w | cell and hidden state w of the LSTM, one of the first D | |

The decoder:

    loss = mean over tokens that are no pads of -log p(token | those before it, E)  +  mean (1 - sum_t a_tj)^2

AdamW; after each epoch the decoder describes the validation units greedily, and their BLEU decides: the weights of the
best epoch are kept as a copy, and `patience` epochs without a better one end the training.

The language model:

    loss = mean over tokens that are no pads of -log p_LM(token | those before it)

AdamW; the loss on captions of validation units decides, none of whose captions is trained on: the original drew them
from the captions of the training units, and so stopped late.

Where features are evidence for words (`evidence`), the decoder starts from saying what there is most evidence for, each
word once. Of the weights as PyTorch draws them, these are set:

    c_w starts as tanh(A mean_j z_jw)                  and h_w likewise
    forget gate of c_w: sigmoid(2 - S e_w . e / |e_w|^2 + ...)    kept, until w itself has been said
    logit of w: B h_w + ...

All of it is trained from there. Without it the LSTM has to find out for each word on its own that evidence for it is
to be said, and that what has been said is not to be said again: that takes many more steps than everything else.

Differences from the paper: gradients are clipped to norm 5; the options `exemplars`, `cosine`, `projection` and
`evidence` of the settings, all off by default. The other defaults are the paper's.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.method import keep_plain_numbers
from conceptry.models.milan.describer.decoder import Decoder
from conceptry.models.milan.describer.decoding import greedy
from conceptry.models.milan.describer.features import FeatureEncoder, Projection, ProjectionFit
from conceptry.models.milan.describer.language_model import LanguageModel
from conceptry.models.milan.describer.vocabulary import LENGTH, Vocabulary, tokenize
from conceptry.models.training.checkpoints import Checkpoint
from conceptry.models.training.feature_cache import AnnotatedUnits, FeatureCache

START, SUPPRESSION, LOGIT = 0.3, 5.0, 4.0  # A, S, B
_KEPT, _ENTERING = 2.0, -1.0  # biases of the forget and the input gates


@torch.no_grad()
def start_from_evidence(decoder: Decoder) -> None:
    """Set the weights of `decoder` in place; its features are one for each word, in the vocabulary's order.

    Raises InputError where it has fewer cells than features, or other features than words.
    """
    d, h, e = decoder.n_features, decoder.hidden_size, decoder.embedding_size
    if d != decoder.special.start:
        raise InputError(f"evidence needs a feature for each of the {decoder.special.start} words, got {d}")
    if d > h:
        raise InputError(f"evidence needs a cell for each of the {d} words, hidden_size is {h}")
    for layer in (decoder.initial_cell, decoder.initial_hidden):
        layer.weight[:d] = START * torch.eye(d)
        layer.bias[:d] = 0
    decoder.lstm.bias_hh.zero_()
    decoder.lstm.bias_ih[:h] = _ENTERING
    decoder.lstm.bias_ih[h : 2 * h] = _KEPT
    words = decoder.embedding.weight[:d]
    decoder.lstm.weight_ih[h : h + d, :e] -= SUPPRESSION * words / words.pow(2).sum(dim=1, keepdim=True)
    decoder.output.weight[:, :d] *= 0.1
    decoder.output.weight[:d, :d] += LOGIT * torch.eye(d)


@dataclass(frozen=True)
class DescriberTraining:
    """Sizes, budget and randomness of a training; same settings, data and number of threads give the same bytes.

    hidden_size, embedding_size, attention_size, dropout: of the decoder; attention_size 0 takes the less of hidden_size
    and the number of features. lm_hidden_size, lm_embedding_size: of the language model. learning_rate, batch_size,
    epochs, patience: of the decoder; an epoch takes every caption of every unit once. lm_learning_rate, lm_batch_size,
    lm_epochs: of the language model. patience: epochs without a better score after which training ends (both).
    exemplars: how many of a unit's are drawn anew for each step, 0 for all. cosine: the rate falls to zero along half a
    cosine. projection: features are projected to evidence for words first, see `describer.features`. evidence: the LSTM
    starts out with a cell for each word; needs projection. min_count: occurrences that make a word known.
    seed: of weights, order and dropout.

    Raises InputError for values out of range.
    """

    hidden_size: int = 512
    embedding_size: int = 128
    attention_size: int = 0
    dropout: float = 0.5
    learning_rate: float = 1e-3
    batch_size: int = 64
    epochs: int = 100
    patience: int = 4
    exemplars: int = 0
    cosine: bool = False
    projection: bool = False
    evidence: bool = False
    lm_hidden_size: int = 512
    lm_embedding_size: int = 128
    lm_learning_rate: float = 1e-3
    lm_batch_size: int = 128
    lm_epochs: int = 100
    min_count: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        keep_plain_numbers(self)
        may_be_zero = ("attention_size", "exemplars", "seed", "dropout")
        for field in fields(self):
            value, default = getattr(self, field.name), field.default
            if isinstance(default, bool):
                if not isinstance(value, bool):
                    raise InputError(f"{field.name} must be true or false, got {value!r}")
                continue
            whole = isinstance(default, int)
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                raise InputError(f"{field.name} must be {'a whole number' if whole else 'a number'}, got {value!r}")
            least = field.name in may_be_zero
            if not math.isfinite(value) or value < 0 or (value == 0 and not least):
                raise InputError(f"{field.name} must be {'at least' if least else 'above'} 0, got {value!r}")
        if self.dropout >= 1:
            raise InputError(f"dropout must be below 1, got {self.dropout!r}")
        if self.evidence and not self.projection:
            raise InputError("evidence starts from what the projection gives; set projection as well")


CLIP_NORM = 5.0
_CHUNK = 256  # units whose features are read at a time

OnEpoch = Callable[[int, dict[str, float]], None]


class Features(Protocol):
    """Features (n, k, F) of units, and their captions."""

    @property
    def captions(self) -> Sequence[Sequence[str]]: ...
    def batch(self, units: np.ndarray) -> Tensor: ...


@dataclass(frozen=True)
class FeaturesOfImages:
    """Features computed from pictures each time: what a cache saves. units: as for `cache_features`."""

    encoder: FeatureEncoder
    units: AnnotatedUnits
    captions: Sequence[Sequence[str]]

    def batch(self, units: np.ndarray) -> Tensor:
        """float32 (n, k, F): the features of `units` (n,)."""
        found = [self.units[int(i)].exemplars for i in units]
        return self.encoder(np.stack([x.images for x in found]), np.stack([x.masks for x in found])).cpu()


def fit_projection(train: FeatureCache, vocabulary: Vocabulary) -> Projection:
    """The projection of features to evidence for each word of the vocabulary, rounded as it is stored."""
    fit = ProjectionFit()
    column = {word: i for i, word in enumerate(vocabulary.words)}
    for start in range(0, len(train), _CHUNK):
        units = np.arange(start, min(start + _CHUNK, len(train)))
        words = torch.zeros(len(units), len(column))
        for row, unit in zip(words, units, strict=True):
            captions = train.captions[unit]
            for caption in captions:
                for word in set(tokenize(caption)) & column.keys():
                    row[column[word]] += 1 / len(captions)
        fit.add(train.batch(units).mean(dim=1), words)
    return fit.solve().rounded()


def train_decoder(
    train: Features,
    validation: Features,
    vocabulary: Vocabulary,
    settings: DescriberTraining,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
    device: str | torch.device = "cpu",
) -> Decoder:
    """A decoder with the weights of the epoch of the best validation BLEU.

    checkpoint: a folder that is written after each epoch and gone on from where it is there: the result is that of a
    training without interruption. on_epoch: called with the number of each epoch, from 1, and its losses and score.
    Raises InputError for no captions, and for a checkpoint of another training.
    """
    rows = [(unit, text) for unit, texts in enumerate(train.captions) for text in texts]
    if not rows or not len(validation.captions):
        raise InputError("training needs captions of training units and of validation units")
    tokens = vocabulary.encode([text for _, text in rows])
    units = np.array([unit for unit, _ in rows])
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        n_features = train.batch(units[:1]).shape[-1]
        size = settings.attention_size or None
        decoder = Decoder(
            len(vocabulary), n_features, settings.hidden_size, settings.embedding_size, size, settings.dropout
        )
        if settings.evidence:
            start_from_evidence(decoder)
        decoder.to(device)
        optimizer = torch.optim.AdamW(decoder.parameters(), lr=settings.learning_rate)
        known = _fingerprint(asdict(settings), vocabulary, rows, n_features)
        state = Checkpoint(checkpoint, known, decoder, optimizer, settings.patience)
        steps = math.ceil(len(rows) / settings.batch_size)
        while state.epoch < settings.epochs and not state.is_over:
            torch.manual_seed(settings.seed * 100_003 + state.epoch + 1)  # so that an epoch needs no earlier one
            order = torch.randperm(len(rows))
            decoder.train()
            losses = np.zeros(2)
            for step, batch in enumerate(order.split(settings.batch_size)):
                if settings.cosine:
                    done = (state.epoch * steps + step) / (settings.epochs * steps)
                    for group in optimizer.param_groups:
                        group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * done)) / 2
                features = _some(train.batch(units[batch.numpy()]), settings.exemplars).to(device)
                losses += _step(decoder, optimizer, features, tokens[batch].to(device), vocabulary.special.pad) / steps
            score = validation_bleu(decoder, validation, vocabulary, device)
            state.finish(score)
            if on_epoch:
                on_epoch(state.epoch, {"nll": losses[0], "attention_loss": losses[1], "validation_bleu": score})
        state.restore_best()
    return decoder.eval()


def _step(decoder: Decoder, optimizer: torch.optim.Optimizer, features: Tensor, tokens: Tensor, pad: int) -> np.ndarray:
    """One step of the optimiser; the two parts of the loss before it."""
    length = int((tokens != pad).sum(dim=1).max())
    tokens = tokens[:, :length]
    log_p, attention = decoder(features, tokens)
    said = tokens != pad
    nll = -log_p.gather(-1, tokens[..., None]).squeeze(-1)[said].mean()
    spread = (1 - attention.sum(dim=1)).square().mean()
    optimizer.zero_grad()
    (nll + spread).backward()
    nn.utils.clip_grad_norm_(decoder.parameters(), CLIP_NORM)
    optimizer.step()
    return np.array([nll.item(), spread.item()])


def _some(features: Tensor, count: int) -> Tensor:
    """`count` of the exemplars (n, k, F), the same places of every unit; all for 0 or where there are no more."""
    if not 0 < count < features.shape[1]:
        return features
    return features[:, torch.randperm(features.shape[1])[:count]]


@torch.no_grad()
def validation_bleu(decoder: Decoder, data: Features, vocabulary: Vocabulary, device: str | torch.device) -> float:
    """Corpus BLEU (0 to 100) of greedy descriptions against all captions, lower-cased and without full stops."""
    import sacrebleu

    decoder.eval()
    texts: list[str] = []
    for start in range(0, len(data.captions), _CHUNK):
        features = data.batch(np.arange(start, min(start + _CHUNK, len(data.captions)))).to(device)
        texts += [vocabulary.detokenize(row[0]).lower().strip(". ") for row in greedy(decoder, features, LENGTH).tokens]
    most = max(map(len, data.captions))
    # A unit with fewer captions repeats its last one: sacrebleu wants as many references of each.
    references = [[texts[min(i, len(texts) - 1)].lower().strip(". ") for texts in data.captions] for i in range(most)]
    return sacrebleu.corpus_bleu(texts, references).score


def _fingerprint(
    settings: dict[str, object], vocabulary: Vocabulary, rows: Sequence[tuple[int, str]], n_features: int
) -> str:
    sha = hashlib.sha256(json.dumps([settings, n_features, vocabulary.words], sort_keys=True).encode())
    for unit, text in rows:
        sha.update(f"{unit} {text}\n".encode())
    return sha.hexdigest()


def train_language_model(
    train: Sequence[str],
    validation: Sequence[str],
    vocabulary: Vocabulary,
    settings: DescriberTraining,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
    device: str | torch.device = "cpu",
) -> LanguageModel:
    """A language model with the weights of the epoch of the least validation loss; arguments as for `train_decoder`."""
    if not train or not validation:
        raise InputError("a language model needs captions to train on and others to validate on")
    tokens, others = vocabulary.encode(train), vocabulary.encode(validation)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed + 1)
        sizes = (settings.lm_hidden_size, settings.lm_embedding_size)
        model = LanguageModel(len(vocabulary), *sizes, dropout=settings.dropout).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lm_learning_rate)
        known = hashlib.sha256(json.dumps([asdict(settings), vocabulary.words, list(train), list(validation)]).encode())
        state = Checkpoint(checkpoint, known.hexdigest(), model, optimizer, settings.patience)
        while state.epoch < settings.lm_epochs and not state.is_over:
            torch.manual_seed(settings.seed * 100_003 + 50_000 + state.epoch)
            model.train()
            total = 0.0
            for batch in torch.randperm(len(tokens)).split(settings.lm_batch_size):
                loss = _loss(model, tokens[batch].to(device), vocabulary.special.pad)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
                optimizer.step()
                total += loss.item() / math.ceil(len(tokens) / settings.lm_batch_size)
            model.eval()
            with torch.no_grad():
                score = _loss(model, others.to(device), vocabulary.special.pad).item()
            state.finish(-score)
            if on_epoch:
                on_epoch(state.epoch, {"lm_loss": total, "lm_validation_loss": score})
        state.restore_best()
    return model.eval()


def _loss(model: LanguageModel, tokens: Tensor, pad: int) -> Tensor:
    tokens = tokens[:, : int((tokens != pad).sum(dim=1).max())]
    log_p = model(tokens).gather(-1, tokens[..., None]).squeeze(-1)
    return -log_p[tokens != pad].mean()
