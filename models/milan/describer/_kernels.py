"""Compiled parts of searches on a CPU: attention of many hypotheses over exemplars, and their best continuations.

| symbol | meaning | shape |
|---|---|---|
| q, p | query of a hypothesis, key of an exemplar | (A,) |
| w | weights of the energy | (A,) |

Attention (`attend`). A hyperbolic tangent for every exemplar of every hypothesis would take longer than the matrix
products. With e^{2 (q + p)} = e^{2 q} e^{2 p} and tanh x = 1 - 2 / (1 + e^{2 x}),

    w . tanh(q + p) = sum_a w_a - 2 sum_a w_a / (1 + e^{2 q_a} e^{2 p_a}),

exponentials are taken once for each query and each key. The sum of w cancels in the softmax. Where an entry of q or p
lies beyond `LIMIT`, whose exponentials' product is still a number, the tangent is taken itself.

Continuations (`select`). One pass over the candidates of a unit keeps the best in order. Candidates come in the order
that breaks ties, so a later one has to be greater than what it displaces.
"""

import math

from conceptry.models.jit import compiled

LIMIT = 20.0


@compiled
def attend(query, query_growth, large_query, keys, key_growth, large_key, weight, features, units, attention, context):
    """Fill attention (R, k) and context (R, F), the average of the features (n, k, F) by it.

    query, query_growth: q and e^{2 q} (R, A). keys, key_growth: p and e^{2 p} (n, k, A). large_query, large_key:
    whether an entry is beyond LIMIT, (R,) and (n,). units: (R,).
    """
    rows, n_keys, size, n_features = query.shape[0], keys.shape[1], query.shape[1], features.shape[2]
    for r in range(rows):
        u = units[r]
        q, q_growth, energy, mean = query[r], query_growth[r], attention[r], context[r]
        for j in range(n_keys):
            total = weight[0] * 0
            if large_query[r] or large_key[u]:
                for a in range(size):
                    total += weight[a] * math.tanh(q[a] + keys[u, j, a])
            else:
                growth = key_growth[u, j]
                for a in range(size):
                    total -= 2 * weight[a] / (1 + q_growth[a] * growth[a])
            energy[j] = total
        greatest = energy[0]
        for j in range(1, n_keys):
            greatest = max(greatest, energy[j])
        total = weight[0] * 0
        for j in range(n_keys):
            energy[j] = math.exp(energy[j] - greatest)
            total += energy[j]
        mean[:] = 0
        for j in range(n_keys):
            energy[j] /= total
            share, values = energy[j], features[u, j]
            for f in range(n_features):
                mean[f] += share * values[f]


@compiled
def select(scores, finished, gains, stop, places, kept):
    """Fill places, int64 (n, B): parent V + token of the greatest scores + gains, the greatest first.

    scores, finished: (n, b). gains: (R, V), a row for each hypothesis that is not finished. kept: room for (n, B)
    scores. Every unit has B candidates or more.
    """
    n, b = scores.shape
    size, n_tokens = places.shape[1], gains.shape[1]
    row = 0
    for u in range(n):
        best, place = kept[u], places[u]
        count = 0
        for i in range(b):
            base = scores[u, i]
            first, last = (stop, stop + 1) if finished[u, i] else (0, n_tokens)
            for token in range(first, last):
                score = base
                if not finished[u, i]:
                    score += gains[row, token]
                    if count == size and not score > best[size - 1]:
                        continue
                elif count == size and not score > best[size - 1]:
                    continue
                if count < size:
                    count += 1
                at = count - 1
                while at > 0 and score > best[at - 1]:
                    best[at] = best[at - 1]
                    place[at] = place[at - 1]
                    at -= 1
                best[at] = score
                place[at] = i * n_tokens + token
            if not finished[u, i]:
                row += 1
