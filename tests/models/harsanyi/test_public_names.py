"""What scripts rely on: the names of the package, what they accept, and that importing it is light."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch

from conceptry.models import harsanyi
from conceptry.models.errors import InputError
from support import environment

V = np.random.default_rng(5).normal(size=16)
KINDS = {
    "float64": V,
    "float32": V.astype(np.float32),
    "list": V.tolist(),
    "tuple": tuple(V.tolist()),
    "tensor": torch.tensor(V),
    "float32 tensor": torch.tensor(V, dtype=torch.float32),
    "bfloat16 tensor": torch.tensor(V, dtype=torch.bfloat16),
    "tensor with gradient": torch.tensor(V, requires_grad=True),
    "read-only": np.broadcast_to(V, V.shape),
    "strided": np.repeat(V, 2)[::2],
}
TOLERANCES = {"float32": 1e-5, "float32 tensor": 1e-5, "bfloat16 tensor": 0.2}
FUNCTIONS = {
    "moebius": harsanyi.moebius,
    "inverse_moebius": harsanyi.inverse_moebius,
    "or_interactions": harsanyi.or_interactions,
    "inverse_or": harsanyi.inverse_or,
    "shapley_values": harsanyi.shapley_values,
    "strength_by_order": harsanyi.strength_by_order,
    "denoise": lambda v: harsanyi.denoise(v, harsanyi.moebius(v)).errors,
    "aggregate": lambda v: harsanyi.aggregate(harsanyi.subset_masks(4), v).costs,
    "split": lambda v: harsanyi.split(v).l1,
}


def test_every_name_is_there_once():
    assert sorted(set(harsanyi.__all__)) == sorted(harsanyi.__all__)
    assert not [name for name in harsanyi.__all__ if not hasattr(harsanyi, name)]


def test_keywords_of_denoise():
    defaults = {k: p.default for k, p in inspect.signature(harsanyi.denoise).parameters.items()}
    options = {"min_patterns": 15, "max_patterns": 80, "n_greedy": 20}
    assert options.items() <= defaults.items()
    assert (defaults["thres_square_error"], defaults["thres_explain_ratio"]) == (0.1, 0.95)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_arrays_tensors_and_lists_mean_the_same(function, kind):
    found = FUNCTIONS[function](KINDS[kind])
    if isinstance(found, torch.Tensor):
        found = found.detach().double().numpy()
    if function == "denoise" and kind == "bfloat16 tensor":
        assert np.isfinite(found).all()  # I(v) is rounded in bfloat16, so it misses v
        return
    tolerance = TOLERANCES.get(kind, 1e-12)
    np.testing.assert_allclose(found, FUNCTIONS[function](V), rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("wrong", [V.astype(complex), V > 0, list("abcd" * 4), [[1.0, 2.0], [3.0]], None])
def test_what_is_no_table_of_real_numbers_is_refused(function, wrong):
    with pytest.raises(InputError):
        FUNCTIONS[function](wrong)


def test_tensors_of_small_integers_do_not_overflow():
    found = harsanyi.moebius(torch.tensor([5, 1, 2, 200], dtype=torch.uint8))
    assert found.tolist() == [5, -4, -3, 202]


def test_masks_of_aggregate_may_be_tensors_or_lists():
    masks = [[1, 1, 0], [1, 1, 1]]
    expected = harsanyi.aggregate(np.array(masks, bool), np.array([1.0, 2.0]))
    for given in (masks, torch.tensor(masks), torch.tensor(masks).bool()):
        found = harsanyi.aggregate(given, torch.tensor([1.0, 2.0], requires_grad=True))
        np.testing.assert_array_equal(found.words, expected.words)
        np.testing.assert_array_equal(found.costs, expected.costs)


def test_sparsify_takes_arrays():
    def rewards(rows):
        return rows[:, 0] * rows[:, 1] + rows[:, 2]

    x, start = np.array([1.0, -2.0, 3.0]), np.full(3, 0.5)
    arrays = harsanyi.sparsify(rewards, x, start, np.arange(3), 3, lower=np.full(3, -1.0), upper=1.0, steps=5)
    tensors = harsanyi.sparsify(
        rewards, torch.tensor(x), torch.tensor(start), torch.arange(3), 3, lower=-1.0, upper=1.0, steps=5
    )
    np.testing.assert_array_equal(arrays.l1, tensors.l1)
    assert arrays.final_l1 < arrays.initial_l1
    np.testing.assert_array_equal(start, np.full(3, 0.5))


def test_importing_is_light():
    code = (
        "import sys, conceptry.models.harsanyi as h; h.Harsanyi, h.Settings, h.Interactions; "
        "heavy = {'mlflow', 'numba', 'networkx', 'skimage', 'sklearn', 'scipy', 'matplotlib'}; "
        "print(heavy & {name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "set()", done.stderr
