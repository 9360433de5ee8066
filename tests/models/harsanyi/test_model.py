"""From a sample to its interactions: known games through every modality, targets, and what is refused."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import Column
from conceptry.models.harsanyi.model import Harsanyi
from conceptry.models.harsanyi.settings import Settings

NAMES = ("x1", "x2", "x3", "x4")
COLUMNS = tuple(Column(name, "numeric", 0.0, 0.0, 1.0, -2.0, 2.0, mode=0.0) for name in NAMES)


class Table:
    """y = x1 x2 + x3, a game whose interactions are known."""

    name, modality, form, classes, columns = "table", "table", "values", ("y",), COLUMNS

    def __call__(self, rows: pd.DataFrame) -> np.ndarray:
        return (rows["x1"] * rows["x2"] + rows["x3"]).to_numpy(float)[:, None]


class Words:
    """Counts "good", and "not good" as its opposite."""

    name, modality, form, classes, columns = "words", "text", "values", ("y",), ()

    def __call__(self, texts: list[str]) -> np.ndarray:
        return np.array([[("good" in t.split()) - 3.0 * ("not" in t.split() and "good" in t.split())] for t in texts])


class Brightness:
    """The brightness of the left upper cell times that of the right lower one."""

    name, modality, form, classes, columns = "bright", "image", "values", ("y",), ()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        x = images.astype(float) / 255
        return (x[:, :4, :4].mean(axis=(1, 2, 3)) * x[:, 4:, 4:].mean(axis=(1, 2, 3)))[:, None]


class Binary:
    """One logit for two classes."""

    name, modality, form, classes, columns = "binary", "table", "logits", ("no", "yes"), COLUMNS

    def __call__(self, rows: pd.DataFrame) -> np.ndarray:
        return rows["x1"].to_numpy(float)[:, None]


class Network:
    """Logits of a small torch network: differentiable."""

    name, modality, form, classes, columns = "network", "table", "logits", ("a", "b", "c"), COLUMNS

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(0)
        self.w, self.u = torch.randn(4, 8, generator=g), torch.randn(8, 3, generator=g)

    def __call__(self, rows: pd.DataFrame) -> np.ndarray:
        with torch.inference_mode():
            return self.forward(self.encode(rows)).double().numpy()

    def encode(self, rows: pd.DataFrame) -> torch.Tensor:
        return torch.from_numpy(np.array(rows[list(NAMES)], dtype=np.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ self.w) @ self.u

    def feature_owner(self, rows: pd.DataFrame) -> torch.Tensor:
        return torch.arange(4)


def named(interactions) -> dict[tuple[str, ...], float]:
    rows = interactions.strongest()
    names = [tuple(np.array(interactions.players)[mask]) for mask in interactions.masks(rows)]
    return {name: effect for name, effect in zip(names, interactions.effects[rows], strict=True) if abs(effect) > 1e-9}


def test_a_product_and_a_sum_are_exactly_those() -> None:
    found = Harsanyi(Table()).explain({"x1": 2.0, "x2": 3.0, "x3": -1.5, "x4": 9.0})
    assert named(found) == pytest.approx({("x1", "x2"): 6.0, ("x3",): -1.5})
    assert (found.v_empty, found.v_full, found.calls) == (0.0, 4.5, 16)
    assert found.residual < 1e-12
    np.testing.assert_allclose(found.shapley, [3.0, 3.0, -1.5, 0.0])


def test_a_baseline_other_than_zero_shifts_the_game() -> None:
    """With x = b + d: x1 x2 = b1 b2 + d1 b2 + b1 d2 + d1 d2."""
    row, base = {"x1": 2.0, "x2": 3.0, "x3": 1.0, "x4": 0.0}, {"x1": 1.0, "x2": -1.0, "x3": 0.5, "x4": 0.0}
    found = Harsanyi(Table(), Settings(baseline="row"), baseline_row=base).explain(row)
    expected = {("x1",): -1.0, ("x2",): 4.0, ("x1", "x2"): 4.0, ("x3",): 0.5}
    assert named(found) == pytest.approx(expected)
    assert found.v_empty == pytest.approx(-0.5)
    without = Harsanyi(Table(), Settings(baseline="row", subtract_empty=True), baseline_row=base).explain(row)
    assert without.v_empty == 0.0
    assert named(without) == pytest.approx(expected)


def test_groups_and_background() -> None:
    row = {"x1": 2.0, "x2": 3.0, "x3": -1.5, "x4": 9.0}
    groups = {"product": ["x1", "x2"], "x3": ["x3"], "x4": ["x4"]}
    assert named(Harsanyi(Table(), groups=groups).explain(row)) == pytest.approx({("product",): 6.0, ("x3",): -1.5})
    always = Harsanyi(Table(), Settings(background="x1,x4")).explain(row)
    assert always.players == ("x2", "x3")
    assert named(always) == pytest.approx({("x2",): 6.0, ("x3",): -1.5})


def test_words() -> None:
    found = Harsanyi(Words()).explain("It is not good")
    assert found.players == ("It", "is", "not", "good")
    assert named(found) == pytest.approx({("good",): 1.0, ("not", "good"): -3.0})
    grouped = Harsanyi(Words(), Settings(players="words:2")).explain("It is not good")
    assert len(grouped.players) == 2
    assert named(grouped) == pytest.approx({(grouped.players[1],): -2.0})


def test_picture_cells() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4, :4], image[4:, 4:] = 255, 255
    found = Harsanyi(Brightness(), Settings(players="grid:2x2")).explain(image)
    assert len(found.players) == 4
    assert found.v_full == pytest.approx(1.0)
    # the mean colour stands for absent cells: 127 or 128 of 255
    b = found.v_empty**0.5
    assert found.shapley[0] == pytest.approx(found.shapley[3])
    assert named(found)[(found.players[0], found.players[3])] == pytest.approx((1 - b) ** 2)


def test_targets() -> None:
    row = dict.fromkeys(NAMES, 0.0) | {"x1": 2.0}
    assert Harsanyi(Binary()).explain(row).target == "yes"
    assert Harsanyi(Binary()).explain(row).v_full == pytest.approx(2.0)
    assert Harsanyi(Binary()).explain(row, "no").v_full == pytest.approx(-2.0)
    assert Harsanyi(Binary(), Settings(target="0")).explain(row).target == "no"
    with pytest.raises(
        InputError, match="binary has no output 'yess'; expected predicted, an index below 2, or a name"
    ):
        Harsanyi(Binary()).explain(row, "yess")
    with pytest.raises(InputError, match="no output"):
        Harsanyi(Binary(), Settings(target="maybe"))


def test_and_or_parts_recompose_and_are_no_longer() -> None:
    row = dict(zip(NAMES, (1.0, -0.5, 2.0, 0.3), strict=True))
    both = Harsanyi(Network(), Settings(interactions="and-or")).explain(row)
    alone = Harsanyi(Network()).explain(row)
    assert both.i_or is not None
    assert both.residual < 1e-9
    assert both.l1 <= alone.l1 + 1e-9
    np.testing.assert_allclose(both.shapley, alone.shapley)
    assert set(both.kinds(both.strongest())) <= {"and", "or"}


def test_a_learned_baseline_is_never_denser() -> None:
    row = dict(zip(NAMES, (1.0, -0.5, 2.0, 0.3), strict=True))
    settings = Settings(baseline="learned", learning_steps=20)
    found = Harsanyi(Network(), settings).explain(row)
    fixed = Harsanyi(Network()).explain(row)
    assert found.learned is not None
    assert found.learned.initial_l1 == pytest.approx(fixed.l1, rel=1e-4)
    assert found.l1 < 0.95 * fixed.l1
    assert found.calls == 21 * 16
    again = Harsanyi(Network(), settings).explain(row)
    np.testing.assert_array_equal(found.v, again.v)


def test_calls_are_counted_and_bounded_by_the_size_of_an_input() -> None:
    rows: list[int] = []

    class Counting(Brightness):
        def __call__(self, images: np.ndarray) -> np.ndarray:
            rows.append(len(images))
            return super().__call__(images)

    found = Harsanyi(Counting(), Settings(target="y")).explain(np.zeros((8, 8, 3), np.uint8))
    assert (found.calls, rows) == (512, [512])
    rows.clear()
    found = Harsanyi(Counting(), Settings(target="y")).explain(np.zeros((256, 256, 3), np.uint8))
    assert found.calls == sum(rows) == 512
    assert max(rows) * 256 * 256 * 3 <= 2**22


def test_calls_of_learning_in_batches() -> None:
    rows: list[int] = []

    class Counting(Network):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows.append(len(x))
            return super().forward(x)

    row = dict(zip(NAMES, (1.0, -0.5, 2.0, 0.3), strict=True))
    for batch_size in (16, 5):
        settings = Settings(baseline="learned", learning_steps=3, batch_size=batch_size, target="a")
        rows.clear()
        assert Harsanyi(Counting(), settings).explain(row).calls == sum(rows)


def test_words_follow_the_tokens_of_the_model() -> None:
    class Tokens(Words):
        def tokens(self, text: str) -> list[str]:
            return text.split()

    assert Harsanyi(Words()).explain("it 's [good]").players == ("it", "'", "s", "[", "good", "]")
    assert Harsanyi(Tokens()).explain("it 's [good]\nfilm").players == ("it", "'s", "[good]", "film")


def test_what_cannot_be_explained() -> None:
    with pytest.raises(InputError, match=r"a learned baseline needs a differentiable \(torch\) model, table is none"):
        Harsanyi(Table(), Settings(baseline="learned"))
    with pytest.raises(InputError, match="a table model has no baseline 'blur'; expected one of mean, median"):
        Harsanyi(Table(), Settings(baseline="blur"))
    with pytest.raises(
        InputError, match=r"4 players, and at most 3 are accepted; group columns .* or raise max_players"
    ):
        Harsanyi(Table(), Settings(engine="exact", max_players=3)).explain(dict.fromkeys(NAMES, 1.0))
    with pytest.raises(
        InputError, match="14 players, and at most 13 are accepted; group words by players words:13, or"
    ):
        Harsanyi(Words(), Settings(engine="exact")).explain("good " * 14)
    with pytest.raises(InputError, match=r"words:13, or take the engine sampled$"):
        Harsanyi(Words(), Settings(engine="exact")).explain("good " * 21)
    with pytest.raises(InputError, match=r"1001 players, and the engine sampled takes 1000 at the most; group inputs"):
        Harsanyi(Words()).explain("good " * 1001)
    with pytest.raises(InputError, match="16 players, and at most 13 are accepted; choose a coarser grid or fewer"):
        Harsanyi(Brightness(), Settings(players="grid:4x4", engine="exact")).explain(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="25 players, and at most 20 are accepted; choose a coarser grid or fewer"):
        Harsanyi(Brightness(), Settings(players="grid:5x5", engine="exact", max_players=20)).explain(
            np.zeros((8, 8, 3), np.uint8)
        )
    with pytest.raises(InputError, match="a table model has no baseline 'mean:2'; expected one of mean, median"):
        Harsanyi(Table(), Settings(baseline="mean:2"))
    with pytest.raises(InputError, match="names no mask token"):
        Harsanyi(Words(), Settings(baseline="token")).explain("good")
    with pytest.raises(InputError, match="players must be words or words:K"):
        Harsanyi(Words(), Settings(players="grid:2x2")).explain("good")
    with pytest.raises(InputError, match="max_players must be 1 to 20, got 21"):
        Settings(max_players=21)
    with pytest.raises(InputError, match="temperature must be a finite number above 0"):
        Settings(temperature=float("nan"))
    with pytest.raises(InputError, match=r"min_patterns \(90\) must not exceed max_patterns"):
        Settings(min_patterns=90)


def test_salient_and_strongest_leave_the_empty_set_out() -> None:
    found = Harsanyi(Table(), Settings(baseline="row"), baseline_row={"x1": 0.0, "x2": 0.0, "x3": 100.0, "x4": 0.0})
    interactions = found.explain({"x1": 1.0, "x2": 1.0, "x3": 100.01, "x4": 1.0})
    assert interactions.v_empty == pytest.approx(100.0)
    assert named(interactions) == pytest.approx({("x1", "x2"): 1.0, ("x3",): 0.01})
    assert len(interactions.salient) == 1
    subsets = list(itertools.product((False, True), repeat=4))
    assert [tuple(m) for m in interactions.masks(np.arange(16))] == subsets
