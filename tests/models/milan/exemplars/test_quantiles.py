"""The sketch against all values at once: its error, independence of order and batches, both paths, saved states."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptry.models.errors import InputError
from conceptry.models.milan.exemplars import quantiles
from conceptry.models.milan.exemplars.quantiles import FLOOR, RELATIVE, NotFiniteError, Sketch, sketch_from_state


def exact(values: np.ndarray, share: float) -> np.ndarray:
    """The least value that at least `share` of the values (n, U, h, w) does not exceed, for each unit."""
    ordered = np.sort(np.moveaxis(values, 1, 0).reshape(values.shape[1], -1).astype(np.float64), axis=1)
    return ordered[:, max(int(np.ceil(share * ordered.shape[1])), 1) - 1]


def maps(seed: int, n: int = 6, units: int = 19, side: int = 5, scale: float = 1.0, relu: bool = False) -> torch.Tensor:
    x = torch.randn(n, units, side, side, generator=torch.Generator().manual_seed(seed)) * scale
    return x.relu() if relu else x


def sketched(*batches: torch.Tensor) -> Sketch:
    sketch = Sketch(batches[0].shape[1])
    for batch in batches:
        sketch.add(batch)
    return sketch


def slots(sketch: Sketch) -> np.ndarray:
    """The counts with the slots of 0 taken together: which of them a value is in means nothing."""
    counts = sketch.counts
    zeros = counts[:, : quantiles.ZEROS].sum(1, keepdims=True)
    return np.concatenate((zeros, counts[:, quantiles.ZEROS :]), axis=1)


def same(a: Sketch, b: Sketch) -> bool:
    return bool(np.array_equal(slots(a), slots(b)) and (a.base == b.base).all() and (a.least == b.least).all())


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40),
    st.floats(0.01, 0.99),
)
def test_the_quantile_is_within_the_stated_error(values: list[float], share: float) -> None:
    x = np.array(values, np.float32).reshape(-1, 1, 1, 1)
    level = float(sketched(torch.from_numpy(x)).quantile(share)[0])
    q = float(exact(x, share)[0])
    assert abs(level - q) <= max(RELATIVE * abs(q), FLOOR * float(np.abs(x).max()), 2.0**-125)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_quantiles_of_activations(share: float, relu: bool, scale: float) -> None:
    x = maps(0, n=20, scale=scale, relu=relu)
    q = exact(x.numpy(), share)
    bound = np.maximum(RELATIVE * np.abs(q), FLOOR * np.abs(x.numpy()).max((0, 2, 3)))
    assert (np.abs(sketched(x).quantile(share) - q) <= bound).all()


def test_order_and_batches_do_not_matter() -> None:
    # Each batch is larger than those before it, so windows are moved; and the other way round they are not.
    x = torch.cat([maps(i, scale=8.0**i) for i in range(-4, 4)])
    together, forth, back = sketched(x), sketched(*x.split(5)), sketched(*x.flip(0).split(7))
    assert same(together, forth)
    assert same(together, back)


@pytest.mark.parametrize("units", [1, 16, 19, 40])
@pytest.mark.parametrize("side", [1, 5, 40])
def test_channels_last_is_the_same(units: int, side: int) -> None:
    x = maps(1, n=3, units=units, side=side)
    last = x.contiguous(memory_format=torch.channels_last)
    a, b, c = Sketch(units), Sketch(units), Sketch(units)
    best = x.amax((2, 3)).numpy()
    for sketch, batch in ((a, x), (b, last), (c, x.transpose(2, 3))):
        np.testing.assert_array_equal(sketch.add(batch), best)
    assert same(a, b)
    assert same(a, c)
    assert (a.least == x.amin((0, 2, 3)).numpy()).all()


def test_the_path_of_other_devices_counts_the_same() -> None:
    batches = [maps(i, scale=10.0**i, relu=i % 2 > 0) for i in range(-3, 3)]
    kernel, tensors = sketched(*batches), Sketch(19)
    other = Sketch(19)
    for x in batches:
        high, low = tensors._add_tensors(x)
        tensors.least = np.minimum(tensors.least, low.min(0))
        np.testing.assert_array_equal(other.add(x), high)
    assert same(kernel, tensors)


def test_units_are_shared_among_threads() -> None:
    x = maps(3, units=70)
    alone, before = sketched(x), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert same(alone, sketched(x))
    finally:
        torch.set_num_threads(before)


def test_a_saved_sketch_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [maps(i, scale=4.0**i) for i in range(4)]
    through = sketched(*batches)
    stopped = sketched(*batches[:2])
    state = {name: array.copy() for name, array in stopped.state().items()}
    again = sketch_from_state(state)
    for sketch in (stopped, again):
        for batch in batches[2:]:
            sketch.add(batch)
        assert same(through, sketch)
        assert sketch.total == through.total
    # Counts move to 64 bits before those of 32 run over.
    monkeypatch.setattr(quantiles, "_MOST", 400)
    assert same(through, sketched(*batches))


def test_what_is_not_finite() -> None:
    for bad in (float("nan"), -float("nan"), float("inf"), -float("inf")):
        x = maps(0)
        x[4, 3, 2, 2] = bad
        for batch in (x, x.contiguous(memory_format=torch.channels_last)):
            with pytest.raises(NotFiniteError, match="picture 4 of the batch") as caught:
                Sketch(19).add(batch)
            assert caught.value.image == 4
        with pytest.raises(InputError, match="NaN or infinite"):
            Sketch(19)._add_tensors(x)


def test_other_types_are_read_as_float32() -> None:
    x = maps(0)
    for kind in (torch.float64, torch.float16, torch.bfloat16):
        assert same(sketched(x.to(kind)), sketched(x.to(kind).float()))


def test_a_unit_that_saturates_has_a_level_below_its_maximum() -> None:
    x = torch.zeros(1, 5, 10, 10)
    x[:, 0] = 6.0
    x[:, 0, 0] = torch.linspace(0, 5, 10)  # nine tenths at 6
    x[:, 1] = 3.0  # never varies
    x[:, 3] = -1.0
    x[:, 3, 5:] = 0.0  # at most 0
    x[:, 4, 0, 0] = 2.0
    sketch = sketched(x)
    highest = x.amax((0, 2, 3)).numpy()
    levels = sketch.levels(0.99, highest)
    assert 6 * (1 - 2**-7) < levels[0] < 6
    assert levels[1] == 3
    assert levels[2] == 0
    assert -(2**-14) < levels[3] < 0
    assert levels[4] == 0
