"""What layers put out, seen as units over positions."""

import pytest
import torch
from torch import nn

from conceptry.models.errors import InputError
from conceptry.models.milan.exemplars.activations import default_hiddens, record_activations


def test_maps_tokens_and_features() -> None:
    maps = torch.randn(2, 5, 3, 4)
    assert default_hiddens(maps) is maps
    assert default_hiddens(torch.randn(2, 5)).shape == (2, 5, 1, 1)
    tokens = torch.randn(2, 10, 5)
    folded = default_hiddens(tokens)
    assert folded.shape == (2, 5, 3, 3)
    for row in range(3):
        for column in range(3):
            torch.testing.assert_close(folded[:, :, row, column], tokens[:, 1 + 3 * row + column])


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (torch.randn(2, 9, 5), "puts out 9 tokens, which without the first are no square of patches"),
        (torch.randn(2, 1, 5), "puts out 1 tokens"),
        (torch.randn(2, 3, 4, 5, 6), r"puts out shape \(2, 3, 4, 5, 6\); expected maps"),
        (torch.randn(2), r"puts out shape \(2,\)"),
        ((torch.randn(2, 5), 1), "puts out a tuple of 2, not one tensor; pass transform_hiddens"),
        ({"a": 1}, "puts out dict, not one tensor"),
    ],
)
def test_other_outputs_name_the_hook(output, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        default_hiddens(output)
    assert "transform_hiddens" in str(caught.value)


def test_outputs_of_tuples_by_a_hook() -> None:
    class Pair(nn.Module):
        def forward(self, x):
            return x, x.sum()

    model = nn.Sequential(Pair())
    with record_activations(model, ["0"], "mine", lambda output: output[0]) as recorder:
        recorder.run(lambda: model(torch.ones(2, 3, 4, 4)))
        assert recorder.take("0", 2).shape == (2, 3, 4, 4)
    with record_activations(model, ["0"], "mine") as recorder:
        recorder.run(lambda: model(torch.ones(2, 3, 4, 4)))
        with pytest.raises(InputError, match="mine: layer '0' puts out a tuple of 2"):
            recorder.take("0", 2)


@pytest.mark.parametrize(
    ("hook", "sentence"),
    [
        (lambda x: x.flatten(1), r"expected real activations \(n, units, h, w\), got \(2, 48\)"),
        (lambda x: x.long(), "expected real activations"),
        (lambda x: None, "got NoneType"),
        (lambda x: x.transpose(0, 1), r"gives activations \(3, 2, 4, 4\) for 2 pictures, expected \(2, units, h, w\)"),
        (lambda x: x[:, :0], r"gives activations \(2, 0, 4, 4\)"),
    ],
)
def test_hooks_that_give_something_else(hook, sentence: str) -> None:
    model = nn.Sequential(nn.Identity())
    with record_activations(model, ["0"], "mine", hook) as recorder:
        recorder.run(lambda: model(torch.ones(2, 3, 4, 4)), stop_early=True)
        with pytest.raises(InputError, match=sentence):
            recorder.take("0", 2)


def test_later_passes_stop_after_the_last_layer() -> None:
    calls: list[str] = []

    class Told(nn.Identity):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, x):
            calls.append(self.name)
            return x

    model = nn.Sequential(Told("a"), Told("b"), Told("c"))
    x = torch.ones(1, 2, 3, 3)
    with record_activations(model, ["1", "0"], "mine") as recorder:
        for stop_early, result in ((True, True), (True, False), (False, True)):
            assert (recorder.run(lambda: model(x), stop_early=stop_early) is not None) == result
            recorder.take("0", 1)
            recorder.take("1", 1)
    assert "".join(calls) == "abc" + "ab" + "abc"


def test_layers_that_run_twice_are_always_run_to_the_end() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(relu, nn.Conv2d(2, 2, 1), relu)
    x = torch.randn(1, 2, 3, 3)
    with record_activations(model, ["0"], "mine") as recorder:
        for _ in range(3):
            output = recorder.run(lambda: model(x), stop_early=True)
            torch.testing.assert_close(recorder.take("0", 1), output)


def test_layers_are_looked_at_once_as_soon_as_they_have_run() -> None:
    order: list[str] = []

    class Changing(nn.Module):
        """Writes over its input, so that who looks later sees zeros."""

        def forward(self, x):
            order.append("change")
            return x.mul_(0)

    model = nn.Sequential(nn.Conv2d(2, 2, 1), Changing(), nn.ReLU())
    x = torch.randn(1, 2, 3, 3)
    with torch.no_grad():
        expected = model[0](x)
    with record_activations(model, ["0", "2"], "mine") as recorder:

        def look(layer: str) -> None:
            order.append(layer)
            seen = recorder.take(layer, 1)
            torch.testing.assert_close(seen, expected if layer == "0" else torch.zeros_like(expected))

        for asked in (["change", "change", "0", "2"], ["0", "change", "2"], ["0", "change", "2"]):
            order.clear()
            recorder.run(lambda: model(x), stop_early=True, on_layer=look)
            assert order == asked


def test_a_layer_that_later_runs_twice_is_refused() -> None:
    class Often(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part, self.last, self.times = nn.Identity(), nn.Identity(), 1

        def forward(self, x):
            for _ in range(self.times):
                x = self.part(x)
            return self.last(x)

    model, x = Often(), torch.ones(1, 2, 3, 3)
    with record_activations(model, ["part", "last"], "mine") as recorder:
        recorder.run(lambda: model(x), stop_early=True, on_layer=lambda layer: recorder.take(layer, 1))
        model.times = 2
        with pytest.raises(InputError, match="'part' runs once for some pictures and several times for others"):
            recorder.run(lambda: model(x), stop_early=True, on_layer=lambda layer: recorder.take(layer, 1))
