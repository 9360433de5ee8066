"""The best continuations of hypotheses on a CPU: one pass over the candidates of a unit, the best kept in order.

Candidates come in the order that breaks ties, so a later one has to be greater than what it displaces.
"""

from conceptry.models.jit import compiled


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
