"""The game against one model call for each subset, at the edges of batches, and on tensors."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import Column
from conceptry.models.harsanyi.game import Reward, rewards_of
from conceptry.models.harsanyi.interactions.moebius import moebius
from conceptry.models.harsanyi.maskers.tabular import TabularMasker
from conceptry.models.harsanyi.maskers.tensors import TensorMasker

COLUMNS = tuple(Column(name, "numeric") for name in ("a", "b", "c"))


class Table:
    """y = a b + c of a table; counts the rows of its calls."""

    form = "values"

    def __init__(self):
        self.calls: list[int] = []

    def __call__(self, rows: pd.DataFrame) -> np.ndarray:
        self.calls.append(len(rows))
        return (rows.a * rows.b + rows.c).to_numpy()[:, None]


class Network:
    form = "logits"

    def __init__(self):
        self.weights = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
        self.saw_gradients = False

    def __call__(self, inputs):
        raise AssertionError("tensors go to forward")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = torch.tanh(x @ self.weights)
        self.saw_gradients |= outputs.requires_grad
        return outputs


def table_masker() -> TabularMasker:
    return TabularMasker({"a": 2.0, "b": 3.0, "c": 5.0}, COLUMNS, {"a": 0.0, "b": 0.0, "c": 1.0})


def test_a_model_of_known_interactions_gives_exactly_those():
    v = rewards_of(Table(), table_masker(), Reward("output"), 0)
    assert v.dtype == np.float64
    assert v.tolist() == [1, 5, 1, 5, 1, 5, 7, 11]  # rows by bits a b c
    assert moebius(v).tolist() == [1, 4, 0, 0, 0, 0, 6, 0]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 8, 100])
def test_batches_change_nothing_and_report_progress(batch_size):
    model, heard = Table(), []
    v = rewards_of(model, table_masker(), Reward("output"), 0, batch_size, lambda *told: heard.append(told))
    assert v.tolist() == [1, 5, 1, 5, 1, 5, 7, 11]
    assert sum(model.calls) == 8
    assert max(model.calls) <= batch_size
    assert [what for what, _ in heard] == ["rewards"] * len(model.calls)
    assert [share for _, share in heard] == [done / 8 for done in itertools.accumulate(model.calls)]


def test_tensors_go_through_forward_without_gradients():
    x, baseline = torch.arange(6.0), torch.full((6,), -0.5)
    owner = torch.tensor([0, 0, 2, 1, -1, 2])
    model = Network()
    v = rewards_of(model, TensorMasker(x, baseline, owner, ["p", "q", "r"]), Reward(), 1, batch_size=3)
    assert not model.saw_gradients
    for row, present in enumerate(itertools.product([False, True], repeat=3)):
        masked = [x[f] if k == -1 or present[k] else baseline[f] for f, k in enumerate(owner.tolist())]
        z = torch.tanh(torch.stack(masked) @ model.weights).double()
        assert v[row] == pytest.approx((z[1] - z[0]).item(), abs=1e-6)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda rows: np.zeros(len(rows)), r"one row of outputs for each input, \(8, outputs\), got shape \(8,\)"),
        (lambda rows: np.zeros((1, 1)), r"\(8, outputs\), got shape \(1, 1\)"),
        (lambda rows: [["yes"]] * len(rows), "the model must return rows of numbers: could not convert string"),
        (lambda rows: np.full((len(rows), 1), np.nan), "NaN or infinite outputs for 8 of 8 masked inputs"),
    ],
)
def test_outputs_that_are_refused(outputs, message):
    model = Table()
    model.__class__ = type("Broken", (Table,), {"__call__": lambda self, rows: outputs(rows)})
    with pytest.raises(InputError, match=message):
        rewards_of(model, table_masker(), Reward("output"), 0)


def test_a_batch_size_below_1_is_refused():
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        rewards_of(Table(), table_masker(), Reward("output"), 0, batch_size=0)


def test_more_than_20_players_are_refused_before_any_call():
    class Many:
        players = tuple(f"p{k}" for k in range(21))

        def masked(self, masks):
            raise AssertionError("not reached")

    with pytest.raises(InputError, match=r"there are 21 players, and the limit .* is 20; group players"):
        rewards_of(Table(), Many(), Reward("output"), 0)
