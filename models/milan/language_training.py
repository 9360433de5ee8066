r"""Training of the language model on captions, with early stopping on those of other units.

| symbol | meaning |
|---|---|
| s | a caption; tokens after its stop are pads and do not count |

    loss = mean over tokens of -log p_LM(token | those before it)

AdamW. The validation captions are those of validation units, none of whose captions is trained on: the original drew
them from the captions of the training units, and so stopped late.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.milan.checkpoints import Checkpoint
from conceptry.models.milan.language_model import LanguageModel
from conceptry.models.milan.training import CLIP_NORM, OnEpoch
from conceptry.models.milan.training_settings import DescriberTraining
from conceptry.models.milan.vocabulary import Vocabulary


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
                loss = _loss(model, tokens[batch].to(device), vocabulary.pad)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
                optimizer.step()
                total += loss.item() / math.ceil(len(tokens) / settings.lm_batch_size)
            model.eval()
            with torch.no_grad():
                score = _loss(model, others.to(device), vocabulary.pad).item()
            state.finish(-score)
            if on_epoch:
                on_epoch(state.epoch, {"lm_loss": total, "lm_validation_loss": score})
        state.restore_best()
    return model.eval()


def _loss(model: LanguageModel, tokens: Tensor, pad: int) -> Tensor:
    tokens = tokens[:, : int((tokens != pad).sum(dim=1).max())]
    log_p = model(tokens).gather(-1, tokens[..., None]).squeeze(-1)
    return -log_p[tokens != pad].mean()
