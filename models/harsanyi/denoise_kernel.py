"""The compiled inner part of greedy denoising; `denoise.py` derives it.

| symbol | meaning | shape |
|---|---|---|
| p | pattern: row p of the AND effects below 2^n, row p - 2^n of the OR effects from there on | scalar |
| F_p | the subsets to which p contributes: supersets of S (AND), those that meet T (OR) | (2^n,) |
| I_p | its effect | (m,) |
| r | v - sum over the remaining p of I_p F_p, kept as residual + offset | (2^n,) |
| c_p | <F_p, r> of the candidates | (n_greedy,) |
"""

import numpy as np

from conceptry.models.jit import compiled, helper


@helper
def _overlap(p, q, sizes, n):
    """<F_p, F_q>: the number of subsets to which both patterns contribute."""
    full = 1 << n
    s, t = p & (full - 1), q & (full - 1)
    both = 1 << n - sizes[s | t]
    if p < full and q < full:
        return float(both)
    if p >= full and q >= full:
        return float(full - (1 << n - sizes[s]) - (1 << n - sizes[t]) + both)
    supersets = 1 << n - sizes[s if p < full else t]
    return float(supersets - both) if s & t == 0 else float(supersets)


@helper
def _inner_product(p, residual, offset, total, n):
    """<F_p, residual + offset>, where total = sum of residual; visits 2^(n - players of p) subsets."""
    full = 1 << n
    result, visited = 0.0, 0
    if p < full:  # the supersets of p
        subset = p
        while subset < full:
            result += residual[subset]
            visited += 1
            subset = subset + 1 | p
        return result + visited * offset
    absent = ~p & full - 1  # all but the subsets that p's players are absent from
    subset = 0
    while True:
        result += residual[subset]
        visited += 1
        subset = subset - absent & absent
        if subset == 0:
            return total - result + (full - visited) * offset


@helper
def _take_out(p, effect, residual, n):
    """Add effect F_p to the residual; returns what to add to the offset and to the sum of the residual."""
    full = 1 << n
    visited = 0
    if p < full:
        subset = p
        while subset < full:
            residual[subset] += effect
            visited += 1
            subset = subset + 1 | p
        return 0.0, visited * effect
    absent = ~p & full - 1
    subset = 0
    while True:
        residual[subset] -= effect
        visited += 1
        subset = subset - absent & absent
        if subset == 0:
            return effect, -visited * effect


@compiled
def remove_greedily(residual, effects, order, sizes, n, n_greedy, resolution, removed, errors):
    """Remove len(removed) patterns one by one; fills `removed` and the squared error after each removal.

    `residual` (2^n,) is overwritten, `order` lists the patterns by ascending strength, `errors` has one entry
    more than `removed`, the first being the error at the start. Norms of the residual closer to each other than
    `resolution` are equal.
    """
    window = np.empty(n_greedy, np.int64)
    c = np.empty(n_greedy)
    offset, total, error = 0.0, 0.0, 0.0
    for x in residual:
        total += x
        error += x * x
    errors[0] = error
    n_window = entered = 0
    for step in range(len(removed)):
        while n_window < n_greedy and entered < len(order):
            window[n_window] = order[entered]
            c[n_window] = _inner_product(order[entered], residual, offset, total, n)
            n_window += 1
            entered += 1
        best, best_error = 0, np.inf
        for k in range(n_window):
            effect = effects[window[k]]
            size = _overlap(window[k], window[k], sizes, n)
            candidate = max(0.0, error + effect * (2.0 * c[k] + effect * size))
            if np.sqrt(candidate) < np.sqrt(best_error) - resolution:
                best, best_error = k, candidate
        p = window[best]
        removed[step] = p
        error = errors[step + 1] = best_error
        n_window -= 1
        for k in range(best, n_window):
            window[k], c[k] = window[k + 1], c[k + 1]
        for k in range(n_window):
            c[k] += effects[p] * _overlap(p, window[k], sizes, n)
        if effects[p] != 0.0:
            shift, added = _take_out(p, effects[p], residual, n)
            offset += shift
            total += added
