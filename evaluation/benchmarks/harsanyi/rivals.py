"""The transform and the greedy denoising beside other implementations of them, and how far these agree.

The published implementation (Ren, Li, Chen, Deng, Zhang, "Defining and Quantifying the Emergence of Sparse Concepts in
DNNs", CVPR 2023, arXiv:2111.06206) is restated from its formulas: it computes

    I = A v,   A[S, L] = (-1)^(|S| - |L|) if L is a subset of S else 0        (the build takes a row at a time)
    v = B I,   B[S, T] = 1 if T is a subset of S else 0

with dense matrices, and removes noise greedily by one product B I for every candidate. `greedy_loop` is that
loop; `greedy_by_columns` is a second reading of the same rule, which keeps the residual v - B I_kept and changes it
by columns of B: fast enough to check a kept set at n = 12, and independent of `conceptry.models.harsanyi`.

| symbol | meaning                                   | shape        |
|--------|-------------------------------------------|--------------|
| n      | number of players                         | -            |
| v      | rewards, row k = bits of k, player 0 first | (2^n,)      |
| I      | interactions                              | (2^n,)       |
| A, B   | Moebius and zeta matrices                 | (2^n, 2^n)   |
"""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from conceptry.evaluation.benchmarks.harsanyi.games import network_game
from conceptry.evaluation.benchmarks.measure import Record, seconds_side_by_side
from conceptry.models.harsanyi.interactions.denoise import denoise
from conceptry.models.harsanyi.interactions.moebius import moebius

Array = NDArray[np.floating[Any]]
MIN_PATTERNS, MAX_PATTERNS, N_GREEDY = 15, 80, 20
SQUARE_ERROR, EXPLAIN_RATIO, EPS = 0.1, 0.95, 1e-7


@dataclass(frozen=True)
class Removal:
    """A run of the greedy loop: the patterns removed, in order, and the squared error of every state.

    `errors` has one entry more than `removed`: the first is that of the state with all patterns.
    `seconds` are those of the steps alone, the matrix being given.
    """

    removed: list[int]
    errors: list[float]
    seconds: float


def subsets(n: int) -> NDArray[np.bool_]:
    """All subsets as rows, (2^n, n)."""
    return ((np.arange(2**n)[:, None] >> np.arange(n)[::-1]) & 1).astype(bool)


def moebius_matrix(n: int, dtype: DTypeLike = np.float32) -> Array:
    """A, row after row."""
    masks = subsets(n)
    sizes = masks.sum(axis=1)
    A = np.zeros((2**n, 2**n), dtype)
    for k, S in enumerate(masks):
        inside = ~(masks & ~S).any(axis=1)
        A[k, inside] = (-1.0) ** (sizes[k] - sizes[inside])
    return A


def dense_moebius(v: Array) -> Array:
    """Build A in the type of v, then multiply."""
    return moebius_matrix(len(v).bit_length() - 1, v.dtype) @ v


def zeta_matrix(n: int, dtype: DTypeLike = np.float32) -> Array:
    """B, row after row."""
    masks = subsets(n)
    return np.stack([~(masks & ~S).any(axis=1) for S in masks]).astype(dtype)


def n_steps(n: int) -> int:
    """Patterns that the greedy loop removes from all 2^n."""
    return max(2**n - MIN_PATTERNS, 0)


def greedy_loop(v: Array, I: Array, B: Array, max_steps: int | None = None) -> Removal:  # noqa: E741 - paper letter
    """Of the N_GREEDY weakest patterns left, remove the one that leaves ||v - B I_kept||^2 smallest; repeat.

    Every candidate costs one product, so every step costs the same: `max_steps` of them tell the price of all.
    """
    kept = I.copy()  # I with zeros at the removed
    left = np.ones(len(I), bool)
    removed, errors = [], [float(((v - B @ kept) ** 2).sum())]
    start = perf_counter()
    while len(I) - len(removed) > MIN_PATTERNS and len(removed) != max_steps:
        weakest = np.flatnonzero(left)[np.argsort(np.abs(I[left]), kind="stable")[:N_GREEDY]]
        error = []
        for k in weakest:
            trial = kept.copy()
            trial[k] = 0
            error.append(float(((v - B @ trial) ** 2).sum()))
        best = int(np.argmin(error))
        gone = int(weakest[best])
        kept[gone], left[gone] = 0, False
        removed.append(gone)
        errors.append(error[best])
    return Removal(removed, errors, perf_counter() - start)


def greedy_by_columns(v: Array, I: Array) -> Removal:  # noqa: E741 - paper letter
    """The same rule in float64: a candidate's error is ||r + I_k B[:, k]||^2, with r = v - B I_kept kept up to date."""
    n = len(v).bit_length() - 1
    start = perf_counter()
    columns = I[:, None] * zeta_matrix(n, np.float64).T  # row k is I_k B[:, k]
    weakest_first = np.argsort(np.abs(I), kind="stable").tolist()
    r = v - columns.sum(axis=0)
    removed, errors = [], [float(r @ r)]
    for _ in range(n_steps(n)):
        trials = r + columns[weakest_first[:N_GREEDY]]
        error = np.einsum("ij,ij->i", trials, trials)
        best = int(error.argmin())
        r = trials[best]
        removed.append(weakest_first.pop(best))
        errors.append(float(error[best]))
    return Removal(removed, errors, perf_counter() - start)


def kept_patterns(v: Array, I: Array, removal: Removal) -> list[int]:  # noqa: E741 - paper letter
    """The last state within both thresholds, or the first with at most MAX_PATTERNS if that is later; ascending.

    Explain ratio: sum_kept |I| / (sum_kept |I| + |sum_removed I| + 1e-7), the empty pattern excluded from both.
    """
    effects = I.astype(np.float64)
    effects[0] = 0
    power = float((v**2).sum()) + EPS
    kept, gone, last = float(np.abs(effects).sum()), 0.0, 0
    for t, error in enumerate(removal.errors):
        if t:
            effect = float(effects[removal.removed[t - 1]])
            kept, gone = kept - abs(effect), gone + effect
        if kept / (kept + abs(gone) + EPS) > EXPLAIN_RATIO and error / power < SQUARE_ERROR:
            last = t
    last = max(last, min(len(I) - MAX_PATTERNS, len(removal.removed)))
    return sorted(set(range(len(I))) - set(removal.removed[:last]))


OURS, FLOOR, DENSE, SHAPIQ = "conceptry", "bare NumPy butterfly", "dense build + product", "shapiq"
LOOP, PRECISE_LOOP, COLUMNS = "literal greedy loop", "literal greedy loop, float64", "greedy by columns"
SHAPIQ_THERE = importlib.util.find_spec("shapiq") is not None


def transforms(n: int, quick: bool) -> list[Record]:
    """Interactions of one game by every implementation; `error` is how far from ours, relative to the largest |v|."""
    v = network_game(n)
    fast = {FLOOR: partial(_butterfly, v), OURS: partial(moebius, v)}
    # The slow ones sweep the caches, so the fast ones take turns among themselves.
    seconds = seconds_side_by_side(fast, 101 if quick else 501)
    repeats = 3 if quick else 5
    slow: dict[str, Callable[[], Any]] = {DENSE: partial(dense_moebius, v.astype(np.float32))}  # as published
    if SHAPIQ_THERE:
        computers = iter([_shapiq_computer(v) for _ in range(repeats + 1)])  # each keeps what it has computed
        slow[SHAPIQ] = lambda: next(computers).moebius_transform
    seconds |= seconds_side_by_side(slow, repeats)
    ours = moebius(v)
    found = {FLOOR: fast[FLOOR](), DENSE: slow[DENSE]()}
    if SHAPIQ_THERE:
        by_players = _shapiq_computer(v).moebius_transform.dict_values
        found[SHAPIQ] = np.array([by_players.get(_players(row, n), 0.0) for row in range(2**n)])
    records = []
    for name, s in seconds.items():
        extra: dict[str, Any] = {"x conceptry": s / seconds[OURS]}
        if name in found:
            extra["error"] = float(np.abs(found[name] - ours).max() / np.abs(v).max())
        records.append(Record(f"transform, n = {n}", name, s, extra=extra))
    return records


def denoising(n: int, loop_steps: int | None) -> list[Record]:
    """Kept patterns of one game by every implementation; `loop_steps` of the literal loop, None for all of them.

    Each step of that loop costs the same, so that a part of it tells the seconds of all. It is timed in float32, as
    published; sets are compared in float64, where rounding does not decide.
    """
    v = network_game(n)
    I = moebius(v)  # noqa: E741 - paper letter
    seconds = seconds_side_by_side({OURS: partial(denoise, v, I)}, 7)[OURS]
    kept = sorted(denoise(v, I).kept.tolist())
    records = [Record(f"denoise, n = {n}", OURS, seconds, extra={"x conceptry": 1.0, "kept": len(kept)})]

    def compare(name: str, removal: Removal) -> None:
        steps, total = len(removal.removed), n_steps(n)
        s = removal.seconds * total / steps
        extra: dict[str, Any] = {"x conceptry": s / seconds}
        if steps < total:
            extra["note"] = f"extrapolated from {steps} of {total} iterations"
        else:
            rows = kept_patterns(v, I, removal)
            extra |= {"kept": len(rows), "same set": rows == kept, "note": f"all {total} iterations"}
        records.append(Record(f"denoise, n = {n}", name, s, extra=extra))

    single = np.float32
    compare(LOOP, greedy_loop(v.astype(single), I.astype(single), zeta_matrix(n, single), loop_steps))
    compare(COLUMNS, greedy_by_columns(v, I))
    if loop_steps is None:
        compare(PRECISE_LOOP, greedy_loop(v, I, zeta_matrix(n, np.float64)))
    return records


def _butterfly(v: np.ndarray) -> np.ndarray:
    table = v.copy()
    half = len(v) // 2
    while half:
        pairs = table.reshape(-1, 2, half)
        pairs[:, 1] -= pairs[:, 0]
        half //= 2
    return table


def _players(row: int, n: int) -> tuple[int, ...]:
    return tuple(k for k in range(n) if row >> (n - 1 - k) & 1)


def _shapiq_computer(v: np.ndarray) -> Any:
    """shapiq's exact computer with the values given: what is left to do is the transform."""
    shapiq: Any = importlib.import_module("shapiq")  # optional
    n = len(v).bit_length() - 1
    weights = 1 << np.arange(n)[::-1]
    return shapiq.ExactComputer(lambda coalitions: v[coalitions @ weights], n, evaluate_game=True)
