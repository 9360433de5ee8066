r"""PMI: of the descriptions that are probable given the exemplars, the one that is specific to them.

| symbol | meaning | shape |
|---|---|---|
| s | a description | |
| p(s \| E), p_LM(s) | its probability given the exemplars, and of any unit | (n, S) |
| T | temperature, the weight of the language model | |

    score = log p(s | E) - T log p_LM(s)

Both probabilities are of the tokens up to the first stop, the stop included.
"""

import torch
from torch import Tensor

from conceptry.models.milan.decoding import Hypotheses
from conceptry.models.milan.language_model import LanguageModel, Prefixes


@torch.no_grad()
def language_log_likelihood(model: LanguageModel, tokens: Tensor) -> Tensor:
    """log p_LM (...) of rows of tokens (..., L).

    A beginning that several descriptions share, of one unit or of many, is computed once.
    """
    rows = tokens.reshape(-1, tokens.shape[-1])
    total = model.output.weight.new_zeros(len(rows))
    prefixes = Prefixes(model, len(rows))
    going = torch.arange(len(rows), device=rows.device)
    for t in range(rows.shape[-1]):
        said = rows[going, t]
        total[going] += prefixes.log_p[prefixes.of, said]
        kept = (said != model.start + 1).nonzero().squeeze(-1)
        if not len(kept) or t + 1 == rows.shape[-1]:
            break
        prefixes.advance(kept, said[kept])
        going = going[kept]
    return total.view(tokens.shape[:-1])


def rerank(hypotheses: Hypotheses, prior: Tensor, temperature: float) -> tuple[Hypotheses, Tensor]:
    """The hypotheses by log p(s | E) - T log p_LM(s), the greatest first, and log p_LM in that order.

    prior: log p_LM (n, S). Ties keep their order.
    """
    return ranked(hypotheses, prior, hypotheses.log_likelihood - temperature * prior)


def ranked(hypotheses: Hypotheses, prior: Tensor, scores: Tensor) -> tuple[Hypotheses, Tensor]:
    """The hypotheses by `scores` (n, S), the greatest first, and log p_LM in that order; ties keep their order."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    tokens = hypotheses.tokens.gather(1, order[:, :, None].expand_as(hypotheses.tokens))
    likelihood = hypotheses.log_likelihood.gather(1, order)
    return Hypotheses(tokens, scores.gather(1, order), likelihood), prior.gather(1, order)
