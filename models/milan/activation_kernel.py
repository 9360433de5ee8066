"""The compiled part of exemplars: one look at every activation of a batch, and the merging of the best pictures.

| symbol | meaning | shape |
|---|---|---|
| x | activations of a batch, float32 | (n, U, P) or (n, P, U) |
| n, U, P | pictures, units, positions of the map | |
| base | code of the smallest magnitude that is told from 0, of each unit | (U,) |
| counts | how often each code occurred: 8 slots for 0, then BINS positive, then BINS negative ones | (U, 8 + 2 BINS) |
| best | the largest activation of each unit on each picture | (n, U) |
| least | the smallest activation of each unit | (U,) |

The code of a value is its exponent and the first 7 bits of its mantissa, 15 bits in all; `quantiles` explains it. A
unit's window of BINS codes ends at the octave of its largest magnitude so far and is moved where a larger one comes;
what leaves it at the lower end counts as 0. There are 8 slots for 0, taken in turn: after a ReLU most values are 0,
and increments of one address wait for each other.
"""

import numpy as np

from conceptry.models.jit import compiled, helper

OCTAVES = 16
BINS = OCTAVES * 128
ZEROS = 8
LOWEST = 128  # the first code of a normal number; all below count as 0
INFINITE = 0x7F80  # the code of infinity; larger ones are NaN


@helper
def _raised(counts, base, unit, code):
    """Move the unit's window up to the octave of `code`."""
    new = (code // 128 + 1) * 128 - BINS  # above LOWEST, since code is beyond the window
    by = new - base[unit]
    for start in (ZEROS, ZEROS + BINS):
        for i in range(min(by, BINS)):
            counts[unit, 0] += counts[unit, start + i]
        for i in range(BINS - by):
            counts[unit, start + i] = counts[unit, start + i + by]
        for i in range(max(BINS - by, 0), BINS):
            counts[unit, start + i] = 0
    base[unit] = new


@compiled
def count_planes(x, bits, counts, base, best, least):
    """Fill `best` and add to `counts`, `base`, `least` in place; x (n, U, P), bits the same memory as int32.

    Returns the number of the first picture with a NaN or an infinity, -1 where there is none.
    """
    pictures, units, positions = x.shape
    for n in range(pictures):
        for u in range(units):
            high, low = x[n, u, 0], x[n, u, 0]
            for p in range(positions):
                value = x[n, u, p]
                high = max(high, value)
                low = min(low, value)
            best[n, u] = high
            least[u] = min(least[u], low)
            for p in range(positions):
                pattern = bits[n, u, p]
                code = (pattern & 0x7FFFFFFF) >> 16
                i = code - base[u]
                if i >= BINS:
                    if code >= INFINITE:
                        return n
                    _raised(counts, base, u, code)
                    i = code - base[u]
                slot = ZEROS + i + BINS * (pattern < 0) if i >= 0 else p & (ZEROS - 1)
                counts[u, slot] += 1
    return -1


@compiled
def count_columns(x, bits, counts, base, best, least):
    """`count_planes` for x (n, P, U), as layers in channels-last order put it out."""
    pictures, positions, units = x.shape
    for n in range(pictures):
        for u in range(units):
            best[n, u] = x[n, 0, u]
        for p in range(positions):
            for u in range(units):
                best[n, u] = max(best[n, u], x[n, p, u])
                least[u] = min(least[u], x[n, p, u])
        for first in range(0, units, 16):
            last = min(first + 16, units)
            for p in range(positions):
                for u in range(first, last):
                    pattern = bits[n, p, u]
                    code = (pattern & 0x7FFFFFFF) >> 16
                    i = code - base[u]
                    if i >= BINS:
                        if code >= INFINITE:
                            return n
                        _raised(counts, base, u, code)
                        i = code - base[u]
                    slot = ZEROS + i + BINS * (pattern < 0) if i >= 0 else p & (ZEROS - 1)
                    counts[u, slot] += 1
    return -1


@compiled
def keep_largest(best, first, values, ids):
    """Merge best (n, U) of the pictures first, first + 1, ... into values and ids (U, k), both descending, in place.

    Of equal values the lower id comes first.
    """
    pictures, units = best.shape
    k = values.shape[1]
    for n in range(pictures):
        for u in range(units):
            value, number = best[n, u], first + n
            at = k
            while at > 0 and (value > values[u, at - 1] or (value == values[u, at - 1] and number < ids[u, at - 1])):
                at -= 1
            if at == k:
                continue
            for i in range(k - 1, at, -1):
                values[u, i] = values[u, i - 1]
                ids[u, i] = ids[u, i - 1]
            values[u, at] = value
            ids[u, at] = number


@compiled
def upsampled_above(maps, levels, rows, row_weights, columns, column_weights, masks):
    """masks[i] <- (maps[i] upsampled > levels[i]) for maps (m, h, w) and masks uint8 (m, H, W), in place.

    rows (H,) and columns (W,): the lower of the two cells that are mixed, counted with one cell of zeros before the
    map; weights: of the upper one.
    """
    count, h, w = maps.shape
    height, width = masks.shape[1:]
    wide = np.zeros((h + 2, width), np.float32)
    padded = np.zeros(w + 2, np.float32)
    for i in range(count):
        for y in range(h):
            padded[1 : w + 1] = maps[i, y]
            for c in range(width):
                left = padded[columns[c]]
                wide[y + 1, c] = left + column_weights[c] * (padded[columns[c] + 1] - left)
        level = levels[i]
        for r in range(height):
            upper, lower = wide[rows[r]], wide[rows[r] + 1]
            weight = row_weights[r]
            for c in range(width):
                masks[i, r, c] = upper[c] + weight * (lower[c] - upper[c]) > level
