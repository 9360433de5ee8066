"""Harsanyi interactions on one thread: time beside other implementations, residuals, growth, peak memory.

The floor of the transform is a bare butterfly in NumPy. The baseline is the dense way of the published implementation
(`rivals`); shapiq's exact Moebius transform is shown where shapiq is installed. Growth: how the seconds and the peak
memory of each part of an explanation grow with the players.
"""

import importlib
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conceptry.evaluation.benchmarks.harsanyi import rivals
from conceptry.evaluation.benchmarks.harsanyi.games import network_game, planted_game
from conceptry.evaluation.benchmarks.harsanyi.rivals import OURS, n_steps
from conceptry.evaluation.benchmarks.measure import Benchmark, Record, Target, one_thread, peak_mb, seconds_side_by_side
from conceptry.models.errors import ConvergenceWarning, InputError
from conceptry.models.harsanyi.baseline import sparsify
from conceptry.models.harsanyi.graph import AndOrGraph, build_graph
from conceptry.models.harsanyi.interactions.and_or import AndOrSplit, inverse_or, split
from conceptry.models.harsanyi.interactions.denoise import denoise
from conceptry.models.harsanyi.interactions.moebius import inverse_moebius, moebius, row_masks, subset_masks

PARTS = {"transform": 20, "denoise": 20, "explain": 20, "split": 14}  # the largest n of each in the growth table


def explain(v: np.ndarray) -> AndOrGraph:
    """All that follows once the rewards are known: interactions, denoising, coalitions, graph."""
    i = moebius(v)
    kept = denoise(v, i).kept
    n = len(v).bit_length() - 1
    return build_graph([f"x{k}" for k in range(n)], row_masks(kept, n), i[kept], None, v[-1], v[0], "output")


def first_call(n: int) -> float:
    """Seconds of the first `explain` in this process, with all that is compiled or loaded on the way."""
    v = network_game(n)
    start = time.perf_counter()
    explain(v)
    return time.perf_counter() - start


def split_quietly(v: np.ndarray) -> AndOrSplit:
    """The AND-OR split, without a warning where it did not converge: its gap says that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the gap is reported instead
        return split(v)


def _part(part: str, v: np.ndarray) -> Callable[[], Any]:
    if part == "denoise":
        return partial(denoise, v, moebius(v))
    return partial({"transform": moebius, "explain": explain, "split": split_quietly}[part], v)


def _prepared(part: str, file: str) -> Callable[[], Any]:
    _part(part, network_game(5))()  # what is compiled or loaded is not counted
    return _part(part, np.load(file))


def growth(n: int, quick: bool) -> list[Record]:
    """Seconds, and peak memory unless `quick`, of every part at n players."""
    v, records = network_game(n), []
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "v.npy")  # making the game would leave memory that the process takes again unseen
        np.save(file, v)
        for part in (part for part, largest in PARTS.items() if n <= largest - 2 * quick):
            function, extra = _part(part, v), {}
            start = time.perf_counter()
            found = function()
            seconds = time.perf_counter() - start
            if seconds < 1:
                seconds = seconds_side_by_side({part: function}, 3)[part]
            if isinstance(found, AndOrSplit):
                alone = float(np.abs(moebius(v)[1:]).sum())
                note = f"{found.iterations} iterations; L1 of AND alone: the reference"
                extra = {"L1": found.l1, "L1 reference": alone, "gap": found.gap, "note": note}
            mb = None if quick else peak_mb(_prepared, part, file)
            records.append(Record(f"growth, {part}", f"n = {n}", seconds, mb, extra))
    return records


FULL = "CONCEPTRY_BENCHMARK_FULL"  # 1: the literal loop to its end at n = 12, about ten minutes more
LOOP_ITERATIONS, LOOP_ITERATIONS_QUICK = 200, 50
STEPS, HIDDEN = 50, 100  # sparsifying
BARE = "forward and backward passes"
THERE_AND_BACK, SPLIT = "there and back", "AND-OR split"


def run(
    dictionary: Path | None = None,
    quick: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    full: bool | None = None,
    n: int = 12,
) -> Benchmark:
    """Measure; under five minutes, or under one if `quick` (fewer repeats and sizes, no memory).

    `full` (default: whether the environment says CONCEPTRY_BENCHMARK_FULL=1) runs the literal greedy loop to its end.
    `n` players are what the targets are about; fewer are for trying things out. There is no dictionary here:
    InputError if one is given.
    """
    if dictionary is not None:
        raise InputError("--dictionary: the benchmark of harsanyi makes its own games; leave it out")
    full = os.environ.get(FULL) == "1" if full is None else full
    iterations = LOOP_ITERATIONS_QUICK if quick else LOOP_ITERATIONS
    notes = [
        "games: a random network (tanh, 24 - 24) on a masked input; interactions fade with order; one thread, medians",
        f"{SPLIT}: games of 5 AND and 3 OR terms; in the growth table the network's, whose split is not sparse",
    ]
    if not full:
        notes.append(
            f"the literal greedy loop at n = {n} is extrapolated from {iterations} of {n_steps(n)} iterations of "
            f"equal cost, and the kept set compared with that of {rivals.COLUMNS!r}; {FULL}=1 runs it in full"
        )
    if rivals.SHAPIQ_THERE:
        importlib.import_module("shapiq")  # now: the limit on threads reaches loaded libraries only
    else:
        notes.append("shapiq is not installed (pip install shapiq): not measured")
    with one_thread():
        progress(f"transform at n = {n}")
        records = rivals.transforms(n, quick)
        for size, part in ((n - 2, None), (n, None if full else iterations)):
            progress(f"greedy denoising at n = {size}")
            records += rivals.denoising(size, part)
        progress("large games, explanations, a learned baseline")
        records += [_large_denoising(n + 4), *_explaining(n + 1), *_sparsifying(n, 1 if quick else 3)]
        records += [_residual(size) for size in (n, n + 4, n + 8)]
        progress("AND-OR split")
        records += [_splitting(size) for size in (n - 4, n - 2, n)]
        targets = _targets(records, n)
        for size in range(n - 4, n + (4 if quick else 8) + 1, 2):
            progress(f"growth, n = {size}")
            records += growth(size, quick)
    return Benchmark("Harsanyi interactions", records, targets, notes)


def _explaining(n: int) -> list[Record]:
    call = f"from {first_call.__module__} import first_call; print(first_call({n}))"
    with tempfile.TemporaryDirectory() as empty:
        environment = os.environ | {"NUMBA_CACHE_DIR": empty}
        command = [sys.executable, "-c", call]
        uncached = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    v = network_game(n)
    seconds = seconds_side_by_side({OURS: partial(explain, v)}, 7)[OURS]
    graph = explain(v)
    size = {"kept": len(graph.patterns), "note": f"graph of {graph.n_nodes} nodes, {graph.n_edges} edges"}
    return [
        Record(f"explain, n = {n}", OURS, seconds, extra=size),
        Record(f"explain, n = {n}, first call", OURS, float(uncached), extra={"note": "compilation included"}),
    ]


def _large_denoising(n: int) -> Record:
    v = network_game(n)
    i = moebius(v)
    seconds = seconds_side_by_side({OURS: partial(denoise, v, i)}, 1)[OURS]
    return Record(f"denoise, n = {n}", OURS, seconds, extra={"kept": len(denoise(v, i).kept)})


def _sparsifying(n: int, repeats: int) -> list[Record]:
    """The steps of `sparsify` beside as many bare passes, forward and back to the inputs, of all masked inputs."""
    generator = torch.Generator().manual_seed(0)
    layers = [torch.nn.Linear(n, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(HIDDEN, 1)).requires_grad_(False)
    for parameter in net.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    x, start = torch.randn(n, generator=generator), torch.zeros(n)
    masked = torch.from_numpy(subset_masks(n)) * x

    def bare() -> None:
        for _ in range(STEPS):
            inputs = masked.clone().requires_grad_()
            torch.autograd.grad(net(inputs).sum(), inputs)

    def learn() -> Any:
        owner = torch.arange(n)
        return sparsify(lambda rows: net(rows).squeeze(1), x, start, owner, n, lower=-1.0, upper=1.0, steps=STEPS)

    seconds = seconds_side_by_side({BARE: bare, OURS: learn}, repeats)
    learned = learn()
    extra = {"L1": learned.final_l1, "L1 reference": learned.initial_l1, "note": "L1 before: the reference"}
    case, times = f"{STEPS} sparsifying steps, n = {n}", seconds[BARE] / seconds[OURS]
    return [
        Record(case, BARE, seconds[BARE], extra={"x conceptry": times}),
        Record(case, OURS, seconds[OURS], extra={"x conceptry": 1.0, **extra}),
    ]


def _residual(n: int) -> Record:
    v = network_game(n)
    start = time.perf_counter()
    again = inverse_moebius(moebius(v))
    seconds = time.perf_counter() - start
    return Record(f"{THERE_AND_BACK}, n = {n}", OURS, seconds, extra={"error": _largest(again - v) / _largest(v)})


def _largest(x: np.ndarray) -> float:
    return float(np.abs(x).max())


def _splitting(n: int) -> Record:
    game = planted_game(n)
    seconds = seconds_side_by_side({OURS: partial(split_quietly, game.v)}, 3)[OURS]
    found = split_quietly(game.v)
    again = inverse_moebius(found.i_and) + inverse_or(found.i_or)
    extra = {
        "error": _largest(again - game.v) / _largest(game.v),
        "L1": found.l1,
        "L1 reference": game.l1,
        "gap": found.gap,
        "planted found": game.named_by(found.i_and, found.i_or),
        "note": "L1 planted: the reference",
    }
    return Record(f"{SPLIT}, n = {n}", OURS, seconds, extra=extra)


def _targets(records: list[Record], n: int) -> list[Target]:
    found = {(r.case, r.implementation): r for r in records}

    def value(case: str, implementation: str, name: str | None = None) -> Any:
        record = found.get((case, implementation))
        return None if record is None else record.seconds if name is None else record.extra[name]

    transform, times = f"transform, n = {n}", "x conceptry"
    sparsifying = f"{STEPS} sparsifying steps, n = {n}"
    # In float32 rounding may decide, so the set of the published loop is shown, but promises nothing.
    sets = [r.extra["same set"] for r in records if "same set" in r.extra and r.implementation != rivals.LOOP]
    errors = [r.extra["error"] for r in records if r.case.startswith((THERE_AND_BACK, SPLIT))]
    splits = [r.extra for r in records if r.case.startswith(SPLIT)]
    return [
        Target("transform, times a bare butterfly", 1 / value(transform, rivals.FLOOR, times), 3, "max"),
        Target("transform, times as fast as dense build + product", value(transform, rivals.DENSE, times), 1000, "min"),
        Target("transform, times as fast as shapiq", value(transform, rivals.SHAPIQ, times), 1000, "min"),
        Target("denoise, times as fast as the loop", value(f"denoise, n = {n}", rivals.LOOP, times), 1000, "min"),
        Target("denoise, share of references with the same kept set", float(np.mean(sets)), 1, "min"),
        Target(f"denoise at n = {n + 4}, seconds", value(f"denoise, n = {n + 4}", OURS), 20, "max"),
        Target(f"explain at n = {n + 1}, seconds", value(f"explain, n = {n + 1}", OURS), 1, "max"),
        Target("sparsify, times bare passes", 1 / value(sparsifying, BARE, times), 2.5, "max"),
        Target("largest residual of v = sum of I", max(errors), 1e-9, "max"),
        Target("split, largest L1 / planted", max(s["L1"] / s["L1 reference"] for s in splits), 1 + 1e-9, "max"),
        Target(
            "split, share of games with the planted terms",
            float(np.mean([s["planted found"] for s in splits])),
            1,
            "min",
        ),
    ]
