"""The transform and the greedy denoising beside other implementations of the same, with what they agree on."""

import importlib
import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from conceptry.evaluation.benchmarks import dense_harsanyi as dense
from conceptry.evaluation.benchmarks.harsanyi_games import network_game
from conceptry.evaluation.benchmarks.measure import Record, seconds_side_by_side
from conceptry.models.harsanyi.denoise import denoise
from conceptry.models.harsanyi.moebius import moebius

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
    slow: dict[str, Callable[[], Any]] = {DENSE: partial(dense.dense_moebius, v.astype(np.float32))}  # as published
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

    def compare(name: str, removal: dense.Removal) -> None:
        steps, total = len(removal.removed), dense.n_steps(n)
        s = removal.seconds * total / steps
        extra: dict[str, Any] = {"x conceptry": s / seconds}
        if steps < total:
            extra["note"] = f"extrapolated from {steps} of {total} iterations"
        else:
            rows = dense.kept_patterns(v, I, removal)
            extra |= {"kept": len(rows), "same set": rows == kept, "note": f"all {total} iterations"}
        records.append(Record(f"denoise, n = {n}", name, s, extra=extra))

    single = np.float32
    compare(LOOP, dense.greedy_loop(v.astype(single), I.astype(single), dense.zeta_matrix(n, single), loop_steps))
    compare(COLUMNS, dense.greedy_by_columns(v, I))
    if loop_steps is None:
        compare(PRECISE_LOOP, dense.greedy_loop(v, I, dense.zeta_matrix(n, np.float64)))
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
