"""The language model: against torch's LSTM, one prefix at a time."""

import torch
from torch import Tensor

from conceptry.models.milan.describer.language_model import LanguageModel, Prefixes


def make(seed: int = 0) -> LanguageModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LanguageModel(12, hidden_size=16, embedding_size=8).double().eval()


def literal(model: LanguageModel, prefix: list[int]) -> Tensor:
    """log p(. | prefix) (V,), all of the prefix anew."""
    hidden, _ = model.lstm(model.embedding(torch.tensor([[model.special.start, *prefix]])))
    return torch.log_softmax(model.output(hidden[0, -1]), dim=-1)


def test_teacher_forcing_sees_what_comes_before() -> None:
    model, captions = make(), torch.tensor([[0, 3, 9, 10], [5, 5, 5, 5]])
    log_p = model(captions)
    assert log_p.shape == (2, 4, 12)
    for i in range(2):
        for t in range(4):
            expected = literal(model, captions[i, :t].tolist())
            torch.testing.assert_close(log_p[i, t], expected, atol=1e-12, rtol=0)


@torch.no_grad()
def test_prefixes_are_computed_once_each() -> None:
    model = make()
    prefixes = Prefixes(model, 5)
    assert prefixes.log_p.shape == (1, 12)
    said: list[list[int]] = [[], [], [], [], []]
    for rows, tokens in (
        ([0, 1, 2, 3, 4], [4, 4, 1, 0, 4]),
        ([0, 1, 2, 4], [2, 3, 2, 2]),
        ([3, 0, 1, 0], [7, 7, 7, 1]),
    ):
        prefixes.advance(torch.tensor(rows), torch.tensor(tokens))
        said = [[*said[row], token] for row, token in zip(rows, tokens, strict=True)]
        assert len(prefixes.log_p) == len({tuple(words) for words in said})
        for row, words in enumerate(said):
            got = prefixes.log_p[prefixes.of[row]]
            torch.testing.assert_close(got, literal(model, words), atol=1e-12, rtol=0)


def test_sizes_build_the_model_again() -> None:
    model = make()
    again = LanguageModel(**model.sizes())
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    with torch.device("meta"):
        assert LanguageModel(200).sizes() == {"n_tokens": 200, "hidden_size": 512, "embedding_size": 128}
