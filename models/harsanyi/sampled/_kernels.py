"""The compiled boosting of trees whose columns are players; `proxy.py` states what it is for.

| symbol | meaning | shape |
|---|---|---|
| F | 1 where a player is present in a mask | (m, n) float32 |
| r | residual: rewards less the trees so far | (m,) |
| split | player of each inner node k, whose children are 2 k + 1 and 2 k + 2; -1: not split | (trees, 2^depth - 1) |
| leaf | shrunken value of each leaf; absent goes to the first child, present to the second | (trees, 2^depth) |
| g, c | sum of r, and number of rows, by node of a level and player present | (2^level, n) |

A split of a node with the rows of sum G and number C gains  g^2 / (c + a) + (G - g)^2 / (C - c + a) - G^2 / (C + a).
"""

import numpy as np

from conceptry.models.jit import compiled, helper


@helper
def _sums(F, r, node, used, n_nodes, g, c, total, count):
    """Fill g and c, and the sums over all rows of each node, from the rows in use."""
    for k in range(n_nodes):
        total[k], count[k] = 0.0, 0.0
        for j in range(F.shape[1]):
            g[k, j], c[k, j] = 0.0, 0.0
    for i in range(len(r)):
        k = node[i]
        if k < 0 or not used[i]:
            continue
        x, row, sums, counts = np.float32(r[i]), F[i], g[k], c[k]
        total[k] += x
        count[k] += 1.0
        for j in range(F.shape[1]):
            sums[j] += x * row[j]
            counts[j] += row[j]


@helper
def _best(g, c, total, count, least, a):
    """The player whose split gains most, or -1 where none gains or leaves `least` rows on both sides."""
    best, player = 1e-12 * (1.0 + total * total), -1
    whole = total * total / (count + a)
    for j in range(len(g)):
        present = np.float64(c[j])
        if present < least or count - present < least:
            continue
        x = np.float64(g[j])
        gain = x * x / (present + a) + (total - x) * (total - x) / (count - present + a) - whole
        if gain > best:
            best, player = gain, j
    return player


@helper
def _leaf_of(row, split, depth):
    k = 0
    for _ in range(depth):
        player = split[k]
        k = 2 * k + 1 + (1 if player >= 0 and row[player] > 0 else 0)
    return k - (2**depth - 1)


@compiled
def boost(F, y, V, y_v, depth, rate, share, least, a, patience, seed, split, leaf):
    """Boost trees on the rows F, y, and fill `split` and `leaf`; stop when the rows V, y_v have not gained for long.

    Each tree takes a share of the rows. Returns the mean squared error on V after each number of trees, from 0 on.
    """
    m, n = F.shape
    n_trees, width = leaf.shape
    r, r_v = y.copy(), y_v.copy()
    errors = np.empty(n_trees + 1)
    errors[0] = (r_v * r_v).mean()
    best, state = 0, np.uint64(seed * 2 + 1)
    node, used = np.empty(m, np.int64), np.empty(m, np.bool_)
    g, c = np.empty((width, n), np.float32), np.empty((width, n), np.float32)
    total, count = np.empty(width), np.empty(width)
    for t in range(n_trees):
        for i in range(m):
            state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
            used[i] = np.float64(state >> np.uint64(40)) < share * 16777216.0
            node[i] = 0
        for level in range(depth):
            first, n_nodes = 2**level - 1, 2**level
            _sums(F, r, node, used, n_nodes, g, c, total, count)
            for k in range(n_nodes):
                split[t, first + k] = _best(g[k], c[k], total[k], count[k], least, a)
            for i in range(m):
                player = split[t, first + node[i]]
                node[i] = 2 * node[i] + (1 if player >= 0 and F[i, player] > 0 else 0)
        for k in range(width):
            total[k], count[k] = 0.0, 0.0
        for i in range(m):
            if used[i]:
                total[node[i]] += r[i]
                count[node[i]] += 1.0
        for k in range(width):
            leaf[t, k] = rate * total[k] / (count[k] + a) if count[k] > 0 else 0.0
        for i in range(m):
            r[i] -= leaf[t, node[i]]
        for i in range(len(r_v)):
            r_v[i] -= leaf[t, _leaf_of(V[i], split[t], depth)]
        errors[t + 1] = (r_v * r_v).mean()
        if errors[t + 1] < errors[best]:
            best = t + 1
        if t + 1 - best >= patience:
            return errors[: t + 2]
    return errors


@compiled
def predict(F, split, leaf, depth):
    """Sum of the trees for each row of F."""
    y = np.zeros(len(F))
    for t in range(len(leaf)):
        for i in range(len(F)):
            y[i] += leaf[t, _leaf_of(F[i], split[t], depth)]
    return y
