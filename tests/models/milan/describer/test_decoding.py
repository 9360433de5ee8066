"""Greedy, drawn and given descriptions, against the teacher-forced probabilities."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from conceptry.models.milan.describer.decoder import Decoder
from conceptry.models.milan.describer.decoding import beam_search, greedy, sample, score_captions

N_TOKENS, STOP, PAD = 9, 6, 7


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decoder = Decoder(N_TOKENS, 10, 16, 8).double().eval()
        with torch.no_grad():
            decoder.output.weight *= 6
    return decoder


@pytest.fixture(scope="module")
def features() -> Tensor:
    return torch.randn(4, 3, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@torch.no_grad()
def literal_likelihood(decoder: Decoder, unit: Tensor, tokens: list[int]) -> float:
    log_p, _ = decoder(unit[None], torch.tensor([tokens]))
    end = tokens.index(STOP) + 1 if STOP in tokens else len(tokens)
    return sum(float(log_p[0, t, token]) for t, token in enumerate(tokens[:end]))


def test_greedy_is_a_beam_of_one(decoder: Decoder, features: Tensor) -> None:
    found, searched = greedy(decoder, features, 8), beam_search(decoder, features, 1, 8)
    assert torch.equal(found.tokens, searched.tokens)
    torch.testing.assert_close(found.log_likelihood, searched.log_likelihood, atol=1e-12, rtol=0)
    for i in range(4):
        expected = literal_likelihood(decoder, features[i], found.tokens[i, 0].tolist())
        assert float(found.scores[i, 0]) == pytest.approx(expected, abs=1e-9)


def test_given_descriptions_are_scored_up_to_the_first_stop(decoder: Decoder, features: Tensor) -> None:
    rows = [[0, 1, STOP, PAD], [STOP, 3, 3, 3], [5, 4, 3, 2]]
    tokens = torch.tensor([rows] * 4)
    scores = score_captions(decoder, features, tokens)
    for i in range(4):
        expected = [literal_likelihood(decoder, features[i], row) for row in rows]
        torch.testing.assert_close(scores[i].tolist(), expected, atol=1e-9, rtol=0)


def test_a_search_scores_as_forced_decoding_does(decoder: Decoder, features: Tensor) -> None:
    found = beam_search(decoder, features, 6, 5)
    forced = score_captions(decoder, features, found.tokens)
    torch.testing.assert_close(forced, found.log_likelihood, atol=1e-9, rtol=0)


def test_drawn_descriptions_are_as_frequent_as_they_are_probable(decoder: Decoder, features: Tensor) -> None:
    drawn = sample(decoder, features[:1], seed=0, draws=4000, length=2)
    counts = Counter(tuple(row) for row in drawn.tokens[0].tolist())
    for row, count in counts.most_common(8):
        p = float(torch.tensor(literal_likelihood(decoder, features[0], list(row))).exp())
        assert abs(count / 4000 - p) < 4 * (p * (1 - p) / 4000) ** 0.5
    forced = score_captions(decoder, features[:1], drawn.tokens)
    torch.testing.assert_close(forced, drawn.log_likelihood, atol=1e-9, rtol=0)


def test_a_draw_depends_on_its_seed_and_number_alone(decoder: Decoder, features: Tensor) -> None:
    several = sample(decoder, features, seed=3, draws=5, length=6)
    assert torch.equal(sample(decoder, features, seed=3, draws=5, length=6).tokens, several.tokens)
    assert torch.equal(sample(decoder, features[2:3], seed=3, draws=5, length=6).tokens[0], several.tokens[2])
    assert torch.equal(sample(decoder, features, seed=3, draws=2, length=6).tokens, several.tokens[:, :2])
    assert not torch.equal(sample(decoder, features, seed=4, draws=5, length=6).tokens, several.tokens)
