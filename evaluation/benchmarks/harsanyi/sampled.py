"""Interactions from a budget of calls on one thread, beside the proxies of shapiq: how true they are, and how fast.

Every implementation is given the same game and the same number of calls. What it has found is judged on 4,000 masks,
each subset as likely as any other, that none of them was given:

| column | meaning |
|---|---|
| R2 | share of the variance of v over these masks that the terms explain |
| P@10 | share of the ten strongest terms found, in AND form, that are known ones |
| reported, inside | R2 that the answer itself gives, and whether the true one lies in its interval |
"""

import importlib
import importlib.metadata
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from conceptry.evaluation.benchmarks.harsanyi import proxies
from conceptry.evaluation.benchmarks.harsanyi.games import network_game
from conceptry.evaluation.benchmarks.harsanyi.proxies import PROXY_SHAP, PROXY_SPEX, Fit
from conceptry.evaluation.benchmarks.harsanyi.rivals import OURS
from conceptry.evaluation.benchmarks.harsanyi.wide_games import (
    REVIEW,
    Game,
    and_form,
    forest,
    noise,
    planted,
    uniform_masks,
    words,
)
from conceptry.evaluation.benchmarks.measure import Benchmark, Ledger, Record, Target, one_thread
from conceptry.models.harsanyi.interactions.moebius import subset_masks
from conceptry.models.harsanyi.sampled.engine import sampled_interactions

FULL = "CONCEPTRY_BENCHMARK_FULL"  # 1: the search of ProxySPEX at every budget
PLAYERS, BUDGETS, BUDGETS_QUICK = (30, 64, 256), (1024, 4096, 16384), (1024,)
MOST_SEARCHED = 1024  # calls up to which ProxySPEX searches its sizes: half a minute there, many beyond
JUDGED, JUDGED_SEED = 4000, 2**31
TIE = 1e-6  # by which R2 may be less and is no worse
COVERED, NOTHING, TEXT = "R2 within its interval", "games of noise", "words by Harsanyi.explain"
SMALL, SMALL_BUDGET = 12, 512  # players of the games whose R2 over all subsets is known, and calls


def cells(players: Sequence[int]) -> Iterator[Game]:
    """The games that the implementations are compared on."""
    for n in players:
        yield planted(n)
        yield planted(n, n_or=8)
        yield planted(n, noisy=True)
    yield forest()
    yield words()


def cell(game: Game, budget: int, rivals: bool, search: bool) -> Iterator[Record]:
    """One game at one budget by every implementation."""
    masks = uniform_masks(JUDGED, game.n, JUDGED_SEED)
    v = game.v(masks)
    case = f"sampled {game.name}, {budget} calls"

    def record(name: str, fit: Fit, **extra: Any) -> Record:
        found = {"R2": r2(v, fit.values(masks)), "P@10": game.precision(fit.terms), **extra}
        return Record(case, name, fit.seconds, extra=found)

    start = time.perf_counter()
    ours = sampled_interactions(game.v, game.n, budget, interactions=game.interactions)
    fit = Fit(ours.sparse.values, and_form(ours.sparse), time.perf_counter() - start)
    first = record(OURS, fit, reported=ours.r2, believable=ours.believable)
    low, high = ours.r2_interval
    first.extra["inside"] = low - 1e-9 <= first.extra["R2"] <= high + 1e-9
    yield first
    if not rivals:
        return
    functions: dict[str, Callable[..., Fit]] = {
        PROXY_SPEX if search else f"{PROXY_SPEX}, no search": partial(proxies.proxy_spex, search=search),
        PROXY_SHAP: proxies.proxy_shap,
    }
    for name, function in functions.items():
        try:
            yield record(name, function(game.v, game.n, budget, seed=0))
        except Exception as error:  # of whatever kind: a rival that fails is shown, and the run goes on
            yield Record(case, name, None, extra={"note": f"failed: {type(error).__name__}: {error}"[:80]})


def r2(v: np.ndarray, found: np.ndarray) -> float:
    return float(1 - ((v - found) ** 2).mean() / v.var())


def coverage(repeats: int) -> Record:
    """How often R2 over all 2^n subsets lies in the interval that was reported; a new network for each repeat."""
    masks, weights = subset_masks(SMALL), 1 << np.arange(SMALL)[::-1]
    inside, true = [], []
    start = time.perf_counter()
    for seed in range(repeats):
        table = network_game(SMALL, seed)
        found = sampled_interactions(lambda rows, v=table: v[rows @ weights], SMALL, SMALL_BUDGET, seed)
        true.append(r2(table, found.sparse.values(masks)))
        low, high = found.r2_interval
        inside.append(low <= true[-1] <= high)
    extra = {"inside": float(np.mean(inside)), "repeats": repeats, "R2": float(np.median(true))}
    case = f"{COVERED}, networks of {SMALL} players, {SMALL_BUDGET} calls"
    return Record(case, OURS, (time.perf_counter() - start) / repeats, extra=extra)


def nothing(repeats: int, n: int = 30, budget: int = 1024) -> Record:
    """How often a game without any structure is believed, and the largest R2 that is reported for one."""
    start = time.perf_counter()
    answers = [sampled_interactions(partial(noise, seed=seed), n, budget, seed) for seed in range(repeats)]
    extra = {
        "believed": float(np.mean([answer.believable for answer in answers])),
        "largest reported R2": max(answer.r2 for answer in answers),
        "repeats": repeats,
    }
    return Record(f"{NOTHING}, n = {n}, {budget} calls", OURS, (time.perf_counter() - start) / repeats, extra=extra)


def text(budget: int) -> Record:
    """The whole explanation of a review of 60 words, as a user asks for it, from the loaded model to the record."""
    from conceptry.models.harsanyi.model import Harsanyi

    explainer = Harsanyi("zoo:movie-reviews", engine="sampled", budget=budget, device="cpu")
    explainer.engines.warm_up()
    start = time.perf_counter()
    record = explainer.explain(REVIEW)
    record.answers()
    seconds = time.perf_counter() - start
    return Record(f"{TEXT}, {budget} calls", OURS, seconds, extra={"players": len(record.players)})


def run(
    quick: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    players: Sequence[int] = PLAYERS,
    repeats: int | None = None,
    ledger: Ledger | None = None,
) -> Benchmark:
    """Measure; hours, or seconds if `quick`: 1,024 calls, and the first of `players` alone.

    repeats: small games for the interval, by default 100, or 10 if `quick`; a fifth as many of noise. ledger: has what
    was measured before, and keeps each game and budget.
    """
    ledger = ledger or Ledger(None, {})
    why_missing, full = proxies.missing(), os.environ.get(FULL) == "1"
    if why_missing is None:
        for library in ("shapiq", "lightgbm", "xgboost"):
            importlib.import_module(library)  # now: the limit on threads reaches loaded libraries only
    repeats = repeats or (10 if quick else 100)
    records: list[Record] = []
    sampled_interactions(planted(20).v, 20, 256)  # compiles
    with one_thread():
        for game in cells(players[:1] if quick else players):
            for budget in BUDGETS_QUICK if quick else BUDGETS:
                progress(f"sampled {game.name}, {budget} calls")
                search = not quick and (full or budget <= MOST_SEARCHED)
                one = partial(cell, game, budget, why_missing is None, search)
                records += ledger.records(f"sampled {game.name}, {budget} calls", one)
        for what, one in {
            "intervals": partial(coverage, repeats),
            "noise": partial(nothing, max(1, repeats // 5)),
            "words": partial(text, 512 if quick else 4096),
        }.items():
            progress(f"sampled: {what}")
            records += ledger.records(f"sampled: {what}", lambda one=one: [one()])
    notes = [
        f"sampled: R2 over {JUDGED:,} uniform masks that nothing was given; P@10: of the ten strongest terms found, in "
        "AND form, those planted (of the forest, the exact ten)",
    ]
    if why_missing is None:
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("shapiq", "lightgbm"))
        notes.append(
            f"{versions}: of {PROXY_SPEX} its refitted Fourier sum is judged, of {PROXY_SHAP} its fitted trees, with "
            f"defaults; beyond {MOST_SEARCHED} calls, and if quick, {PROXY_SPEX} runs without its search of sizes"
        )
    else:
        notes.append(why_missing)
    return Benchmark("Harsanyi interactions from a budget", records, _targets(records), notes)


def _targets(records: list[Record]) -> list[Target]:
    compared: dict[str, list[Record]] = {}
    for r in records:
        if r.case.startswith("sampled "):
            compared.setdefault(r.case, []).append(r)
    no_worse, ahead, as_precise, faster = [], [], [], []
    for ours, *rivals in compared.values():
        rivals = [r for r in rivals if "R2" in r.extra]
        if not rivals:
            continue
        best = max(r.extra["R2"] for r in rivals)
        no_worse.append(ours.extra["R2"] >= best - TIE)
        ahead.append(ours.extra["R2"] > best + TIE)
        faster.append(all((ours.seconds or 0) < (r.seconds or 0) for r in rivals))
        if ours.extra["P@10"] is not None:
            as_precise.append(ours.extra["P@10"] >= max(r.extra["P@10"] for r in rivals))

    def share(of: list[bool]) -> float | None:
        return float(np.mean(of)) if of else None

    covered, none, explained = (next(r for r in records if r.case.startswith(s)) for s in (COVERED, NOTHING, TEXT))
    return [
        Target("sampled, share of cells with R2 at least that of both proxies", share(no_worse), 1, "min"),
        Target("sampled, share of cells with R2 ahead of both", share(ahead), 0.5, "min"),
        Target("sampled, share of cells with precision@10 at least that of both", share(as_precise), 1, "min"),
        Target("sampled, share of cells in less time than either", share(faster), 1, "min"),
        Target("sampled, share of repeats with R2 in its interval", covered.extra["inside"], 0.95, "min"),
        Target("sampled, share of games of noise that are believed", none.extra["believed"], 0, "max"),
        Target("sampled, 60 words explained, seconds", explained.seconds, 10, "max"),
    ]
