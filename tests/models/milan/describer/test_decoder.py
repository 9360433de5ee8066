"""The decoder: against torch's own cells and the formulas in float64, and what training sees of it."""

import pytest
import torch
from torch import Tensor

from conceptry.models.milan.describer.decoder import Decoder, advance, attend, attend_rows

N_TOKENS, N_FEATURES = 12, 10


def make(seed: int = 0, dtype: torch.dtype = torch.float64) -> Decoder:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Decoder(N_TOKENS, N_FEATURES, hidden_size=16, embedding_size=8).to(dtype).eval()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def literal_step(d: Decoder, f: Tensor, h: Tensor, c: Tensor, token: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One step of one hypothesis; f: (k, F), h, c: (H,). Returns h', c', log-probabilities, attention."""
    energy = torch.stack([d.attention(torch.tanh(d.query(h) + d.key(fj)))[0] for fj in f])
    a = torch.softmax(energy, dim=0)
    z = torch.sigmoid(d.feature_gate(h)) * sum(aj * fj for aj, fj in zip(a, f, strict=True))
    h, c = (part[0] for part in d.lstm(torch.cat([d.embedding.weight[token], z])[None], (h[None], c[None])))
    return h, c, torch.log_softmax(d.output(h), dim=-1), a


def test_teacher_forcing_is_the_formula_at_every_place() -> None:
    d, features = make(), draw(3, 4, N_FEATURES)
    captions = torch.tensor([[0, 3, 9, 10], [5, 5, 5, 5], [9, 10, 10, 10]])
    log_p, attention = d(features, captions)
    assert log_p.shape == (3, 4, N_TOKENS)
    assert attention.shape == (3, 4, 4)
    for i in range(3):
        mean = features[i].mean(dim=0)
        h, c = torch.tanh(d.initial_hidden(mean)), torch.tanh(d.initial_cell(mean))
        for t, token in enumerate([d.special.start, *captions[i, :-1].tolist()]):
            h, c, expected, a = literal_step(d, features[i], h, c, token)
            torch.testing.assert_close(log_p[i, t], expected, atol=1e-12, rtol=0)
            torch.testing.assert_close(attention[i, t], a, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_searches_take_the_same_steps_as_training(dtype: torch.dtype) -> None:
    d, features = make(dtype=dtype), draw(3, 4, N_FEATURES).to(dtype)
    captions = torch.tensor([[0, 3, 7, 1], [5, 5, 5, 5], [2, 4, 1, 0]])
    trained, _ = d(features, captions)
    with torch.no_grad():
        searched, _ = d(features, captions)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(searched, trained.detach(), atol=tolerance, rtol=0)


def test_every_parameter_learns_but_the_bias_that_cancels() -> None:
    d = make().train()
    log_p, attention = d(draw(2, 3, N_FEATURES), torch.tensor([[0, 1, 9], [3, 9, 10]]))
    (log_p[:, :, 1].sum() + (attention**2).sum()).backward()
    unused = [name for name, p in d.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == ["attention.bias"]


def test_dropout_is_of_training_alone() -> None:
    d, features, captions = make(), draw(2, 3, N_FEATURES), torch.tensor([[0, 1, 9], [3, 9, 10]])
    assert torch.equal(d(features, captions)[0], d(features, captions)[0])
    d.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.equal(d(features, captions)[0], d(features, captions)[0])


def test_rows_of_any_unit_take_a_step_together() -> None:
    d, features = make(), draw(3, 4, N_FEATURES)
    units = torch.tensor([2, 0, 0, 1, 2, 2])
    with torch.no_grad():
        exemplars, weights = d.exemplars(features), d.weights()
        hidden, cell = draw(6, 16, seed=1), draw(6, 16, seed=2)
        state = type(d.initial_state(features))(hidden, cell)
        after = advance(d.prepare(exemplars, state, weights, units), d.token_gates(torch.tensor([0, 1, 2, 3, 4, 5])))
        for r, unit in enumerate(units.tolist()):
            h, c, *_ = literal_step(d, features[unit], hidden[r], cell[r], r)
            torch.testing.assert_close(after.hidden[r], h, atol=1e-12, rtol=0)
            torch.testing.assert_close(after.cell[r], c, atol=1e-12, rtol=0)


@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0, 300.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_attention_kernel_is_the_tangent(scale: float, dtype: torch.dtype) -> None:
    query, keys = (scale * draw(7, 20)).to(dtype), (scale * draw(3, 5, 20, seed=1)).to(dtype)
    weight, features = draw(20, seed=2).to(dtype), draw(3, 5, 6, seed=3).to(dtype)
    units = torch.tensor([0, 0, 1, 2, 2, 2, 1])
    with torch.no_grad():
        got = attend_rows(query, keys, weight, features, units)
    expected = attend_rows(query.requires_grad_(), keys, weight, features, units)
    direct = attend(query, keys[units], weight, features[units])
    for part, other, plain in zip(got, expected, direct, strict=True):
        torch.testing.assert_close(part, plain.detach(), atol=1e-10 if dtype == torch.float64 else 2e-5, rtol=0)
        torch.testing.assert_close(other, plain)


def test_default_sizes_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        sizes = Decoder(5004, 3904).sizes()
        assert Decoder(5004, 300).attention_size == 300
    assert sizes == {
        "n_tokens": 5004,
        "n_features": 3904,
        "hidden_size": 512,
        "embedding_size": 128,
        "attention_size": 512,
    }
