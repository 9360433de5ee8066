"""PMI: the language model's share, and the order that it gives."""

import pytest
import torch

from conceptry.models.milan.describer.decoding import Hypotheses
from conceptry.models.milan.describer.language_model import LanguageModel
from conceptry.models.milan.describer.ranking import language_log_likelihood, rerank

STOP, PAD = 6, 7


@torch.no_grad()
def test_the_language_model_scores_up_to_the_first_stop() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LanguageModel(9, hidden_size=16, embedding_size=8).double().eval()
    tokens = torch.randint(0, 9, (5, 4, 6), generator=torch.Generator().manual_seed(0))
    tokens[0] = tokens[1]  # shared beginnings
    tokens[2, 0] = torch.tensor([STOP, *[PAD] * 5])
    got = language_log_likelihood(model, tokens)
    assert got.shape == (5, 4)
    for unit, scores in zip(tokens.tolist(), got.tolist(), strict=True):
        for row, score in zip(unit, scores, strict=True):
            said = row[: row.index(STOP) + 1] if STOP in row else row
            expected = 0.0
            for t, token in enumerate(said):
                hidden, _ = model.lstm(model.embedding(torch.tensor([[model.special.start, *said[:t]]])))
                expected += float(torch.log_softmax(model.output(hidden[0, -1]), dim=-1)[token])
            assert score == pytest.approx(expected, abs=1e-10)


def test_the_order_is_that_of_the_score() -> None:
    tokens = torch.arange(12).view(1, 4, 3)
    likely, prior = torch.tensor([[-1.0, -2.0, -3.0, -4.0]]), torch.tensor([[-1.0, -9.0, -9.0, -20.0]])
    found, ordered = rerank(Hypotheses(tokens, likely, likely), prior, temperature=0.25)
    # -1 + .25, -2 + 2.25, -3 + 2.25, -4 + 5
    assert found.scores.tolist() == [[1.0, 0.25, -0.75, -0.75]]
    assert found.tokens[0, :, 0].tolist() == [9, 3, 0, 6]  # a tie keeps its order
    assert found.log_likelihood.tolist() == [[-4.0, -2.0, -1.0, -3.0]]
    assert ordered.tolist() == [[-20.0, -9.0, -1.0, -9.0]]
    unchanged, _ = rerank(Hypotheses(tokens, likely, likely), prior, temperature=0.0)
    assert torch.equal(unchanged.tokens, tokens)
