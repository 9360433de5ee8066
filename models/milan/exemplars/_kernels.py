"""Compiled parts of both passes: counting activations, the running top k, and masks at the size of the image.

| symbol | meaning | shape |
|---|---|---|
| n, U, P | images, units, positions of the map | |
| bits | activations, float32 seen as int32 | (n, U, P) or, channels last, (n, P, U) |
| counts | how often each code occurred: ZEROS slots for 0, BINS positive, BINS negative codes | (U, ZEROS + 2 BINS) |
| base | code of the smallest magnitude that is told from 0, of each unit | (U,) |
| high, low | keys of the largest and smallest activation of each unit on each image | (n, U) |
| values, ids, slots | the k largest activations, their images, where the maps of these are kept | (U, k) |
| maps, masks | activation maps; where they exceed the level of their unit | (m, h, w), (m, H, W) |

Counting (`count`, `rank_of`; see `quantiles`). The code of a value is its exponent and the first 7 bits of its
mantissa, 15 bits in all. A unit's window of BINS codes ends at the octave of its largest magnitude so far and is moved
where a larger one comes; what leaves it at the lower end counts as 0. There are 8 slots for 0, taken in turn: after a
ReLU most values are 0, and increments of one address wait for each other.

The key of a value is an int32 that orders as the floats do, with NaN outside the infinities: bits, of which the lower
31 are flipped where the sign is set. It is its own inverse.

The slots of a group of images are computed before they are counted, which is done several at a time; the positions
of one unit are counted together, since its counts then stay in the first cache. Small maps are taken from several
images at once: one alone would not be worth fetching the unit's counts for. Where channels come last, all but the
counting goes along the channels, so nothing is transposed.

Top k (`keep_largest`; see `first_pass`). Rows are sorted, and most activations are smaller than the last of their row:
a place is therefore looked for from the end.

Masks (`upsampled_above`; see `masks`). A map is enlarged along its rows first, into one buffer that all maps share,
then between two rows of that for each row of the mask.
"""

import numpy as np

from conceptry.models.jit import compiled, helper

OCTAVES = 16
BINS = OCTAVES * 128
ZEROS = 8
LOWEST = 128  # the first code of a normal number; all below count as 0
INFINITE = 0x7F80  # the code of infinity; larger ones are NaN
ROWS = 1024  # positions whose slots are held
LANES = 16  # units; with ROWS slots of 16 bits for each, this fills two thirds of a first cache of 48 KiB

_LOWER, _SIGN = np.int32(0x7FFFFFFF), np.int32(31)
_LEAST, _MOST = np.int32(-(2**31)), np.int32(2**31 - 1)
_BINS, _ZEROS, _LAST, _MANTISSA = np.int32(BINS), np.int32(ZEROS), np.int32(ZEROS - 1), np.int32(16)


@helper
def _magnitude(key):
    """The bits of a key's value but its sign."""
    return (key ^ ((key >> _SIGN) & _LOWER)) & _LOWER


@helper
def _raise_window(counts, u, base, code):
    """Move the window of unit u from `base` up to the octave of `code`, in place; returns its new base."""
    new = (code // 128 + 1) * 128 - BINS
    by = new - base
    for start in (ZEROS, ZEROS + BINS):
        for i in range(min(by, BINS)):
            counts[u, 0] += counts[u, start + i]
        for i in range(BINS - by):
            counts[u, start + i] = counts[u, start + i + by]
        for i in range(max(BINS - by, 0), BINS):
            counts[u, start + i] = 0
    return new


@helper
def _key(bits):
    return bits ^ ((bits >> _SIGN) & _LOWER)


@helper
def _slot(bits, lowest, number):
    """Where a value is counted, by the base of its unit; `number` chooses among the slots for 0."""
    i = ((bits & _LOWER) >> _MANTISSA) - lowest
    slot = _ZEROS + i + ((bits >> _SIGN) & _BINS)
    return np.uint16(slot if i >= 0 else np.int32(number) & _LAST)


@helper
def _extremes(bits, high, low):
    """Keys of the largest and smallest of each row of bits (U, P), into high and low (U,)."""
    for u in range(len(bits)):
        most, least = _LEAST, _MOST
        for p in range(bits.shape[1]):
            key = _key(bits[u, p])
            most, least = max(most, key), min(least, key)
        high[u], low[u] = most, least


@helper
def _extremes_by_columns(bits, high, low):
    """`_extremes` of bits (P, U): four rows at a time, as each look at high and low waits for the one before."""
    units, last = bits.shape[1], len(bits) - 1
    high[:], low[:] = _LEAST, _MOST
    for p in range(0, last + 1, 4):
        row0, row1, row2, row3 = bits[p], bits[min(p + 1, last)], bits[min(p + 2, last)], bits[min(p + 3, last)]
        for c in range(units):
            a, b, c_, d = _key(row0[c]), _key(row1[c]), _key(row2[c]), _key(row3[c])
            high[c] = max(high[c], max(max(a, b), max(c_, d)))
            low[c] = min(low[c], min(min(a, b), min(c_, d)))


@helper
def _fit_windows(high, low, counts, base, lowest):
    """Raise the windows of units (U,) to what a group of images (n, U) holds; their bases go to lowest, in 32 bits.

    Returns the number in the group of the first image that is not finite, len(high) where there is none.
    """
    for n in range(len(high)):
        for u in range(len(base)):
            code = max(_magnitude(high[n, u]), _magnitude(low[n, u])) >> _MANTISSA
            if code >= INFINITE:
                return n
            if code >= base[u] + BINS:
                base[u] = _raise_window(counts, u, base[u], code)
    lowest[: len(base)] = base
    return len(high)


@compiled
def count(bits, by_columns, begin, end, counts, base, high, low):
    """Add the units begin to end of bits, (n, P, U) if by_columns else (n, U, P), to the other arrays, in place.

    Returns the number of the first image with a NaN or an infinity, -1 where there is none; counts are then partial.
    """
    images = len(bits)
    positions = bits.shape[1] if by_columns else bits.shape[2]
    group = max(ROWS // positions, 1)
    slots = np.empty((ROWS, LANES), np.uint16)
    row_slots = np.empty(ROWS, np.uint16)
    lowest = np.empty(LANES, np.int32)
    for start in range(0, images, group):
        stop = min(start + group, images)
        finite = stop
        for first in range(begin, end, LANES):
            last = min(first + LANES, end)
            units = last - first
            for n in range(start, stop):
                if by_columns:
                    _extremes_by_columns(bits[n, :, first:last], high[n, first:last], low[n, first:last])
                else:
                    _extremes(bits[n, first:last], high[n, first:last], low[n, first:last])
            group_high, group_low = high[start:stop, first:last], low[start:stop, first:last]
            found = _fit_windows(group_high, group_low, counts[first:last], base[first:last], lowest)
            finite = min(finite, start + found)
            if finite < stop:
                continue  # other units may show an earlier image
            if by_columns:
                rows = bits[start:stop].reshape((stop - start) * positions, -1)
                for offset in range(0, len(rows), ROWS):
                    m = min(ROWS, len(rows) - offset)
                    for r in range(m):
                        row, into = rows[offset + r, first:last], slots[r]
                        for c in range(units):
                            into[c] = _slot(row[c], lowest[c], r)
                    for c in range(units):
                        counted = counts[first + c]
                        for r in range(m):
                            counted[slots[r, c]] += 1
            else:
                for c in range(units):
                    counted = counts[first + c]
                    for n in range(start, stop):
                        for offset in range(0, positions, ROWS):
                            m = min(ROWS, positions - offset)
                            for p in range(m):
                                row_slots[p] = _slot(bits[n, first + c, offset + p], lowest[c], p)
                            for p in range(m):
                                counted[row_slots[p]] += 1
        if finite < stop:
            return finite
    return -1


@compiled
def rank_of(counts, rank):
    """The bin of the value of `rank`, 1 for the least, int64 (U,): 0, or its number from 1, or minus that."""
    units = len(counts)
    found = np.empty(units, np.int64)
    for u in range(units):
        below, at = 0, -BINS - 1
        while below < rank and at < BINS:
            at += 1
            if at < 0:
                below += counts[u, ZEROS + BINS - at - 1]
            elif at == 0:
                for i in range(ZEROS):
                    below += counts[u, i]
            else:
                below += counts[u, ZEROS + at - 1]
        found[u] = at
    return found


@compiled
def keep_largest(best, first, values, ids, slots):
    """Insert best (n, U), of the images first, first + 1, ..., into values, ids and slots (U, k), in place."""
    images, units = best.shape
    k = values.shape[1]
    for n in range(images):
        number = first + n
        for u in range(units):
            value = best[n, u]
            at = k
            while at > 0 and (
                value > values[u, at - 1]
                or (value == values[u, at - 1] and (number < ids[u, at - 1] or ids[u, at - 1] < 0))
            ):
                at -= 1
            if at == k:
                continue
            freed = slots[u, k - 1]
            for i in range(k - 1, at, -1):
                values[u, i] = values[u, i - 1]
                ids[u, i] = ids[u, i - 1]
                slots[u, i] = slots[u, i - 1]
            values[u, at] = value
            ids[u, at] = number
            slots[u, at] = freed


@compiled
def upsampled_above(maps, levels, rows, row_weights, columns, column_weights, masks):
    """Fill masks (m, H, W): 1 where maps (m, h, w), enlarged, exceed levels (m,).

    rows, row_weights (H,) and columns, column_weights (W,): the lower cell of each pixel, counted with the zero before
    the map, and the weight of the next one.
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
            upper, lower, weight, mask = wide[rows[r]], wide[rows[r] + 1], row_weights[r], masks[i, r]
            for c in range(width):
                mask[c] = upper[c] + weight * (lower[c] - upper[c]) > level
