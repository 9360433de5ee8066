"""The parts of an explanation, each ready to be measured: how seconds and peak memory grow with the players."""

import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from conceptry.evaluation.benchmarks.harsanyi_games import network_game
from conceptry.evaluation.benchmarks.measure import Record, peak_mb, seconds_side_by_side
from conceptry.models.errors import ConvergenceWarning
from conceptry.models.harsanyi.and_or import AndOrSplit, split
from conceptry.models.harsanyi.denoise import denoise
from conceptry.models.harsanyi.graph import AndOrGraph, build_graph
from conceptry.models.harsanyi.moebius import moebius, row_masks

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
