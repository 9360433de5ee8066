r"""What a describer says of a unit.

| symbol | meaning |
|---|---|
| log p(s \| E) | log-likelihood of description s given the exemplars E |
| log p_LM(s) | its log-likelihood for any unit |
| PMI | log p(s \| E) - log p_LM(s), their pointwise mutual information |

All in nats, of the words and the stop after them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Alternative:
    """Another description. score: what it was ranked by; log_likelihood: log p(s | E)."""

    text: str
    score: float
    log_likelihood: float
    pmi: float


@dataclass(frozen=True)
class Description:
    """What a unit responds to.

    text: as people annotate, without a full stop; "" of a unit whose masks have no pixel. tokens: numbers of its words
    in the vocabulary. score: what chose it: log p(s | E) (greedy, sample, beam), log p(s | E) - T log p_LM(s) (mi,
    rerank), or the sum of cosines (clip). log_likelihood: log p(s | E); lm_log_likelihood: log p_LM(s); pmi: their
    difference. alternatives: other texts, the next best first.
    """

    text: str
    tokens: tuple[int, ...]
    score: float
    log_likelihood: float
    lm_log_likelihood: float
    pmi: float
    alternatives: tuple[Alternative, ...] = ()


NOTHING = Description("", (), 0.0, 0.0, 0.0, 0.0)
