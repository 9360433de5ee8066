r"""Training of the decoder on annotated units, with early stopping on a copy of the best weights.

Hernandez et al. 2022, section 3.3 and appendix.

| symbol | meaning | shape |
|---|---|---|
| n | captions of a batch, each with the features of its unit | |
| k, L | exemplars, tokens | |
| a_tj | attention to exemplar j at place t | (n, L, k) |

    loss = mean over tokens that are no pads of -log p(token | those before it, E)  +  mean (1 - sum_t a_tj)^2

AdamW; after each epoch the decoder describes the validation units greedily, and their BLEU decides: the weights of the
best epoch are kept as a copy, and `patience` epochs without a better one end the training.

Differences from the paper: gradients are clipped to norm 5; the options `exemplars`, `cosine`, `projection` and
`evidence` of the settings, all off by default.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.milan.checkpoints import Checkpoint
from conceptry.models.milan.decoder import Decoder
from conceptry.models.milan.decoding import greedy
from conceptry.models.milan.feature_cache import AnnotatedUnits, FeatureCache
from conceptry.models.milan.features import FeatureEncoder
from conceptry.models.milan.initialisation import start_from_evidence
from conceptry.models.milan.projection import Projection, ProjectionFit
from conceptry.models.milan.training_settings import DescriberTraining
from conceptry.models.milan.vocabulary import LENGTH, Vocabulary, tokenize

CLIP_NORM = 5.0
_CHUNK = 256  # units whose features are read at a time

OnEpoch = Callable[[int, dict[str, float]], None]


class Features(Protocol):
    """Features (n, k, F) of units, and their captions."""

    @property
    def captions(self) -> Sequence[Sequence[str]]: ...
    def batch(self, units: np.ndarray) -> Tensor: ...


@dataclass(frozen=True)
class FeaturesOfPictures:
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
                losses += _step(decoder, optimizer, features, tokens[batch].to(device), vocabulary.pad) / steps
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
