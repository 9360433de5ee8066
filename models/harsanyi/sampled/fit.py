"""From asked masks to terms: the pursuit, boosted trees for what it leaves, and the choice between them.

Sparse games are the pursuit's: it finds their terms to rounding. Games that are not sparse, such as forests, are
followed better by many small trees. So trees of each depth are boosted twice, to the rewards and to what the pursuit
leaves of them; what has the least error on the validation masks is taken, trees only where they are better by `GAIN`.
"""

from collections.abc import Callable

import numpy as np

from conceptry.models.harsanyi.interactions.terms import Terms
from conceptry.models.harsanyi.sampled import proxy
from conceptry.models.harsanyi.sampled.pursuit import Term, pursue, refit

GAIN = 0.02
_LUCK = 2.0  # standard deviations of a variance: an error that is less by so little is chance, and no term is kept
_TAIL, _TAIL_MASKS = 0.02, 1024  # of the error, the variance of the terms that are dropped; masks that show it
_EXACT = 1e-14  # of the variance: the pursuit has found everything
_ROUNDING = 1e-13  # of the largest |v|: rewards that differ by less are one
_ROWS_PER_SINGLE = 6  # masks for each player from which on all single players are terms at the start


def fit_terms(
    Z: np.ndarray, v: np.ndarray, uniform: np.ndarray, or_terms: bool, seed: int, told: Callable[[float], None]
) -> Terms:
    """Terms for the masks Z (m, n) bool with rewards v; `uniform` (m,) bool, which masks are drawn uniformly.

    Only uniform masks judge, for R2 is over such masks. `told` hears the share that is done.
    """
    m, n = Z.shape
    if np.ptp(v) <= _ROUNDING * np.abs(v).max():
        return Terms.of(n, {(): float(v.mean())})
    fold = np.full(m, -1)
    fold[uniform] = np.arange(uniform.sum()) % proxy.FOLDS
    pursued = pursue(Z, v, fold == 0, or_terms, singles=n * _ROWS_PER_SINGLE <= m)
    told(0.4)
    terms, effects = refit(Z, v, pursued.terms)
    sparse = _terms(n, terms, effects)
    if pursued.error <= _EXACT * float(v.var()):
        return sparse
    constant = Terms.of(n, {(): float(v[uniform].mean())})
    F = Z.astype(np.float32)
    judged = _terms(n, pursued.terms, pursued.effects).values(Z)
    starts = [(True, v - judged), (False, v - v[fold != 0].mean())]
    trials = [
        (proxy.boosted(F, rest, fold == 0, depth, seed).error, on_rest, depth)
        for on_rest, rest in starts
        for depth in proxy.DEPTHS
    ]
    told(0.6)
    error, on_rest, depth = min(trials)
    without = float(v[fold == 0].var())
    if min(error, pursued.error) > (1 - _LUCK * (2 / max(int((fold == 0).sum()), 1)) ** 0.5) * without:
        return constant
    if error > (1 - GAIN) * pursued.error:
        return sparse
    base = sparse if on_rest else constant
    rest = v - base.values(Z)
    ensembles = []
    for k in range(proxy.FOLDS):
        ensembles.append(proxy.boosted(F, rest, fold == k, depth, seed + k))
        told(0.6 + 0.4 * (k + 1) / proxy.FOLDS)
    trees = proxy.ensemble_terms(ensembles, n, or_terms)
    return added(base, _without_tail(trees, Z[fold >= 0][:_TAIL_MASKS], _TAIL * error))


def _without_tail(terms: Terms, masks: np.ndarray, least: float) -> Terms:
    """The strongest of the terms: the others together, less their mean, vary by no more than `least` on the masks."""
    share = np.where(terms.is_or, 1 - 0.5**terms.sizes, 0.5**terms.sizes)  # of all masks, those a term is present in
    strength = np.abs(terms.effects) * np.sqrt(share * (1 - share))
    strength[terms.sizes == 0] = np.inf
    order = np.argsort(-strength, kind="stable")
    tail, dropped, kept = np.zeros(len(masks)), 0.0, len(order)
    while kept > 1:
        half = max(kept * 3 // 4, 1)
        longer = tail + terms.chosen(order[half:kept]).values(masks)
        if longer.var() > least:
            break
        tail, dropped, kept = longer, float(longer.mean()), half
    return added(terms.chosen(np.sort(order[:kept])), Terms.of(terms.n, {(): dropped}))


def _terms(n: int, terms: list[Term], effects: np.ndarray) -> Terms:
    rows = sorted(zip(terms, effects.tolist(), strict=True))
    return Terms.of(
        n,
        {players: effect for (players, is_or), effect in rows if not is_or},
        {players: effect for (players, is_or), effect in rows if is_or},
    )


def added(first: Terms, second: Terms) -> Terms:
    """The terms of both, equal ones added."""
    sums = []
    for one, other in ((first.and_terms, second.and_terms), (first.or_terms, second.or_terms)):
        total = dict(one)
        for players, effect in other.items():
            total[players] = total.get(players, 0.0) + effect
        sums.append(dict(sorted(total.items())))
    return Terms.of(first.n, *sums)
