"""What a describer is trained with; the defaults are the paper's."""

import math
from dataclasses import dataclass, fields

from conceptry.models.errors import InputError


@dataclass(frozen=True)
class DescriberTraining:
    """Sizes, budget and randomness of a training; same settings, data and number of threads give the same bytes.

    hidden_size, embedding_size, attention_size, dropout: of the decoder; attention_size 0 takes the less of hidden_size
    and the number of features. lm_hidden_size, lm_embedding_size: of the language model. learning_rate, batch_size,
    epochs, patience: of the decoder; an epoch takes every caption of every unit once. lm_learning_rate, lm_batch_size,
    lm_epochs: of the language model. patience: epochs without a better score after which training ends (both).
    exemplars: how many of a unit's are drawn anew for each step, 0 for all. cosine: the rate falls to zero along half a
    cosine. projection: features are projected to evidence for words first (projection.py). evidence: the LSTM starts
    out with a cell for each word (initialisation.py); needs projection. min_count: occurrences that make a word known.
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
