"""What layers put out, seen as units over positions."""

import pytest
import torch
from torch import nn

from conceptry.models.errors import InputError
from conceptry.models.milan.exemplars.activations import Form, default_hiddens, record_activations


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


def test_channels_that_come_last() -> None:
    maps = torch.randn(2, 5, 5, 7)
    with pytest.raises(InputError, match=r"shape \(2, 5, 5, 7\), whose units may be the last axis .* \(--channels\)"):
        default_hiddens(maps)
    assert default_hiddens(maps, Form("first")) is maps
    assert torch.equal(default_hiddens(maps, Form("last")), maps.permute(0, 3, 1, 2))
    square = torch.randn(2, 5, 5, 5)
    assert default_hiddens(square) is square


class Last(nn.Module):
    """Works on maps (n, h, w, c), as ConvNeXt and Swin do inside, and puts them out so."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear, self.act = nn.LayerNorm(3), nn.Linear(3, 7), nn.GELU()

    def forward(self, x):
        return self.act(self.linear(self.norm(x.permute(0, 2, 3, 1))))


def test_layers_over_the_last_axis_are_known() -> None:
    model = nn.Sequential(Last())
    x = torch.randn(2, 3, 4, 4)
    with torch.no_grad():
        expected = model(x).permute(0, 3, 1, 2)
    with record_activations(model, ["0.norm", "0.linear", "0.act"], "mine") as recorder:
        recorder.run(lambda: model(x))
        assert recorder.take("0.norm", 2).shape == (2, 3, 4, 4)
        assert recorder.take("0.linear", 2).shape == (2, 7, 4, 4)
        with pytest.raises(InputError, match=r"layer '0.act' puts out shape \(2, 4, 4, 7\), whose units may be"):
            recorder.take("0.act", 2)
    with record_activations(model, ["0.act"], "mine", channels="last") as recorder:
        recorder.run(lambda: model(x))
        torch.testing.assert_close(recorder.take("0.act", 2), expected)


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_transformers_say_how_many_tokens_are_no_patches(prefix: int) -> None:
    model = nn.Sequential()
    model.trunk = nn.Sequential(nn.Identity())
    model.trunk.num_prefix_tokens = prefix  # type: ignore[assignment]  # as timm has it
    tokens = torch.randn(2, prefix + 9, 4)
    with record_activations(model, ["trunk.0"], "mine") as recorder:
        recorder.run(lambda: model(tokens))
        torch.testing.assert_close(recorder.take("trunk.0", 2).flatten(2), tokens[:, prefix:].transpose(1, 2))
        recorder.run(lambda: model(tokens[:, 1:]))
        with pytest.raises(InputError, match="no square of patches; pass transform_hiddens"):
            recorder.take("trunk.0", 2)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # which is out of date
def test_numbers_of_other_kinds() -> None:
    model = nn.Sequential(nn.Identity())
    x = torch.rand(2, 3, 4, 4)
    with record_activations(model, ["0"], "mine") as recorder:
        recorder.run(lambda: model(torch.quantize_per_tensor(x, 1 / 255, 0, torch.quint8)))
        torch.testing.assert_close(recorder.take("0", 2), x, atol=1 / 255, rtol=0)
        recorder.run(lambda: model((x * 255).long()))
        with pytest.raises(InputError, match="layer '0': expected real activations, got int64; pass transform"):
            recorder.take("0", 2)


@pytest.mark.parametrize("convert", [torch.jit.script, lambda module: torch.jit.trace(module, torch.rand(2, 3, 4, 4))])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's, of torch.jit
def test_scripted_and_traced_modules_take_no_hooks(convert) -> None:
    inner = convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval())
    for model, layer in ((inner, "0"), (nn.Sequential(inner), "0.1"), (nn.Sequential(inner), "0")):
        with (
            pytest.raises(InputError, match=rf"mine: is scripted or traced \(torch.jit\) at layer '{layer}', and such"),
            record_activations(model, [layer], "mine"),
        ):
            pass


def test_outputs_of_inference_mode_are_copied() -> None:
    """Nobody counts their changes, so it is not seen that what follows a layer writes over its output."""
    model = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    with torch.inference_mode():
        x = -torch.ones(2, 3, 4, 4)
        with record_activations(model, ["0"], "mine") as recorder:
            recorder.run(lambda: model(x))
            assert (recorder.take("0", 2) == -1).all()


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
