"""The solvers of SpLiCE against slow literal transcriptions, planted codes and the KKT conditions."""

import math
import threading
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptry.models.errors import ConvergenceWarning, InputError
from conceptry.models.splice.decomposition import SOLVERS, decompose
from conceptry.models.splice.solvers import active_set, duality
from conceptry.models.splice.solvers.duality import duality_gap


def unit(x):
    return torch.nn.functional.normalize(x, dim=1)


def problem(seed, batch=6, n_concepts=60, d=12, coherence=0.0, dtype=torch.float64):
    """Random unit rows; with coherence the concepts lean towards one of five directions."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(5, d, generator=g, dtype=dtype)
    own = torch.randn(n_concepts, d, generator=g, dtype=dtype)
    C = unit((1 - coherence) * own + coherence * centres[torch.arange(n_concepts) % 5])
    V = unit(torch.randn(batch, d, generator=g, dtype=dtype))
    return V, C


def objective(V, C, W, l1_penalty):
    return ((V - W @ C) ** 2).sum(1) + l1_penalty * W.sum(1)


def reference(V, C, l1_penalty, sweeps=3000):
    """Cyclic coordinate descent, each step as in the textbook: minimise over one weight, all others fixed."""
    V, C = V.double().numpy(), C.double().numpy()
    W = np.zeros((len(V), len(C)))
    for v, w in zip(V, W, strict=True):
        r = v.copy()
        for _ in range(sweeps):
            moved = 0.0
            for i, c in enumerate(C):
                new = max(0.0, (c @ (r + w[i] * c) - l1_penalty / 2) / (c @ c))
                r += (w[i] - new) * c
                moved = max(moved, abs(w[i] - new))
                w[i] = new
            if moved < 1e-13:
                break
    return torch.from_numpy(W)


def brute_force(v, C, l1_penalty):
    """The minimum over all supports, each by its normal equations."""
    best = float(v @ v)
    for mask in range(1, 2 ** len(C)):
        S = [i for i in range(len(C)) if mask >> i & 1]
        w = torch.linalg.lstsq(C[S] @ C[S].T, C[S] @ v - l1_penalty / 2).solution
        if (w >= 0).all():
            best = min(best, float(((v - w @ C[S]) ** 2).sum() + l1_penalty * w.sum()))
    return best


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("coherence", [0.0, 0.7])
def test_agrees_with_textbook_coordinate_descent(solver, coherence):
    V, C = problem(1, coherence=coherence)
    expected = reference(V, C, 0.2)
    tolerance = 1e-5 if solver == "admm" else 1e-9
    result = decompose(V, C, 0.2, solver, tolerance=tolerance, max_iterations=20_000)
    assert result.gap.max() <= tolerance
    torch.testing.assert_close(
        objective(V, C, result.to_dense(), 0.2), objective(V, C, expected, 0.2), atol=tolerance, rtol=0
    )
    torch.testing.assert_close(result.to_dense(), expected, atol=tolerance**0.5, rtol=0)


def test_agrees_with_the_minimum_over_all_supports():
    V, C = problem(2, batch=5, n_concepts=8, d=5)
    W = decompose(V, C, 0.3).to_dense()
    expected = torch.tensor([brute_force(v, C, 0.3) for v in V], dtype=torch.float64)
    torch.testing.assert_close(objective(V, C, W, 0.3), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("l1_penalty", [0.4, 0.1, 0.01])
def test_kkt_conditions(dtype, l1_penalty):
    V, C = problem(3, batch=20, n_concepts=800, d=48, coherence=0.6, dtype=dtype)
    W = decompose(V, C, l1_penalty).to_dense().double()
    correlations = (V.double() - W @ C.double()) @ C.double().T
    precision = 1e-6 if dtype == torch.float32 else 1e-10
    assert (correlations <= l1_penalty / 2 + precision).all()
    assert (correlations - l1_penalty / 2).abs()[W > 0].max() <= precision
    assert (W >= 0).all()


@pytest.mark.parametrize("solver", ["active_set", "sklearn"])
def test_planted_codes_are_recovered(solver):
    # With v = C^T w + (tau on the support, nothing elsewhere), KKT holds at w: the code is the solution.
    g = torch.Generator().manual_seed(4)
    C = torch.linalg.qr(torch.randn(64, 64, generator=g, dtype=torch.float64)).Q
    C = torch.cat([C, unit(-C[:32] - C[32:])])  # negatively correlated with every planted atom
    planted = torch.zeros(10, 96, dtype=torch.float64)
    for row in planted:
        row[torch.randperm(64, generator=g)[:7]] = torch.rand(7, generator=g, dtype=torch.float64) + 0.1
    V = (planted + 0.125 * (planted > 0)) @ C
    result = decompose(V, C, 0.25, solver, tolerance=1e-10)
    torch.testing.assert_close(result.to_dense(), planted, atol=1e-5, rtol=0)
    assert result.l0.tolist() == [7] * 10


@pytest.mark.parametrize("solver", SOLVERS)
def test_penalty_from_its_maximum_on_gives_zero(solver):
    V, C = problem(5)
    largest = float((2 * V @ C.T).max())
    result = decompose(V, C, largest * (1 + 1e-9), solver, tolerance=1e-8)
    assert result.l0.tolist() == [0] * 6
    assert torch.equal(result.gap, torch.zeros(6, dtype=torch.float64))
    assert decompose(V, C, largest * 0.99, solver, tolerance=1e-8).l0.sum() == 1


@pytest.mark.parametrize("solver", SOLVERS)
def test_zero_row_and_empty_batch(solver):
    V, C = problem(6, dtype=torch.float32)
    V[2] = 0
    result = decompose(V, C, 0.2, solver, tolerance=1e-5)
    assert result.l0[2] == 0
    assert result.gap[2] == 0
    empty = decompose(V[:0], C, 0.2, solver)
    assert empty.shape == (0, 60)
    assert empty.weights.shape == empty.to_dense().shape == (0, 60)
    assert torch.equal(empty.mean(), torch.zeros(60))


def test_permuting_rows_and_concepts_permutes_the_weights():
    V, C = problem(7, batch=30, n_concepts=900, d=40, coherence=0.5, dtype=torch.float32)
    g = torch.Generator().manual_seed(0)
    rows, words = torch.randperm(30, generator=g), torch.randperm(900, generator=g)
    expected = decompose(V, C, 0.1).to_dense()[rows][:, words]
    torch.testing.assert_close(decompose(V[rows], C[words], 0.1).to_dense(), expected, atol=1e-5, rtol=0)


def test_equal_and_dependent_concepts():
    V, C = problem(8, batch=8, n_concepts=40, d=10)
    expected = objective(V, C, decompose(V, C, 0.05).to_dense(), 0.05)
    between = unit(C[:20] + C[20:])
    for D in (torch.cat([C, C, C]), C.repeat_interleave(30, dim=0), torch.cat([C, torch.zeros(5, 10)])):
        result = decompose(V, D, 0.05)
        assert result.converged.all()
        torch.testing.assert_close(objective(V, D, result.to_dense(), 0.05), expected, atol=1e-9, rtol=0)
    assert decompose(V, torch.cat([C, between, C, between]), 0.001).converged.all()


def test_more_equal_concepts_than_a_pool_holds():
    V, C = problem(9, batch=3, n_concepts=3, d=6, dtype=torch.float32)
    D = C.repeat(700, 1)
    result = decompose(V, D, 0.1)
    torch.testing.assert_close(
        objective(V, D, result.to_dense(), 0.1), objective(V, C, reference(V, C, 0.1).float(), 0.1)
    )
    assert result.converged.all()


@pytest.mark.parametrize("l1_penalty", [1e-2, 1e-4, 1e-7])
def test_tiny_penalties(l1_penalty):
    V, C = problem(10, batch=5, n_concepts=500, d=32, coherence=0.5, dtype=torch.float32)
    result = decompose(V, C, l1_penalty)
    assert result.converged.all()
    assert result.l0.max() <= 32


def test_concepts_of_any_norm():
    V, C = problem(11, batch=3, n_concepts=120)
    C = C * torch.linspace(0.1, 10, 120, dtype=torch.float64)[:, None]
    result = decompose(V, C, 0.2)
    torch.testing.assert_close(
        objective(V, C, result.to_dense(), 0.2), objective(V, C, reference(V, C, 0.2), 0.2), atol=1e-9, rtol=0
    )


def test_the_bound_holds_when_product_inputs_are_rounded():
    V, C = problem(12, batch=40, n_concepts=2000, d=32, coherence=0.6, dtype=torch.float32)
    expected = decompose(V, C, 0.1)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        result = decompose(V, C, 0.1)
    finally:
        torch.set_float32_matmul_precision(before)
    assert result.converged.all()
    torch.testing.assert_close(result.to_dense(), expected.to_dense(), atol=1e-5, rtol=0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    d=st.integers(1, 12),
    n_concepts=st.integers(1, 400),
    coherence=st.floats(0, 0.95),
    l1_penalty=st.floats(1e-3, 3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_certificate_properties(seed, d, n_concepts, coherence, l1_penalty, dtype):
    V, C = problem(seed, 4, n_concepts, d, coherence, dtype)
    result = decompose(V, C, l1_penalty)
    assert result.converged.all()
    assert result.gap.min() >= -1e-9
    exact = duality_gap(V, C, result.weights, l1_penalty)
    assert exact.max() <= 2e-6
    precision = 1e-9 if dtype == torch.float64 else 1e-6  # float32 weights are rounded after the certificate
    assert (exact <= result.gap + precision).all()  # what is reported is the gap or a bound on it
    assert result.l0.max() <= min(d, n_concepts)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), coherence=st.floats(0, 0.8), l1_penalty=st.floats(0.05, 1))
def test_solvers_agree(seed, coherence, l1_penalty):
    V, C = problem(seed, 3, 50, 10, coherence)
    results = [decompose(V, C, l1_penalty, s, tolerance=1e-4, max_iterations=20_000) for s in SOLVERS]
    values = [objective(V, C, r.to_dense(), l1_penalty) for r in results]
    for value in values[1:]:
        torch.testing.assert_close(value, values[0], atol=1e-4, rtol=0)


def test_gap_of_arbitrary_weights_bounds_the_suboptimality():
    V, C = problem(13)
    W = torch.rand(6, 60, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.02
    best = objective(V, C, reference(V, C, 0.2), 0.2)
    gap = duality_gap(V, C, W, 0.2)
    assert (gap >= objective(V, C, W, 0.2) - best - 1e-12).all()
    theta = (V - W @ C) * (0.1 / ((V - W @ C) @ C.T).amax(1, keepdim=True)).clamp(max=1)
    literal = objective(V, C, W, 0.2) - ((V**2).sum(1) - ((V - theta) ** 2).sum(1))
    torch.testing.assert_close(gap, literal, atol=1e-12, rtol=0)
    torch.testing.assert_close(duality_gap(V, C, W.to_sparse_coo(), 0.2), gap, atol=1e-12, rtol=0)


@pytest.mark.parametrize("solver", ["active_set", "admm"])
def test_chunks_change_nothing(solver, monkeypatch):
    V, C = problem(14, batch=50, n_concepts=300, d=48, dtype=torch.float32)
    whole = decompose(V, C, 0.2, solver, tolerance=1e-3)
    monkeypatch.setattr(duality, "CHUNK_BYTES", 300 * 4 * 28)
    chunked = decompose(V, C, 0.2, solver, tolerance=1e-3)
    torch.testing.assert_close(chunked.to_dense(), whole.to_dense(), atol=1e-4, rtol=0)
    again = decompose(V, C, 0.2, solver, tolerance=1e-3)
    assert torch.equal(again.to_dense(), chunked.to_dense())  # deterministic, to the bit


def test_many_threads_at_once_give_what_one_gives():
    V, C = problem(15, batch=200, n_concepts=500, d=24, dtype=torch.float32)
    batches = V.split(25)
    expected = [decompose(b, C, 0.1).to_dense() for b in batches]
    results: list = [None] * len(batches)

    def work(i):
        results[i] = decompose(batches[i], C, 0.1).to_dense()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for result, e in zip(results, expected, strict=True):
        torch.testing.assert_close(result, e, atol=1e-5, rtol=0)


def test_rows_are_shared_among_the_threads_torch_may_use():
    V, C = problem(16, batch=101, n_concepts=500, d=24, dtype=torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = decompose(V, C, 0.1).to_dense()
        torch.set_num_threads(3)
        result = decompose(V, C, 0.1).to_dense()
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


def test_selection_on_a_device_promises_the_same(monkeypatch):
    from conceptry.models.splice.solvers import active_set as selection

    V, C = problem(17, batch=9, n_concepts=700, d=24, dtype=torch.float32)
    expected = decompose(V, C, 0.1).to_dense()
    correlations = V @ C.T
    on_cpu = selection.select(correlations, 0.1, 50)
    on_device = selection._select_on_device(correlations, 0.1, 50)
    for atoms, counts, cutoffs in (on_cpu, on_device):
        for row, n, cutoff, c in zip(atoms, counts, cutoffs, correlations, strict=True):
            taken = torch.zeros(700, dtype=torch.bool)
            taken[torch.from_numpy(row[:n]).long()] = True
            assert taken.sum() == n <= 50
            assert n >= 25 or (c > 0.1).sum() < 25
            assert (c[taken] > 0.1).all()
            assert (c[~taken] <= cutoff).all()
    monkeypatch.setattr(active_set, "select", selection._select_on_device)
    torch.testing.assert_close(decompose(V, C, 0.1).to_dense(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("solver", "tolerance"), [("active_set", 1e-6), ("admm", 1e-6), ("sklearn", 1e-8)])
def test_non_convergence_warns_once_and_is_recorded(solver, tolerance):
    V, C = problem(18, batch=7, n_concepts=3000, d=48, coherence=0.5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = decompose(V, C, 0.02, solver, tolerance=tolerance, max_iterations=1)
    assert [w.category for w in caught] == [ConvergenceWarning]
    failed = int((~result.converged).sum())
    assert failed > 0
    text = str(caught[0].message)
    assert f"{failed} of 7 rows did not converge: solver {solver} reached a duality gap of" in text
    assert f"{float(result.gap.max()):.1e} at worst" in text
    exact = duality_gap(V, C, result.weights, 0.02)
    torch.testing.assert_close(result.gap[~result.converged], exact[~result.converged], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solver": "lars"}, "solver is 'lars'; expected one of active_set, admm, sklearn"),
        ({"l1_penalty": 0.0}, "l1_penalty must be a finite number above 0, got 0.0"),
        ({"l1_penalty": math.nan}, "l1_penalty must be a finite number above 0, got nan"),
        ({"l1_penalty": math.inf}, "l1_penalty must be a finite number above 0, got inf"),
        ({"l1_penalty": True}, "l1_penalty must be a finite number above 0, got True"),
        ({"tolerance": -1.0}, "tolerance must be a finite number above 0, got -1.0"),
        ({"max_iterations": 0}, "max_iterations must be None or at least 1, got 0"),
        ({"embeddings": torch.ones(3)}, r"embeddings must have shape \(batch, d\), got \(3,\)"),
        ({"embeddings": [[1.0]]}, r"embeddings must be a torch tensor \(batch, d\), got list"),
        ({"embeddings": torch.ones(2, 12).long()}, "embeddings must have a real floating dtype, got torch.int64"),
        ({"embeddings": torch.ones(2, 5)}, "embeddings have 5 dimensions, but the dictionary has 12"),
        ({"embeddings": torch.tensor([[0.0] * 12, [math.nan] * 12])}, "embeddings row 1 must hold finite numbers"),
        ({"dictionary": torch.ones(0, 12)}, r"dictionary must hold at least one concept, got shape \(0, 12\)"),
        ({"dictionary": torch.full((2, 12), math.inf)}, "dictionary row 0 must hold finite numbers"),
        ({"dictionary": torch.ones(2, 12, 1)}, r"dictionary must have shape \(n_concepts, d\), got \(2, 12, 1\)"),
    ],
)
def test_refusals(change, message):
    V, C = problem(19)
    arguments = {"embeddings": V, "dictionary": C, "l1_penalty": 0.25, "solver": "active_set"} | change
    with pytest.raises(InputError, match=message):
        decompose(**arguments)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_solved_in_single(dtype):
    V, C = problem(20, dtype=torch.float32)
    V, C = V.to(dtype), C.to(dtype)
    result = decompose(V, C, 0.2)
    assert result.concept_weights.dtype == torch.float32
    assert torch.equal(result.to_dense(), decompose(V.float(), C.float(), 0.2).to_dense())


def test_inputs_may_need_gradients_and_any_strides():
    V, C = problem(21)
    expected = decompose(V, C, 0.2).to_dense()
    strided = V.T.contiguous().T.requires_grad_()
    assert torch.equal(decompose(strided, C.T.contiguous().T, 0.2).to_dense(), expected)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("max_iterations", [None, 1])  # with 1, the gap is certified outside the solver
@pytest.mark.filterwarnings("ignore::conceptry.models.errors.ConvergenceWarning")
def test_autocast_has_no_influence(solver, max_iterations):
    V, C = problem(5, dtype=torch.float32)
    expected = decompose(V, C, 0.1, solver, max_iterations=max_iterations)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = decompose(V, C, 0.1, solver, max_iterations=max_iterations)
    assert torch.equal(result.to_dense(), expected.to_dense())
    assert torch.equal(result.gap, expected.gap)


def test_an_unreadable_matmul_precision_counts_as_the_coarsest(monkeypatch):
    def refuse():
        raise RuntimeError("a mix of the legacy and new APIs")

    coarsest = torch.finfo(torch.bfloat16).eps
    monkeypatch.setattr(torch, "get_float32_matmul_precision", refuse)
    V, C = problem(6, dtype=torch.float32)
    assert decompose(V, C, 0.1).converged.all()
    assert active_set._rounding(np.dtype(np.float32), 12) > coarsest / 2
    assert active_set._rounding(np.dtype(np.float64), 12) < 1e-14
