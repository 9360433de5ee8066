"""The compiled iterations of the AND-OR split; `and_or.py` states the problem and derives them.

| symbol | meaning | shape |
|---|---|---|
| a, b | AND coefficients; coefficients of the patterns "S and T are disjoint"; rows of z, x, d, ... | (2^n,) |
| R | Kronecker power of [[1, phi], [phi, -1]] / sqrt(1 + phi^2): symmetric and its own inverse | (2^n, 2^n) |
| s, w | slopes phi^(n - 2 |k|) of the constraints s_k (R a)_k + (R b)_~k = w_k, and their right-hand sides | (2^n,) |
| z, x | point of the iteration; its soft threshold by gamma | (2, 2^n) |
| d | projection of 2 x - z onto the constraints, less x; 0 at a solution | (2, 2^n) |
| g | (d + z - x) / gamma, a vector (H^T y, D^T y); equal to the subgradient (z - x) / gamma at a solution | (2, 2^n) |

The compiled inner part of greedy denoising; `denoise.py` derives it.

| symbol | meaning | shape |
|---|---|---|
| p | pattern: row p of the AND effects below 2^n, row p - 2^n of the OR effects from there on | scalar |
| F_p | the subsets to which p contributes: supersets of S (AND), those that meet T (OR) | (2^n,) |
| I_p | its effect | (m,) |
| r | v - sum over the remaining p of I_p F_p, kept as residual + offset | (2^n,) |
| c_p | <F_p, r> of the candidates | (n_greedy,) |

`remove_by_bits` does the same for sparse terms, where F_p is a bit for each of some masks; `sparse.py` draws these.
"""

import numpy as np

from conceptry.models.jit import compiled, helper

GOLDEN = (1 + 5**0.5) / 2
_COSINE = 1 / (1 + GOLDEN**2) ** 0.5
_SINE = GOLDEN * _COSINE
_CACHED = 11


@helper
def _rotate_levels(x, first, last):
    """The players that change the rows by 2^first to 2^(last - 1)."""
    for i in range(first, last):
        half = 1 << i
        for block in range(0, len(x), 2 * half):
            low, high = x[block : block + half], x[block + half : block + 2 * half]
            for k in range(half):
                p, q = low[k], high[k]
                low[k], high[k] = _COSINE * p + _SINE * q, _SINE * p - _COSINE * q


@helper
def _rotate(x, n):
    """x <- R x, one player after the other: the last two in one pass, so that inner loops are long, the last
    _CACHED within blocks that the fastest cache holds."""
    if n < 2:
        _rotate_levels(x, 0, n)
        return
    cached = min(n, _CACHED)
    for start in range(0, 1 << n, 1 << cached):
        block = x[start : start + (1 << cached)]
        for k in range(0, 1 << cached, 4):
            p, q = _COSINE * block[k] + _SINE * block[k + 1], _SINE * block[k] - _COSINE * block[k + 1]
            r, t = _COSINE * block[k + 2] + _SINE * block[k + 3], _SINE * block[k + 2] - _COSINE * block[k + 3]
            block[k], block[k + 1] = _COSINE * p + _SINE * r, _COSINE * q + _SINE * t
            block[k + 2], block[k + 3] = _SINE * p - _COSINE * r, _SINE * q - _COSINE * t
        _rotate_levels(block, 2, cached)
    _rotate_levels(x, cached, n)


@helper
def _project(y, s, w, n):
    """The point of the constraints that is nearest to y, in place."""
    size = 1 << n
    _rotate(y[0], n)
    _rotate(y[1], n)
    for k in range(size):
        u = (s[k] * y[0, k] + y[1, size - 1 - k] - w[k]) / (s[k] * s[k] + 1.0)
        y[0, k] -= s[k] * u
        y[1, size - 1 - k] -= u
    _rotate(y[0], n)
    _rotate(y[1], n)


@compiled
def transform(x, n):
    """x <- R x for x (2^n,) float64, in place."""
    _rotate(x, n)


@compiled
def iterate(z, anchor, x, g, d, s, w, n, gamma, epoch, steps, longest):
    """At most `steps` iterations; stops early, before it moves z, where it is time to restart from there.

    z, x, d and, before it returns, g are overwritten; `anchor` is where the epoch began. `epoch` holds
    the steps taken in it, ||d|| at its first step and at its last; no epoch takes more than `longest` steps.
    Returns how many projections were made, and whether to restart.
    """
    size = 1 << n
    for step in range(steps):
        for row in range(2):
            for k in range(size):
                value = z[row, k]
                threshold = gamma if k > 0 else 0.0
                x[row, k] = np.sign(value) * max(0.0, abs(value) - threshold)
                d[row, k] = 2.0 * x[row, k] - value
        _project(d, s, w, n)
        norm = 0.0
        for row in range(2):
            for k in range(size):
                d[row, k] -= x[row, k]
                norm += d[row, k] * d[row, k]
        norm = np.sqrt(norm)
        taken, previous = epoch[0], epoch[2]
        if taken == 0:
            epoch[1] = norm
        epoch[2] = norm
        restart = taken > 0 and (
            norm <= 0.2 * epoch[1] or (norm <= 0.8 * epoch[1] and norm > previous) or taken >= longest
        )
        if restart or step == steps - 1:
            for row in range(2):
                for k in range(size):
                    g[row, k] = (d[row, k] + z[row, k] - x[row, k]) / gamma
        if restart:
            return step + 1, True
        share = (taken + 1.0) / (taken + 2.0)
        for row in range(2):
            for k in range(size):
                z[row, k] = share * (z[row, k] + 2.0 * d[row, k]) + (1.0 - share) * anchor[row, k]
        epoch[0] += 1
    return steps, False


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


@helper
def _count(p, q, bits):
    """Number of masks to which both terms contribute: bits that are set in both rows."""
    total = np.uint64(0)
    for word in range(bits.shape[1]):
        x = bits[p, word] & bits[q, word]
        x -= (x >> np.uint64(1)) & np.uint64(0x5555555555555555)
        x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
        x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        total += (x * np.uint64(0x0101010101010101)) >> np.uint64(56)
    return np.int64(total)


@compiled
def contributions(players, every, members, offsets, is_or):
    """To which masks each term contributes, (m, words) uint64.

    players: (n, words), in which masks each player is present; every: (words,), the bits that are a mask.
    """
    words = players.shape[1]
    bits = np.empty((len(is_or), words), np.uint64)
    for term in range(len(is_or)):
        row = bits[term]
        row[:] = 0
        if not is_or[term]:
            row[:] = every
        for place in range(offsets[term], offsets[term + 1]):
            of_player = players[members[place]]
            for word in range(words):
                row[word] = row[word] | of_player[word] if is_or[term] else row[word] & of_player[word]
    return bits


@helper
def _add(bits, effect, v):
    """v (64 words,) += the effect in the masks whose bits are set."""
    for word in range(len(bits)):
        x, part = bits[word], v[64 * word : 64 * word + 64]
        for k in range(64):
            part[k] += effect * np.float64((x >> np.uint64(k)) & np.uint64(1))


@compiled
def added_up(bits, effects, v):
    """v (64 words,) += the sum of the terms that contribute to each mask."""
    for term in range(len(effects)):
        _add(bits[term], effects[term], v)


@compiled
def remove_by_bits(bits, effects, residual, n_greedy, removed, errors):
    """Remove len(removed) terms one by one; fills `removed` and the squared error after each removal.

    bits: (m, words), `contributions`; effects: (m,), by ascending strength; residual: (64 words,), overwritten.
    `errors` has one entry more than `removed`, the first being the error at the start.
    """
    window = np.empty(n_greedy, np.int64)
    c, sizes = np.empty(n_greedy), np.empty(n_greedy)
    n_window = entered = 0
    errors[0] = (residual * residual).sum()
    for step in range(len(removed)):
        while n_window < n_greedy and entered < len(effects):
            window[n_window], sizes[n_window] = entered, _count(entered, entered, bits)
            inner = 0.0
            for word in range(bits.shape[1]):
                x, part = bits[entered, word], residual[64 * word : 64 * word + 64]
                for k in range(64):
                    inner += part[k] * np.float64((x >> np.uint64(k)) & np.uint64(1))
            c[n_window] = inner
            n_window += 1
            entered += 1
        best, change = 0, np.inf
        for k in range(n_window):
            effect = effects[window[k]]
            candidate = effect * (2.0 * c[k] + effect * sizes[k])
            if candidate < change:
                best, change = k, candidate
        p = window[best]
        n_window -= 1
        for k in range(best, n_window):
            window[k], c[k], sizes[k] = window[k + 1], c[k + 1], sizes[k + 1]
        for k in range(n_window):
            c[k] += effects[p] * _count(p, window[k], bits)
        _add(bits[p], effects[p], residual)
        removed[step] = p
        errors[step + 1] = max(errors[step] + change, 0.0)
