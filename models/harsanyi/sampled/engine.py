"""Interactions of any game of up to 1,000 players from a budget of its rewards, with a measure of how good they are.

| step | what is done | module |
|---|---|---|
| draw | masks, each once: held-out ones first, then corners, dense and uniform ones | `masks.py` |
| ask | rewards in batches; in a file they outlive the process | `ledger.py` |
| pursue | the few terms that explain them, if a few do | `pursuit.py` |
| boost | trees for what is left, whose exact terms are added, if that is better | `proxy.py`, `fit.py` |
| judge | R2 with its interval, on the held-out masks | `record.py` |

Where the budget covers all 2^n subsets they are all asked, and the interactions are exact.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.interactions._checks import finite_number, whole_number
from conceptry.models.harsanyi.interactions.and_or import split
from conceptry.models.harsanyi.interactions.moebius import MAX_PLAYERS, moebius, subset_masks
from conceptry.models.harsanyi.interactions.terms import Terms
from conceptry.models.harsanyi.sampled.fit import fit_terms
from conceptry.models.harsanyi.sampled.ledger import Ledger
from conceptry.models.harsanyi.sampled.masks import DENSE_SHARE, DENSITIES, MaskSource, held_out_count, packed
from conceptry.models.harsanyi.sampled.record import SampledInteractions, r2_of
from conceptry.models.harsanyi.settings import LEAST_BUDGET, MAX_SAMPLED, MOST_BUDGET
from conceptry.models.method import Progress

MOST_ENTRIES = 2**27  # of masks, budget x n: some 2 GiB of working memory
KINDS = ("and", "and-or")
_NEGLIGIBLE = 1e-12  # of the largest |v|: an exact interaction that is rounding


def sampled_interactions(
    v: Callable[[np.ndarray], Any],
    n: int,
    budget: int = 4096,
    seed: int = 0,
    *,
    interactions: str = "and",
    min_r2: float = 0.8,
    progress: Progress | None = None,
    batch_size: int = 1024,
    resume: str | os.PathLike[str] | None = None,
) -> SampledInteractions:
    """Sparse interactions of the game v, from at most `budget` of its rewards.

    Where `budget` covers all 2^n subsets they are all asked and the interactions are exact. Otherwise an eighth of the
    masks, at most 1,024, is drawn uniformly over all subsets and held out: nothing is fitted to them or chosen by them,
    and r2 is the share of the variance of v that the terms explain on them. So r2, and its interval, speak of v over
    all subsets, each as likely as any other. The terms are those that predict such masks best; v(N) and v(empty) are
    asked, but the terms are not forced to add up to them (`residuals` of the record says by how much they do not).

    Args:
        v: masks (m, n) bool, True where a player is present -> rewards (m,), always the same for the same mask.
        n: number of players, 1 to 1,000.
        budget: number of masks that v may be asked for, none of them twice, held-out ones included.
        seed: of the masks and the trees; the same seed and v give the same answer, whatever the batch size.
        interactions: "and", or "and-or" for terms of both kinds.
        min_r2: the answer is `believable` where the whole interval of r2 lies at or above it.
        progress: is called with ("rewards", share) after each batch, and with ("terms", share).
        batch_size: number of masks that v is called with, at most.
        resume: file that rewards are kept in as they come. If a call is killed, the same call with the same file asks
            v only for what is missing. A file of another n, budget or seed is refused.

    Raises:
        InputError: for arguments that are not as above, a budget that is too small, rewards that are not one finite
            number for each mask, and a file of another game's rewards.

    Example:
        >>> game = lambda masks: 2.0 * masks[:, 0] + 3.0 * (masks[:, 1] & masks[:, 39])
        >>> found = sampled_interactions(game, 40, budget=512)
        >>> {players: round(effect, 9) for players, effect in found.terms.items() if abs(effect) > 1e-9}
        {(0,): 2.0, (1, 39): 3.0}
        >>> found.calls, found.r2, found.believable
        (512, 1.0, True)
    """
    whole_number("n", n, least=1, most=MAX_SAMPLED)
    whole_number("budget", budget, least=2, most=MOST_BUDGET)
    whole_number("seed", seed, least=0, most=2**32 - 1)
    whole_number("batch_size", batch_size, least=1)
    finite_number("min_r2", min_r2)
    if interactions not in KINDS:
        raise InputError(f"interactions is {interactions!r}; expected {' or '.join(KINDS)}")
    if not callable(v):
        raise InputError(f"v must be a function of masks (m, n), got a {type(v).__name__}")
    everything = n <= MAX_PLAYERS and 2**n <= budget
    if not everything and budget < LEAST_BUDGET:
        raise InputError(
            f"budget must be at least {min(LEAST_BUDGET, 2 ** min(n, MAX_PLAYERS))} for {n} players, got {budget}"
        )
    if not everything and budget * n > MOST_ENTRIES:
        raise InputError(
            f"a budget of {budget} for {n} players is more than memory is meant for; "
            f"expected a budget of at most {MOST_ENTRIES // n}"
        )
    path = None if resume is None else Path(resume)
    owner = {"budget": int(budget), "seed": int(seed)}
    ledger = Ledger(v, n, batch_size, min(budget, 2 ** min(n, MAX_PLAYERS + 1)), progress, path, owner)
    if everything:
        return _exact(ledger, n, interactions == "and-or", min_r2)
    return _sampled(ledger, n, budget, seed, interactions == "and-or", min_r2, progress)


def _exact(ledger: Ledger, n: int, or_terms: bool, min_r2: float) -> SampledInteractions:
    masks = subset_masks(n)
    v = ledger.ask(masks)
    if or_terms:
        parts = split(v)
        tables = parts.i_and, parts.i_or
    else:
        tables = moebius(v), np.zeros(1)
    least = _NEGLIGIBLE * float(np.abs(v).max())

    def named(table: np.ndarray) -> dict[tuple[int, ...], float]:
        rows = np.flatnonzero(np.abs(table) > least)
        return {tuple(np.flatnonzero(masks[k]).tolist()): float(table[k]) for k in rows}

    sparse = Terms.of(n, *map(named, tables))
    nothing = np.zeros(len(v), bool)
    return SampledInteractions(
        sparse, 1.0, (1.0, 1.0), min_r2, float(v[-1]), float(v[0]), True, packed(masks), v, nothing
    )


def _sampled(
    ledger: Ledger, n: int, budget: int, seed: int, or_terms: bool, min_r2: float, progress: Progress | None
) -> SampledInteractions:
    source = MaskSource(n, seed)
    corners = source.corners(budget)  # v(N) and v(empty) are asked in any case
    held_out = source.uniform(held_out_count(budget))
    dense = np.concatenate([source.drawn(int(budget * DENSE_SHARE), density) for density in DENSITIES])
    uniform = source.uniform(budget - len(corners) - len(held_out) - len(dense))
    masks = np.concatenate([corners, dense, uniform, held_out])
    is_uniform = np.arange(len(masks)) >= len(corners) + len(dense)
    is_held_out = np.arange(len(masks)) >= len(masks) - len(held_out)
    v = ledger.ask(masks)
    fitted = ~is_held_out

    def told(share: float) -> None:
        if progress is not None:
            progress("terms", share)

    sparse = fit_terms(masks[fitted], v[fitted], is_uniform[fitted], or_terms, seed, told)
    told(1.0)
    r2, interval = r2_of(v[is_held_out], sparse.values(masks[is_held_out]))
    return SampledInteractions(
        sparse, r2, interval, min_r2, float(v[0]), float(v[1]), False, packed(masks), v, is_held_out
    )
