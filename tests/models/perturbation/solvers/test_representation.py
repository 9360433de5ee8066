"""The representation of a layer, and that the network is left without hooks whatever happens."""

import threading
from contextlib import ExitStack

import pytest
import torch
from torch import nn

from conceptry.models.errors import InputError
from conceptry.models.explained.hooks import evaluation_mode
from conceptry.models.perturbation.solvers.representation import relative_distance, representation

X = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model(user_network):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten())
    return user_network(nn.ModuleDict({"body": body, "head": nn.Linear(12, 2)}), "logits", ("a", "b"))


@pytest.fixture(autouse=True)
def forward(model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "from_pixels", lambda x: model.module["head"](model.module["body"](x)))


def hooks_of(model) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.module.modules())


def test_by_default_it_is_what_goes_into_the_last_linear(model) -> None:
    with representation(model) as read:
        torch.testing.assert_close(read(X), model.module["body"](X))
    with representation(model, "body.0") as read:
        torch.testing.assert_close(read(X), model.module["body"][0](X).flatten(1))
    assert hooks_of(model) == 0


def test_it_can_be_differentiated(model) -> None:
    x = X.clone().requires_grad_()
    with representation(model, "body.1") as read:
        (gradient,) = torch.autograd.grad(read(x).square().sum(), x)
    assert gradient.abs().sum() > 0


def test_a_layer_is_read_before_a_later_one_writes_over_it(model) -> None:
    with representation(model, "body.0") as read:
        expected = read(X)
    model.module["body"][1].inplace = True
    with representation(model, "body.0") as read:
        torch.testing.assert_close(read(X), expected, rtol=0, atol=0)
    assert (expected < 0).any()  # which a ReLU would have taken away


def test_layers_that_cannot_be_read(model, user_network) -> None:
    for layer, sentence in (
        ("bdy.0", "mine: has no layer 'bdy.0'; expected one such as body.0"),
        ("x", "such as body"),
    ):
        with pytest.raises(InputError, match=sentence), representation(model, layer):
            pass
    model.module["spare"] = nn.Identity()
    with (
        pytest.raises(InputError, match="layer 'spare' is not run as a module of its own"),
        representation(model, "spare") as read,
    ):
        read(X)
    assert hooks_of(model) == 0
    convolution = user_network(nn.Sequential(nn.Conv2d(1, 2, 4), nn.Flatten()))
    with pytest.raises(InputError, match="mine: has no Linear layer; name one of 0, 1"), representation(convolution):
        pass


class _Pair(nn.Module):
    def forward(self, x):
        return x, x


def test_a_layer_has_to_put_out_one_tensor(user_network) -> None:
    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = _Pair()

        def forward(self, x):
            return self.pair(x)[0].flatten(1)[:, :2]

    model = user_network(Body())
    with (
        pytest.raises(InputError, match=r"layer 'pair' does not put out one tensor \(batch, ...\)"),
        representation(model, "pair") as read,
    ):
        read(X)


def test_hooks_are_gone_after_an_error(model) -> None:
    with pytest.raises(RuntimeError, match="shapes"), representation(model) as read:  # of torch itself
        read(torch.ones(2, 1, 9, 9))
    assert hooks_of(model) == 0


def test_other_threads_do_not_disturb_it(model) -> None:
    expected = model.module["body"](X)
    stop = threading.Event()

    def others() -> None:
        while not stop.is_set():
            model.from_pixels(torch.zeros(5, 1, 4, 4))

    thread = threading.Thread(target=others)
    thread.start()
    try:
        with representation(model) as read:
            for _ in range(200):
                torch.testing.assert_close(read(X), expected)
    finally:
        stop.set()
        thread.join()


def test_the_hook_lasts_as_long_as_the_context_whoever_else_uses_the_network(model) -> None:
    with ExitStack() as other:
        other.enter_context(evaluation_mode(model.module))
        with representation(model) as read:
            other.close()
            torch.testing.assert_close(read(X), model.module["body"](X))
        assert hooks_of(model) == 0
    with ExitStack() as other:
        with representation(model):
            other.enter_context(evaluation_mode(model.module))
        assert hooks_of(model) == 0
    assert hooks_of(model) == 0


def test_relative_distance() -> None:
    t = torch.tensor([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]])
    f = torch.tensor([[0.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    assert relative_distance(f, t).tolist() == [1.0, 0.5, 0.0]
    x = t.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(relative_distance(x, t).sum(), x)
    assert gradient.tolist() == [[0, 0]] * 3  # where it is matched there is no direction, and no NaN
