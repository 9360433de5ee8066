"""The compiled inner part of the interactions of trees; `interactions.py` derives it.

| symbol | meaning | shape |
|---|---|---|
| n | number of players | scalar |
| E, R | players that must be present, and absent, for a leaf to be reached; codes p and n + p | sets |
| w | value of a leaf; sum of the values of all leaves with the same E and R | scalar |
| h | hash of a set: keys of its codes under exclusive or, so that one player more or less is one operation | uint64 |
| slots | open addressing by h: number of a set, or -1; at most half are taken | (2^k,) |
| present | codes in the set at hand; sets of one h are compared by it, so that no collision goes unseen | (2 n,) |
"""

import numpy as np

from conceptry.models.jit import compiled, helper

ZERO = 1e-35  # in absolute value, what LightGBM takes for zero
LARGEST_CATEGORY = 2.0**31


@helper
def _find(h, size, present, slots, hashes, offsets, members):
    """The slot of the set at hand, or the free one where it belongs."""
    mask = len(slots) - 1
    slot = np.int64(h & np.uint64(mask))
    while slots[slot] >= 0:
        k = slots[slot]
        if hashes[k] == h and offsets[k + 1] - offsets[k] == size:
            same = True
            for place in range(offsets[k], offsets[k + 1]):
                if not present[members[place]]:
                    same = False
                    break
            if same:
                return slot
        slot = (slot + 1) & mask
    return slot


@helper
def _longer(array, needed):
    """The array, or a copy twice as long as needed where it is too short."""
    if needed <= len(array):
        return array
    copy = np.empty(2 * needed, array.dtype)
    copy[: len(array)] = array
    return copy


@helper
def _roomy(slots, hashes, count):
    """The slots, or four times as many where more than half would be taken by one more set."""
    if 2 * (count + 1) <= len(slots):
        return slots
    more = np.full(4 * len(slots), -1, np.int64)
    mask = len(more) - 1
    for k in range(count):
        slot = np.int64(hashes[k] & np.uint64(mask))
        while more[slot] >= 0:
            slot = (slot + 1) & mask
        more[slot] = k
    return more


@helper
def _sort(members, start, stop):
    """Sort a few numbers in place."""
    for i in range(start + 1, stop):
        code = members[i]
        j = i
        while j > start and members[j - 1] > code:
            members[j] = members[j - 1]
            j -= 1
        members[j] = code


@helper
def _goes_left(x, node, words):
    """Whether a sample x (features,) goes left at an inner node of an ensemble."""
    value = x[node.feature]
    if np.isnan(value) or (node.zero_missing and abs(value) <= ZERO):
        return node.missing_left
    if node.word < 0:
        return value <= node.threshold
    category = np.int64(value) if 0.0 <= value < LARGEST_CATEGORY else np.int64(-1)
    listed = 0 <= category < 32 * node.n_words
    if listed:
        listed = (words[node.word + category // 32] >> np.uint32(category % 32)) & np.uint32(1) != 0
    return listed == node.listed_left


@compiled
def leaves(nodes, words, roots, rows):
    """The leaf that each row (m, features) reaches in each tree, int64 (m, trees)."""
    result = np.empty((len(rows), len(roots)), np.int64)
    for row in range(len(rows)):
        for k in range(len(roots)):
            place = np.int64(roots[k])
            while nodes[place].left >= 0:
                node = nodes[place]
                place = np.int64(node.left if _goes_left(rows[row], node, words) else node.right)
            result[row, k] = place
    return result


@helper
def _down(place, depth, nodes, words, owner, x, b, present, branch_player, branch_other):
    """The leaf below a node, along x wherever x and b newly part, and the number of partings down to it.

    branch_player, branch_other: of each parting, its player and the child that b goes to.
    """
    n = len(present) // 2
    while nodes[place].left >= 0:
        node = nodes[place]
        goes_left = _goes_left(x, node, words)
        p = owner[node.feature]
        if p >= 0 and not present[p] and goes_left != _goes_left(b, node, words):
            if present[n + p]:
                goes_left = not goes_left
            else:
                branch_player[depth] = p
                branch_other[depth] = node.right if goes_left else node.left
                depth += 1
                present[p] = True
        place = np.int64(node.left if goes_left else node.right)
    return place, depth


@helper
def _next(depth, present, branch_player, branch_other):
    """The child of b at the last parting of which x's alone was taken, or -1, and the partings up to it."""
    n = len(present) // 2
    while depth > 0 and present[n + branch_player[depth - 1]]:  # both ways have been taken
        depth -= 1
        present[n + branch_player[depth]] = False
    if depth == 0:
        return np.int64(-1), depth
    p = branch_player[depth - 1]
    present[p], present[n + p] = False, True
    return branch_other[depth - 1], depth


@compiled
def reached_leaves(nodes, words, roots, owner, x, b, keys, n):
    """All (E, R) under which some leaf is reached, with the sum w of its leaves: codes, offsets and w of the sets.

    nodes, words, roots: see `Ensemble`. owner: player of each feature, -1 for one that keeps the value in x.
    """
    slots = np.full(1024, -1, np.int64)
    hashes, offsets, weights = np.empty(512, np.uint64), np.zeros(513, np.int64), np.empty(512)
    members = np.empty(4096, np.int32)
    count = 0
    present = np.zeros(2 * n, np.bool_)
    branch_player, branch_other = np.empty(n, np.int64), np.empty(n, np.int64)
    for root in roots:
        place, depth = np.int64(root), 0
        while place >= 0:
            place, depth = _down(place, depth, nodes, words, owner, x, b, present, branch_player, branch_other)
            w = nodes[place].value
            if w != 0.0:
                h = np.uint64(0)
                for i in range(depth):
                    p = branch_player[i]
                    h ^= keys[p if present[p] else n + p]
                slots = _roomy(slots, hashes, count)
                slot = _find(h, depth, present, slots, hashes, offsets, members)
                k = slots[slot]
                if k >= 0:
                    weights[k] += w
                else:
                    start = offsets[count]
                    members = _longer(members, start + depth)
                    hashes, weights = _longer(hashes, count + 1), _longer(weights, count + 1)
                    offsets = _longer(offsets, count + 2)
                    for i in range(depth):
                        p = branch_player[i]
                        members[start + i] = p if present[p] else n + p
                    slots[slot], hashes[count], weights[count] = count, h, w
                    offsets[count + 1] = start + depth
                    count += 1
            place, depth = _next(depth, present, branch_player, branch_other)
    return members[: offsets[count]].copy(), offsets[: count + 1].copy(), weights[:count].copy()


@compiled
def shared(nodes, words, roots, owner, x, baselines, n):
    """What adds up over the leaves: Shapley values, rewards, and how large the terms would be.

    Returns phi (n,), v(N) and v(empty), means over baselines (rows, features); the largest sum of |w| for a row; the
    largest |R|, and the sum of all 2^|R|.
    """
    phi = np.zeros(n)
    full = empty = scale = steps = 0.0
    most_absent = 0
    present = np.zeros(2 * n, np.bool_)
    branch_player, branch_other = np.empty(n, np.int64), np.empty(n, np.int64)
    for row in range(len(baselines)):
        b = baselines[row]
        of_x = of_b = 0.0
        for root in roots:
            place, depth = np.int64(root), 0
            while place >= 0:
                place, depth = _down(place, depth, nodes, words, owner, x, b, present, branch_player, branch_other)
                w = nodes[place].value
                if w != 0.0:
                    n_present = 0
                    for i in range(depth):
                        n_present += present[branch_player[i]]
                    n_absent = depth - n_present
                    most_absent = max(most_absent, n_absent)
                    steps += 2.0**n_absent
                    if n_absent == 0:
                        full += w
                        of_x += abs(w)
                    if n_present == 0:
                        empty += w
                        of_b += abs(w)
                    ways = 1.0  # to choose E among the players of both
                    for i in range(min(n_present, n_absent)):
                        ways *= (depth - i) / (i + 1)
                    to_present, to_absent = w / (ways * n_present), -w / (ways * n_absent)
                    for i in range(depth):
                        p = branch_player[i]
                        phi[p] += to_present if present[p] else to_absent
                place, depth = _next(depth, present, branch_player, branch_other)
        scale = max(scale, of_x, of_b)
    m = len(baselines)
    return phi / m, full / m, empty / m, scale, most_absent, steps


@compiled
def expanded(codes, starts, weights, keys, n, most):
    """Moebius terms of leaves: I(E + T) += (-1)^|T| w for every T in R, which are visited in the order of a Gray code.

    codes, starts, weights: from `reached_leaves`.
    most: terms to be kept at once.

    Returns players, ascending in each term, offsets, effects, and sums of the |w| that were added up; no term at all
    where there are more than `most`.
    """
    slots = np.full(1024, -1, np.int64)
    hashes, offsets = np.empty(512, np.uint64), np.zeros(513, np.int64)
    effects, masses = np.empty(512), np.empty(512)
    members = np.empty(4096, np.int32)
    count = 0
    present = np.zeros(2 * n, np.bool_)
    absent, joint = np.empty(n, np.int32), np.empty(n, np.int32)
    for leaf in range(len(weights)):
        n_absent = size = 0
        h = np.uint64(0)
        for place in range(starts[leaf], starts[leaf + 1]):
            code = codes[place]
            if code < n:
                present[code] = True
                h ^= keys[code]
                joint[size] = code
                size += 1
            else:
                absent[n_absent] = code - n
                n_absent += 1
        n_joint = size
        w = weights[leaf]
        for step in range(1, (1 << n_absent) + 1):
            slots = _roomy(slots, hashes, count)
            slot = _find(h, size, present, slots, hashes, offsets, members)
            k = slots[slot]
            if k >= 0:
                effects[k] += w
                masses[k] += abs(w)
            elif count >= most:
                return members[:0].copy(), offsets[:1].copy(), effects[:0].copy(), masses[:0].copy()
            else:
                start = offsets[count]
                members = _longer(members, start + size)
                hashes, effects = _longer(hashes, count + 1), _longer(effects, count + 1)
                masses, offsets = _longer(masses, count + 1), _longer(offsets, count + 2)
                place = start
                for i in range(n_joint):
                    members[place] = joint[i]
                    place += 1
                for i in range(n_absent):
                    if present[absent[i]]:
                        members[place] = absent[i]
                        place += 1
                _sort(members, start, place)
                slots[slot], hashes[count], effects[count], masses[count] = count, h, w, abs(w)
                offsets[count + 1] = place
                count += 1
            bit = 0
            while step >> bit & 1 == 0:
                bit += 1
            if bit < n_absent:
                p = absent[bit]
                present[p] = not present[p]
                size += 1 if present[p] else -1
                h ^= keys[p]
                w = -w
        for i in range(n_joint):
            present[joint[i]] = False
        for i in range(n_absent):
            present[absent[i]] = False
    return (
        members[: offsets[count]].copy(),
        offsets[: count + 1].copy(),
        effects[:count].copy(),
        masses[:count].copy(),
    )


@compiled
def averaged(table, count, members, starts, effects, keys, n, step):
    """Take the terms of one more baseline into mean and sum of squared deviations of each term.

    table: slots, hashes, offsets, members, means, deviations and numbers of baselines taken in, of `count` terms.
    step: number of baselines before this one. A term that some of them lack was 0 there: of m zeros beside k values of
        mean u, the mean is u k / (k + m) and the squared deviations grow by u^2 k m / (k + m).

    Returns the table and the number of its terms.
    """
    slots, hashes, offsets, kept, means, deviations, taken = table
    present = np.zeros(2 * n, np.bool_)
    for term in range(len(effects)):
        h = np.uint64(0)
        start, stop = starts[term], starts[term + 1]
        for place in range(start, stop):
            present[members[place]] = True
            h ^= keys[members[place]]
        slots = _roomy(slots, hashes, count)
        slot = _find(h, stop - start, present, slots, hashes, offsets, kept)
        k = slots[slot]
        if k < 0:
            k = count
            begin = offsets[k]
            kept, hashes, offsets = _longer(kept, begin + stop - start), _longer(hashes, k + 1), _longer(offsets, k + 2)
            means, deviations, taken = _longer(means, k + 1), _longer(deviations, k + 1), _longer(taken, k + 1)
            kept[begin : begin + stop - start] = members[start:stop]
            slots[slot], hashes[k], offsets[k + 1] = k, h, begin + stop - start
            means[k], deviations[k], taken[k] = 0.0, 0.0, step
            count += 1
        if taken[k] < step:
            before, zeros, mean = taken[k], step - taken[k], means[k]
            means[k] = mean * before / step
            deviations[k] += mean * mean * before * zeros / step
        away = effects[term] - means[k]
        means[k] += away / (step + 1)
        deviations[k] += away * (effects[term] - means[k])
        taken[k] = step + 1
        for place in range(start, stop):
            present[members[place]] = False
    return (slots, hashes, offsets, kept, means, deviations, taken), count
