"""Beam search: against a loop over units and hypotheses that takes every step anew, ties and specials included."""

import itertools

import pytest
import torch
from torch import Tensor

from conceptry.models.milan.describer import decoding
from conceptry.models.milan.describer.decoder import Decoder
from conceptry.models.milan.describer.decoding import beam_search, largest, row_numbers
from conceptry.models.milan.describer.language_model import LanguageModel

N_TOKENS, N_FEATURES, STOP, PAD = 12, 10, 9, 10


def make(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Decoder, LanguageModel, Tensor]:
    """A decoder and a language model with opinions, and the features of three units."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        decoder, model = Decoder(N_TOKENS, N_FEATURES, 16, 8), LanguageModel(N_TOKENS, 16, 8)
        features = torch.randn(3, 4, N_FEATURES)
        with torch.no_grad():
            decoder.output.weight *= 12
            decoder.output.bias[STOP] += 2
            model.output.weight *= 4
    return decoder.to(dtype).eval(), model.to(dtype).eval(), features.to(dtype)


@torch.no_grad()
def literal_beam(
    d: Decoder, f: Tensor, size: int, length: int, model: LanguageModel | None = None, temperature: float = 0.0
) -> list[tuple[list[int], float, float]]:
    """Tokens, score and log-likelihood of the hypotheses of one unit, one at a time; f: (k, F)."""
    mean = f.mean(dim=0)
    beams = [([], 0.0, 0.0, torch.tanh(d.initial_hidden(mean)), torch.tanh(d.initial_cell(mean)))]
    for _ in range(length):
        candidates = []
        for said, score, likely, h, c in beams:
            if said and said[-1] == STOP:
                candidates.append((said, score, likely, h, c))
                continue
            energy = torch.stack([d.attention(torch.tanh(d.query(h) + d.key(fj)))[0] for fj in f])
            attention = torch.softmax(energy, dim=0)
            z = torch.sigmoid(d.feature_gate(h)) * sum(a * fj for a, fj in zip(attention, f, strict=True))
            last = d.embedding.weight[said[-1] if said else d.special.start]
            h, c = (part[0] for part in d.lstm(torch.cat([last, z])[None], (h[None], c[None])))
            log_p = torch.log_softmax(d.output(h), dim=-1)
            gains = log_p
            if model is not None:
                hidden, _ = model.lstm(model.embedding(torch.tensor([[model.special.start, *said]])))
                gains = log_p - temperature * torch.log_softmax(model.output(hidden[0, -1]), dim=-1)
            for token in range(d.n_tokens):
                gained = float(gains[token]), float(log_p[token])
                candidates.append(([*said, token], score + gained[0], likely + gained[1], h, c))
        candidates.sort(key=lambda candidate: -candidate[1])  # stable: ties keep their order
        beams = candidates[: min(size, d.n_tokens)]
    return [(said, score, likely) for said, score, likely, _, _ in beams]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("temperature", [None, 0.7])
@pytest.mark.parametrize(("size", "length"), [(1, 6), (5, 6), (12, 3), (50, 3)])
def test_all_units_at_once_are_each_unit_alone(size: int, length: int, temperature: float | None, seed: int) -> None:
    decoder, model, features = make(seed)
    mi = {} if temperature is None else {"language_model": model, "temperature": temperature}
    found = beam_search(decoder, features, size, length, **mi)
    assert found.tokens.shape == (3, min(size, N_TOKENS), length)
    for i, unit in enumerate(features):
        literal = literal_beam(decoder, unit, size, length, *mi.values())
        padded = [said + [PAD] * (length - len(said)) for said, _, _ in literal]
        assert found.tokens[i].tolist() == padded
        torch.testing.assert_close(found.scores[i].tolist(), [score for _, score, _ in literal], atol=1e-9, rtol=0)
        likely = [value for _, _, value in literal]
        torch.testing.assert_close(found.log_likelihood[i].tolist(), likely, atol=1e-9, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_float32_finds_what_float64_finds(seed: int) -> None:
    decoder, _, features = make(seed, torch.float32)
    found = beam_search(decoder, features, 6, 8)
    for i, unit in enumerate(features):
        literal = literal_beam(decoder, unit, 6, 8)
        assert found.tokens[i].tolist() == [said + [PAD] * (8 - len(said)) for said, _, _ in literal]
        torch.testing.assert_close(found.scores[i].tolist(), [score for _, score, _ in literal], atol=1e-4, rtol=0)


def test_ties_go_to_the_lower_parent_and_the_lower_token() -> None:
    decoder, _, features = make(0)
    with torch.no_grad():
        decoder.output.weight.zero_()
        decoder.output.bias.zero_()  # every token is as probable as any other
    found = beam_search(decoder, features, 5, 3)
    for i, unit in enumerate(features):
        assert found.tokens[i].tolist() == [
            said + [PAD] * (3 - len(said)) for said, _, _ in literal_beam(decoder, unit, 5, 3)
        ]
    assert found.tokens[0].tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 3], [0, 0, 4]]


@torch.no_grad()
def test_a_beam_that_drops_nothing_finds_the_most_probable_of_all() -> None:
    decoder, _, features = make(1)
    found = beam_search(decoder, features[:1], N_TOKENS, 2)
    log_p, _ = decoder(features[:1].expand(N_TOKENS, -1, -1), torch.tensor([[t, 0] for t in range(N_TOKENS)]))
    every = {(STOP, PAD): float(log_p[0, 0, STOP])}
    for first, second in itertools.product(range(N_TOKENS), repeat=2):
        if first != STOP:
            every[first, second] = float(log_p[0, 0, first] + log_p[first, 1, second])
    ranked = sorted(every, key=lambda said: -every[said])[:N_TOKENS]
    assert [tuple(row) for row in found.tokens[0].tolist()] == ranked


def test_a_unit_is_searched_the_same_beside_others() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        decoder, model = Decoder(N_TOKENS, 48, 32, 16).eval(), LanguageModel(N_TOKENS, 32, 16).eval()
        with torch.no_grad():
            decoder.output.weight *= 12
    features = torch.randn(40, 4, 48, generator=torch.Generator().manual_seed(0))
    together = beam_search(decoder, features, 7, 6, model, 0.3)
    for i in (0, 1, 17, 39):
        alone = beam_search(decoder, features[i : i + 1], 7, 6, model, 0.3)
        assert torch.equal(alone.tokens[0], together.tokens[i])
        assert torch.equal(alone.scores[0], together.scores[i])


def test_the_order_of_exemplars_does_not_matter() -> None:
    decoder, _, features = make(3)
    found, turned = (beam_search(decoder, part, 5, 6) for part in (features, features.flip(1)))
    assert torch.equal(found.tokens, turned.tokens)
    torch.testing.assert_close(found.scores, turned.scores, atol=1e-9, rtol=0)


def test_a_search_ends_where_all_have_said_stop() -> None:
    decoder, _, features = make(4)
    with torch.no_grad():
        decoder.output.bias[STOP] += 1000
    found = beam_search(decoder, features, 1, 15)
    assert found.tokens.tolist() == [[[STOP, *[PAD] * 14]]] * 3


@pytest.mark.parametrize("way", ["_by_kernel", "_by_threshold"])
@pytest.mark.parametrize("seed", range(10))
def test_the_best_continuations_are_those_that_a_sort_finds(seed: int, way: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    n, b, n_tokens, size = 4, 6, 9, 7
    finished = torch.rand(n, b, generator=generator) > 0.6
    finished[0], finished[:, 0] = False, False
    scores = torch.randint(-4, 0, (n, b), generator=generator).double()  # whole numbers, so that many are equal
    gains = torch.randint(-3, 0, (int((~finished).sum()), n_tokens), generator=generator).double()
    places = getattr(decoding, way)(scores, finished, gains, 3, size)
    parents, tokens = places // n_tokens, places % n_tokens
    rows = row_numbers(finished)
    for u in range(n):
        candidates = []
        for i in range(b):
            if finished[u, i]:
                candidates.append((float(scores[u, i]), i, 3))
                continue
            candidates += [(float(scores[u, i] + gains[rows[u, i], t]), i, t) for t in range(n_tokens)]
        candidates.sort(key=lambda candidate: (-candidate[0], candidate[1], candidate[2]))
        expected = [(i, t) for _, i, t in candidates[:size]]
        assert list(zip(parents[u].tolist(), tokens[u].tolist(), strict=True)) == expected


def test_the_largest_come_first_and_ties_in_order() -> None:
    values = torch.tensor([[1.0, 3.0, 2.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    assert largest(values, 3).tolist() == [[1, 3, 2], [0, 1, 2]]
    assert largest(values, 4).tolist() == [[1, 3, 2, 4], [0, 1, 2, 3]]
