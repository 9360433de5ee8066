"""Rewards against their formulas in 60 decimal digits, at saturation, and the refusals."""

from decimal import Decimal, getcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.game import REWARDS, Reward

getcontext().prec = 60
EPS = Decimal("1e-7")


def decimal_softmax(logits: list[float], temperature: float = 1.0) -> list[Decimal]:
    powers = [(Decimal(z) / Decimal(temperature)).exp() for z in logits]
    return [p / sum(powers) for p in powers]


def decimal_reward(kind: str, p: Decimal) -> float:
    literal = {
        "log_odds": lambda: (p / (1 - p)).ln(),
        "log_odds_eps": lambda: ((p + EPS) / (1 - p + EPS)).ln(),
        "probability": lambda: p,
    }
    return float(literal[kind]())


def column(*values: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)[:, None]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    logits=st.lists(st.floats(-30, 30), min_size=2, max_size=5),
    temperature=st.floats(0.3, 5),
    kind=st.sampled_from(["log_odds", "log_odds_eps", "probability"]),
    data=st.data(),
)
def test_logits_as_in_the_formula(logits, temperature, kind, data):
    target = data.draw(st.integers(0, len(logits) - 1))
    value = Reward(kind, temperature)(torch.tensor([logits], dtype=torch.float64), "logits", target)
    assert value.dtype == torch.float64
    expected = decimal_reward(kind, decimal_softmax(logits, temperature)[target])
    # 1 - p + 1e-7 cancels in float64: that is the formula, not a fault of ours
    assert value.item() == pytest.approx(expected, rel=1e-12, abs=1e-8 if kind == "log_odds_eps" else 1e-12)


@pytest.mark.parametrize("kind", ["log_odds", "log_odds_eps", "probability"])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_a_single_logit_is_the_logit_of_class_1(kind, temperature):
    z = [-40.0, -3.0, 0.0, 0.7, 12.0]
    for target in (0, 1):
        values = Reward(kind, temperature)(column(*z), "logits", target)
        expected = [decimal_reward(kind, decimal_softmax([0.0, value], temperature)[target]) for value in z]
        torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-8)


def test_a_single_logit_and_its_negation_are_rewards():
    z = column(-3.0, 2.0)
    assert Reward("logit")(z, "logits", 1).tolist() == [-3, 2]
    assert Reward("logit")(z, "logits", 0).tolist() == [3, -2]
    assert Reward("log_odds", 2.0)(z, "logits", 1).tolist() == [-1.5, 1]
    assert Reward("log_odds")(z, "logits", 0).tolist() == [3, -2]


def test_log_odds_do_not_saturate():
    z = torch.tensor([[1000.0, -1000.0, -1000.0], [-1000.0, 1000.0, 0.0], [800.0, 0.0, 0.0]])
    values = Reward()(z, "logits", 0)
    torch.testing.assert_close(
        values, torch.tensor([2000.0, -2000.0, 800.0], dtype=torch.float64) - torch.tensor([2.0, 1.0, 2.0]).log()
    )
    assert Reward()(column(1000.0, -1000.0), "logits", 1).tolist() == [1000, -1000]
    assert Reward("log_odds_eps")(z, "logits", 0).tolist() == pytest.approx([16.118, -16.118, 16.118], abs=1e-3)


def test_log_odds_of_probabilities_that_round_to_1():
    p = torch.softmax(torch.tensor([[60.0, 0.0, -5.0]]), 1)  # float32: the first is exactly 1
    assert p[0, 0] == 1
    value = Reward()(p, "probabilities", 0).item()
    assert value == pytest.approx(60 - torch.tensor([0.0, -5.0]).logsumexp(0).item(), rel=1e-6)


def test_probabilities_as_in_the_formula():
    p = torch.tensor([[0.2, 0.5, 0.3], [1e-12, 1 - 2e-12, 1e-12]], dtype=torch.float64)
    for kind in ("log_odds", "log_odds_eps", "probability"):
        for target in range(3):
            values = Reward(kind)(p, "probabilities", target).tolist()
            expected = [decimal_reward(kind, Decimal(row[target].item())) for row in p]
            assert values == pytest.approx(expected, rel=1e-4 if target == 1 else 1e-12)  # 1 - p has 4 digits there


@pytest.mark.parametrize("kind", ["log_odds", "log_odds_eps", "probability"])
def test_a_single_probability_is_that_of_class_1(kind):
    p = [0.1, 0.5, 1e-15, 0.999]
    for target in (0, 1):
        values = Reward(kind)(column(*p), "probabilities", target).tolist()
        exact = [Decimal(value) if target else 1 - Decimal(value) for value in p]
        assert values == pytest.approx([decimal_reward(kind, value) for value in exact], rel=1e-12, abs=1e-12)


def test_eps_form_is_the_published_one_to_the_bit():
    z = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 10
    p = torch.softmax(z, 1)[:, 2]
    literal = torch.log((p + 1e-7) / (1 - p + 1e-7))
    assert torch.equal(Reward("log_odds_eps")(z, "logits", 2), literal)
    assert torch.equal(Reward("log_odds_eps")(torch.softmax(z, 1), "probabilities", 2), literal)


def test_output_is_the_column_as_it_is():
    outputs = torch.tensor([[-7.0, 3.5], [0.0, 1e30]])
    assert Reward("output")(outputs, "values", 0).tolist() == [-7, 0]
    assert Reward("output")(outputs, "logits", 1).tolist() == outputs[:, 1].tolist()
    assert Reward("output")(column(4.0), "values", 0).tolist() == [4]
    assert Reward("output")(column(0.25), "probabilities", 1).tolist() == [0.25]


@pytest.mark.parametrize(
    ("form", "columns"), [("logits", 3), ("logits", 1), ("probabilities", 3), ("probabilities", 1)]
)
@pytest.mark.parametrize("kind", REWARDS)
def test_gradients(form, columns, kind):
    if kind == "logit" and form == "probabilities":
        return
    outputs = torch.rand(4, columns, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.8 + 0.1
    reward = Reward(kind)
    if form == "probabilities" and columns > 1:  # along directions that keep the sum at 1
        outputs = outputs.log()
        assert torch.autograd.gradcheck(
            lambda z: reward(torch.softmax(z, 1), form, 1), (outputs.requires_grad_(),), atol=1e-6
        )
    else:
        assert torch.autograd.gradcheck(lambda z: reward(z, form, 1), (outputs.requires_grad_(),), atol=1e-6)


def test_gradients_stay_finite_where_a_softmax_saturates():
    z = torch.tensor([[1000.0, -1000.0, 3.0]], requires_grad=True)
    (g,) = torch.autograd.grad(Reward()(z, "logits", 0).sum(), z)
    torch.testing.assert_close(g, torch.tensor([[1.0, 0.0, -1.0]]))


P = [[0.2, 0.8], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("reward", "outputs", "form", "target", "message"),
    [
        (Reward(), [[1.0, 0.0], [0.3, 0.7]], "probabilities", 0, r"infinite for 1 of 2 masked inputs.*log_odds_eps"),
        (Reward(), [[0.0, 1.0], [1.0, 0.0]], "probabilities", 0, "infinite for 2 of 2 masked inputs"),
        (Reward(), [[1.0], [0.3]], "probabilities", 1, "infinite for 1 of 2 masked inputs, where .* exactly 0 or 1"),
        (Reward(), [[0.9, 0.9]], "probabilities", 0, "probabilities that sum to 1 in each row"),
        (Reward("probability"), [[-0.1, 1.1]], "probabilities", 0, r"returned -0.1 where a probability in \[0, 1\]"),
        (Reward(), [[float("nan"), 1.0], [0.0, 1.0]], "logits", 0, "NaN or infinite outputs for 1 of 2 masked inputs"),
        (Reward(), [[float("inf"), 1.0]], "logits", 0, "NaN or infinite outputs for 1 of 1 masked inputs"),
        (Reward(), P, "logits", 2, "target is 2, but the model has the outputs 0 to 1"),
        (Reward(), P, "logits", -1, "target is -1, but the model has the outputs 0 to 1"),
        (Reward(), [[0.2]], "logits", 2, "target is 2, but the model has the outputs 0 to 1"),
        (Reward("output"), [[0.2]], "values", 1, "target is 1, but the model has the outputs 0 to 0"),
        (Reward("output"), [[0.2]], "logits", 0, "speaks of class 1; reward output has none for class 0"),
        (Reward(), P, "values", 0, "reward log_odds needs a classifier, but the model gives values; use reward output"),
        (Reward("probability"), P, "values", 0, "reward probability needs a classifier"),
        (Reward("logit"), P, "probabilities", 0, "reward logit needs logits, but the model gives probabilities"),
        (Reward(temperature=2), P, "probabilities", 0, "a temperature needs logits, but the model gives probabilities"),
        (Reward(), P, "scores", 0, "form of the outputs is 'scores'; expected one of logits, probabilities, values"),
        (Reward(), [0.2, 0.8], "logits", 0, r"must return \(batch, outputs\) numbers, got shape \(2,\)"),
    ],
)
def test_refusals(reward, outputs, form, target, message):
    with pytest.raises(InputError, match=message):
        reward(torch.tensor(outputs, dtype=torch.float64), form, target)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("odds",), "reward is 'odds'; expected one of log_odds, log_odds_eps, logit, probability, output"),
        (("log_odds", 0.0), "temperature must be a finite number above 0, got 0.0"),
        (("log_odds", float("nan")), "temperature must be a finite number above 0, got nan"),
        (("logit", 2.0), "reward logit has no temperature, got 2.0"),
    ],
)
def test_refused_kinds(arguments, message):
    with pytest.raises(InputError, match=message):
        Reward(*arguments)
