"""The compiled parts of the active-set solver: one small non-negative lasso per row, and the choice of its pool.

Bhalla et al., "Interpreting CLIP with Sparse Linear Concept Embeddings (SpLiCE)", 2024, arXiv:2402.10376.

Objective of `solve_rows`, over the atoms j of a pool that is much smaller than the dictionary (tau = l1_penalty / 2):

    min_{x >= 0} ||v - sum_j x_j c_j||^2 + 2 tau sum_j x_j

| symbol | meaning | shape |
|---|---|---|
| C | dictionary | (n_concepts, d) |
| v, r | the row's embedding; its residual v - sum_j x_j c_j | (1, d) |
| pool | atoms that may get a weight: the support so far, then new candidates | (n_pool,) |
| A | working set: the m atoms of the pool that are in the small problem now | (m, d) |
| G, b | A A^T, A v | (m, m), (m,) |
| x, q | weights; correlations q = A r = b - G x | (m,) |
| S, L, p | support of x; Cholesky factor of G_SS; Newton direction | (n,), (n, n), (n,) |
| correlations | <c_i, r> of every concept with the row's residual | (rows, n_concepts) |
| atoms, counts | concepts of the pool, and how many | (rows, limit), (rows,) |
| cutoffs | upper bound on the entries that were not chosen | (rows,) |

Optimality (KKT): q_j = tau where x_j > 0, and q_j <= tau elsewhere. Two nested methods reach it; each only
ever lowers the objective, so neither can cycle:

1. Pool: solve on the working set, correlate the pool with the residual, admit the worst violators, repeat.
2. Working set: sweeps of coordinate descent, x_j <- max(0, x_j + (q_j - tau) / G_jj), find the support but
   converge slowly on coherent atoms. So Newton's method, exact for a quadratic, finishes the support:
   G_SS p = q_S - tau, x_S <- max(0, x_S + p) where that lowers the objective, else x_S + t p with the
   largest t that keeps x >= 0. An atom that hits 0 leaves.
   L carries a ridge, relative to the diagonal. That makes it a proximal step: the fixed points are the same,
   and it stays defined when atoms are equal or linearly dependent.

All of this is float64, whatever the dtype of C and V.

Objective of `select_rows`, for each row: the largest correlations above a floor, at most `limit` of them, and a cutoff
that no other entry exceeds. The solver's proof of optimality rests on the cutoff. Sorting, even in part (torch.topk),
costs half of the matrix product that made the correlations: here one pass collects what lies above the floor, and a
histogram of that picks the bins that fit.
"""

import numpy as np

from conceptry.models.jit import compiled, helper

ADMITTED_AT_ONCE = 24
SWEEPS = 6
RIDGE = 1e-11
BINS = 256  # of the histogram
EXACT = 1e-11  # KKT violation, relative to tau, that counts as none on the working set
VIOLATED = 1e-9  # and in the pool


@helper
def _dot(a, i, b, j, n):
    total = 0.0
    for k in range(n):
        total += np.float64(a[i, k]) * np.float64(b[j, k])
    return total


@helper
def _newton(G, x, q, m, tau, S, L, p, step):
    """Bring q to tau on the support of x; atoms may leave the support, none enters."""
    before = np.inf
    for _ in range(2 * m + 8):
        n, worst = 0, 0.0
        for j in range(m):
            if x[j] > 0.0:
                S[n], p[n] = j, q[j] - tau
                worst = max(worst, abs(p[n]))
                n += 1
        if worst <= 0.01 * EXACT * tau:
            return
        for i in range(n):  # factorise and solve forwards; L holds the inverses of its diagonal
            g = G[S[i], S[i]]
            total, pivot = p[i], g + RIDGE * g
            for j in range(i):
                L[i, j] = (G[S[i], S[j]] - _dot(L, i, L, j, j)) * L[j, j]
                pivot -= L[i, j] * L[i, j]
                total -= L[i, j] * p[j]
            L[i, i] = 1.0 / np.sqrt(max(pivot, RIDGE * g))
            p[i] = total * L[i, i]
        t, blocked = 1.0, -1
        for i in range(n - 1, -1, -1):
            p[i] *= L[i, i]
            for j in range(i):
                p[j] -= p[i] * L[i, j]
            if x[S[i]] + t * p[i] < 0.0:
                t, blocked = -x[S[i]] / p[i], i
        for cut in range(2):  # first the whole step, cut off at 0; if that gains nothing, t p
            gain = 0.0  # twice the decrease of half the objective
            for i in range(n):
                step[i] = max(-x[S[i]], p[i] if cut == 0 else t * p[i])
                if cut == 1 and i == blocked:
                    step[i] = -x[S[i]]
                gain += step[i] * (q[S[i]] - tau)
            for i in range(n):
                for k in range(m):
                    q[k] -= step[i] * G[S[i], k]
            for i in range(n):
                gain += step[i] * (q[S[i]] - tau)
            if cut == 1 or blocked < 0 or gain > 0.0:
                break
            for i in range(n):
                for k in range(m):
                    q[k] += step[i] * G[S[i], k]
        for i in range(n):
            x[S[i]] += step[i]
        if blocked < 0 and worst > 0.5 * before:
            return  # as far as rounding goes
        before = worst


@helper
def _solve_working_set(G, b, x, q, m, tau, S, L, p, step):
    for _ in range(50):
        for _ in range(SWEEPS):
            for j in range(m):
                excess = q[j] - tau
                if x[j] > 0.0 or excess > EXACT * tau:
                    new = max(0.0, x[j] + excess / G[j, j])
                    change = new - x[j]
                    x[j] = new
                    for k in range(m):
                        q[k] -= change * G[j, k]
        _newton(G, x, q, m, tau, S, L, p, step)
        worst = 0.0
        for j in range(m):  # afresh: the running correlations have collected rounding
            q[j] = b[j]
            for k in range(m):
                q[j] -= G[j, k] * x[k]
            worst = max(worst, abs(q[j] - tau) if x[j] > 0.0 else q[j] - tau)
        if worst <= EXACT * tau:
            return


@helper
def _admit(C, atom, weight, v, A, G, b, x, q, m):
    """Make `atom` the last of a working set of m before it."""
    d = A.shape[1]
    for k in range(d):
        A[m, k] = C[atom, k]
    b[m] = _dot(A, m, v, 0, d)
    x[m] = weight
    q[m] = b[m]
    for j in range(m + 1):
        G[m, j] = G[j, m] = _dot(A, m, A, j, d)
        q[m] -= G[m, j] * x[j]
        q[j] -= G[m, j] * weight if j < m else 0.0


@helper
def _drop_unused(A, G, b, x, q, member, inside, m):
    """Take the atoms without weight out of the working set; returns its new size."""
    n = 0
    for j in range(m):
        if x[j] > 0.0:
            b[n], x[n], q[n], member[n] = b[j], x[j], q[j], member[j]
            for k in range(A.shape[1]):
                A[n, k] = A[j, k]
            for k in range(m):
                G[n, k] = G[j, k]
            for k in range(m):
                G[k, n] = G[k, j]
            n += 1
        else:
            inside[member[j]] = False
    return n


@compiled
def solve_rows(C, V, R, support, weights, counts, rows, atoms, n_atoms, tau, moments):
    """Solve the named rows on their pools; overwrite their support, weights, counts and residual R in place.

    A row's pool: the first counts[row] entries of support (batch, capacity), whose weights leave the residual
    R, and the first n_atoms[i] of atoms (len(rows), limit), not among them. No support exceeds the capacity.
    `moments` (len(rows), 5) receives <v, r>, <r, r>, the sum of the weights, the largest correlation in the
    pool, and ||r - R|| for the R handed in.
    """
    d, capacity, width = C.shape[1], support.shape[1], support.shape[1] + atoms.shape[1]
    pool, inside, score = np.empty(width, np.int64), np.empty(width, np.bool_), np.empty(width)
    v, r = np.empty((1, d)), np.empty((1, d))
    A, G, L = np.empty((capacity, d)), np.empty((capacity, capacity)), np.empty((capacity, capacity))
    b, x, q = np.empty(capacity), np.empty(capacity), np.empty(capacity)
    p, step = np.empty(capacity), np.empty(capacity)
    S, member = np.empty(capacity, np.int64), np.empty(capacity, np.int64)  # member: place in the pool

    for i in range(len(rows)):
        row = rows[i]
        for k in range(d):
            v[0, k], r[0, k] = V[row, k], R[row, k]
        largest, m, n_pool = -np.inf, 0, counts[row] + n_atoms[i]
        for k in range(n_pool):
            inside[k] = k < counts[row]
            if inside[k]:
                pool[k] = support[row, k]
                _admit(C, pool[k], weights[row, k], v, A, G, b, x, q, m)
                member[m] = k
                m += 1
            else:
                pool[k] = atoms[i, k - counts[row]]
        for _ in range(n_pool + 8):
            largest = top = -np.inf
            for k in range(n_pool):
                score[k] = _dot(C, pool[k], r, 0, d)
                largest = max(largest, score[k])
                if not inside[k]:
                    top = max(top, score[k])
            if top <= tau * (1.0 + VIOLATED):
                break
            batch = max(ADMITTED_AT_ONCE, m // 2)
            bar = tau * (1.0 + VIOLATED)  # raised by bisection until few enough violators are above it
            for _ in range(12):
                n_above = 0
                for k in range(n_pool):
                    n_above += score[k] > bar and not inside[k]
                if n_above <= batch:
                    break
                bar = 0.5 * (bar + top)
            if m + batch > capacity:
                m = _drop_unused(A, G, b, x, q, member, inside, m)
            before = m
            for k in range(n_pool):
                if score[k] > bar and not inside[k] and m < min(capacity, before + batch):
                    inside[k] = True
                    _admit(C, pool[k], 0.0, v, A, G, b, x, q, m)
                    member[m] = k
                    m += 1
            if m == before:
                break
            _solve_working_set(G, b, x, q, m, tau, S, L, p, step)
            for k in range(d):
                r[0, k] = v[0, k]
            for j in range(m):
                if x[j] > 0.0:
                    for k in range(d):
                        r[0, k] -= x[j] * A[j, k]
        shift = total = 0.0
        counts[row] = 0
        for k in range(d):
            shift += (r[0, k] - R[row, k]) ** 2
            R[row, k] = r[0, k]
        for j in range(m):
            if x[j] > 0.0:
                support[row, counts[row]] = pool[member[j]]
                weights[row, counts[row]] = x[j]
                total += weights[row, counts[row]]
                counts[row] += 1
        moments[i, 0] = _dot(v, 0, r, 0, d)
        moments[i, 1] = _dot(r, 0, r, 0, d)
        moments[i, 2] = total
        moments[i, 3] = largest
        moments[i, 4] = np.sqrt(shift)


@compiled
def select_rows(correlations, floor, atoms, counts, cutoffs):
    """Fill atoms, counts and cutoffs, see above."""
    n_rows, n_concepts = correlations.shape
    limit = atoms.shape[1]
    above = np.empty(n_concepts, np.int32)
    bins = np.empty(BINS, np.int64)
    for row in range(n_rows):
        n_above = 0
        top = floor
        for i in range(n_concepts):
            if correlations[row, i] > floor:
                above[n_above] = i
                n_above += 1
                top = max(top, np.float64(correlations[row, i]))
        cutoffs[row] = floor
        if n_above > limit:
            scale = (BINS - 0.001) / (top - floor)
            bins[:] = 0
            for k in range(n_above):
                bins[int((correlations[row, above[k]] - floor) * scale)] += 1
            lowest = BINS - 1  # always taken, as far as there is room
            kept = bins[lowest]
            while kept + bins[lowest - 1] <= limit:
                lowest -= 1
                kept += bins[lowest]
            n_kept = 0
            for k in range(n_above):
                c = np.float64(correlations[row, above[k]])
                if n_kept < limit and int((c - floor) * scale) >= lowest:
                    above[n_kept] = above[k]
                    n_kept += 1
                else:
                    cutoffs[row] = max(cutoffs[row], c)
            n_above = n_kept
        for k in range(n_above):
            atoms[row, k] = above[k]
        counts[row] = n_above
