"""SpLiCE solvers side by side on one thread: time, ratio to the floor, duality gap, peak memory; and serving.

The floor is one matrix product V C^T: every exact method must look at every concept at least once.
The baseline is what the published implementation does: scikit-learn's Lasso in float32, row after row.
"""

import importlib
import importlib.util
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conceptry.evaluation.benchmarks.measure import Benchmark, Record, Target, one_thread, peak_mb, seconds_side_by_side
from conceptry.evaluation.benchmarks.serving import REPEATS, measure_serving
from conceptry.models.errors import InputError
from conceptry.models.splice.decomposition import decompose
from conceptry.models.splice.solvers.duality import duality_gap

L1_PENALTY = 0.25
BATCH = 512
FLOOR, BASELINE, OURS = "one product V C^T", "scikit-learn per row", "active_set"


def run(
    dictionary: Path | None = None, quick: bool = False, progress: Callable[[str], None] = lambda _: None
) -> Benchmark:
    """Measure; about two minutes, or under one if `quick` (fewer repeats and rows for the slow ones, no memory).

    `dictionary` is an .npz file with arrays `dictionary` (n_concepts, d) and `targets` (batch, d), neither
    centred nor normalised; without it a generated one of 10,000 x 384 is used.
    """
    C, V = _load(dictionary) if dictionary else generated()
    if len(V) < BATCH:
        raise InputError(f"targets must hold at least {BATCH} rows, got {len(V)}")
    source = dictionary.name if dictionary else "generated"
    notes = [f"{source} dictionary {len(C)} x {C.shape[1]}, l1_penalty {L1_PENALTY}, one thread, medians"]
    spams_there = importlib.util.find_spec("spams") is not None
    notes.append("ADMM takes thousands of products; it is timed on one row only")
    if not spams_there:
        notes.append("SPAMS is not installed (pip install spams-bin): not measured")
    for library in ("sklearn.linear_model", *(["spams"] if spams_there else [])):
        importlib.import_module(library)  # now: the limit on threads reaches loaded libraries only
    names = [FLOOR, OURS, BASELINE, *(["SPAMS"] if spams_there else []), "admm"]

    with one_thread(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "problem.npz"
        np.savez(file, C=C.numpy(), V=V[:BATCH].numpy())
        records: list[Record] = []
        for batch in (BATCH, 1):
            progress(f"all solvers, batch {batch}")
            records += _side_by_side(C, V[:batch], names, quick)
            if not quick:
                for i in range(len(records) - len(names), len(records)):
                    r = records[i]
                    if r.implementation != "admm":
                        rows = r.extra["rows timed"]
                        mb = peak_mb(_prepared, str(file), r.implementation, rows)
                        records[i] = Record(r.case, r.implementation, r.seconds, mb, r.extra)
        targets = _targets(records)
        progress("growth")
        records += _growth(C, V, quick)
    served, promises = measure_serving(progress, 50 if quick else REPEATS)
    return Benchmark("SpLiCE", records + served, targets + promises, notes)


def _side_by_side(C: torch.Tensor, V: torch.Tensor, names: list[str], quick: bool) -> list[Record]:
    batch = len(V)
    slow = {BASELINE: 16 if quick else 32, "SPAMS": 64 if quick else 128, "admm": 1}
    rows = {name: min(batch, slow.get(name, batch)) for name in names}
    functions = {name: implementation(name, C, V[: rows[name]]) for name in names}
    fast = {name: f for name, f in functions.items() if name != "admm"}
    seconds = seconds_side_by_side(fast, (3 if quick else 7) if batch > 1 else 15)
    solutions = {}
    if batch == 1:  # half a minute: timed once, and its answer kept
        start = time.perf_counter()
        solutions["admm"] = functions["admm"]()
        seconds["admm"] = time.perf_counter() - start
    per_row = {name: s / rows[name] for name, s in seconds.items()}
    records = []
    for name in names:
        if name not in per_row:
            continue
        extra: dict[str, Any] = {
            "rows timed": rows[name],
            "ms/row": per_row[name] * 1e3,
            "x floor": per_row[name] / per_row[FLOOR],
            "x faster than sklearn": per_row[BASELINE] / per_row[name],
        }
        if name != FLOOR:
            W = solutions[name] if name in solutions else functions[name]()
            extra["max gap"] = float(duality_gap(V[: rows[name]], C, W, L1_PENALTY).max())
            extra["mean l0"] = float((W.to_dense() > 0).sum(1).double().mean())
        records.append(Record(f"batch {batch}", name, per_row[name] * batch, None, extra))
    return records


def implementation(name: str, C: torch.Tensor, V: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A function that solves V and returns the weights, sparse (batch, n_concepts); for FLOOR the product."""
    if name == FLOOR:
        return lambda: V @ C.T
    if name in (OURS, "admm"):
        return lambda: _quietly(partial(decompose, V, C, L1_PENALTY, name)).weights
    if name == BASELINE:
        return partial(_sklearn_per_row, C.numpy().T, V.numpy())
    return partial(_spams, np.asfortranarray(C.numpy().T), np.asfortranarray(V.numpy().T))


def _quietly(function: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the gap is reported instead
        return function()


def _sklearn_per_row(X: np.ndarray, V: np.ndarray) -> torch.Tensor:
    from sklearn.linear_model import Lasso

    alpha = L1_PENALTY / (2 * len(X))
    lasso = Lasso(alpha=alpha, fit_intercept=False, positive=True, max_iter=10_000, tol=1e-6)
    W = np.stack([_quietly(partial(lasso.fit, X, v)).coef_ for v in V])
    return torch.from_numpy(W).to_sparse_coo()


def _spams(X: np.ndarray, Y: np.ndarray) -> torch.Tensor:
    import spams  # pyright: ignore[reportMissingImports]  # optional

    # SPAMS minimises 1/2 ||y - X w||^2 + lambda1 ||w||_1.
    W: Any = spams.lasso(Y, D=X, lambda1=L1_PENALTY / 2, mode=2, pos=True, numThreads=1)
    return torch.from_numpy(np.ascontiguousarray(W.T.toarray())).to_sparse_coo()


def _prepared(file: str, name: str, rows: int) -> Callable[[], torch.Tensor]:
    torch.set_num_threads(1)
    with np.load(file) as arrays:
        C, V = torch.from_numpy(arrays["C"]), torch.from_numpy(arrays["V"])
    implementation(name, C[:100].clone(), V[:1])()  # imports and compiled code are not counted
    return implementation(name, C, V[:rows])


def _targets(records: list[Record]) -> list[Target]:
    found = {(r.case, r.implementation): r.extra for r in records}
    many, single = found[f"batch {BATCH}", OURS], found["batch 1", OURS]
    spams = found.get((f"batch {BATCH}", "SPAMS"))
    times_spams = spams["ms/row"] / many["ms/row"] if spams else None
    return [
        Target("largest duality gap", many["max gap"], 1e-6, "max"),
        Target("times the throughput of scikit-learn", many["x faster than sklearn"], 20, "min"),
        Target("times the floor of one product", many["x floor"], 8, "max"),
        Target("times the throughput of SPAMS", times_spams, 1, "min"),
        Target("times as fast as scikit-learn on one row", single["x faster than sklearn"], 1, "min"),
    ]


def _growth(C: torch.Tensor, V: torch.Tensor, quick: bool) -> list[Record]:
    cases = [(f"growth, batch {n}", V[:n], C, L1_PENALTY) for n in (8, 32, 128, 512)]
    cases += [(f"growth, {n} concepts", V[:128], C[:n], L1_PENALTY) for n in (1000, 2500, 5000, len(C))]
    penalties = (0.35, 0.25, 0.15) if quick else (0.5, 0.35, 0.25, 0.15, 0.1, 0.05)
    cases += [(f"growth, penalty {p}", V[: 128 if p >= 0.1 else 16], C, p) for p in penalties]
    records = []
    for case, v, c, penalty in cases:
        solve = partial(decompose, v, c, penalty)
        seconds = seconds_side_by_side({FLOOR: implementation(FLOOR, c, v), OURS: solve}, 1 if quick else 3)
        result = solve()
        extra = {
            "rows timed": len(v),
            "ms/row": seconds[OURS] / len(v) * 1e3,
            "x floor": seconds[OURS] / seconds[FLOOR],
            "max gap": float(result.gap.max()),
            "mean l0": float(result.l0.double().mean()),
        }
        records.append(Record(case, OURS, seconds[OURS], None, extra))
    return records


def _centred(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(x - x.mean(dim=0), dim=1)


def _load(file: Path) -> tuple[torch.Tensor, torch.Tensor]:
    if not file.is_file():
        raise InputError(f"{file}: no such file; expected an .npz with the arrays dictionary and targets")
    with np.load(file) as arrays:
        if missing := {"dictionary", "targets"} - set(arrays.files):
            raise InputError(f"{file} must hold the arrays dictionary and targets, missing {sorted(missing)}")
        C, V = (torch.from_numpy(arrays[k].astype(np.float32)) for k in ("dictionary", "targets"))
    return _centred(C), _centred(V)


def generated(n_concepts: int = 10_000, batch: int = 2000, d: int = 384) -> tuple[torch.Tensor, torch.Tensor]:
    """A dictionary of clustered words in a space whose directions decay, and embeddings that mix a few of them.

    The spectrum, the clusters and the noise were set so that cosines and l0 resemble those of real word and
    sentence embeddings.
    """
    g = torch.Generator().manual_seed(0)
    spectrum = torch.arange(1, d + 1) ** -0.3
    centres = torch.randn(n_concepts // 40, d, generator=g)
    cluster = torch.randint(len(centres), (n_concepts,), generator=g)
    C = _centred((1.1 * centres[cluster] + torch.randn(n_concepts, d, generator=g)) * spectrum)
    picked = torch.randint(n_concepts, (batch, 8), generator=g)
    share = torch.rand(batch, 8, generator=g) + 0.2
    noise = torch.nn.functional.normalize(torch.randn(batch, d, generator=g) * spectrum, dim=1)
    V = torch.einsum("bk,bkd->bd", share, C[picked]) + 2.3 * noise
    return C, _centred(V)
