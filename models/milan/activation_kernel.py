"""The compiled part of the first pass: one look at every activation of a batch.

| symbol | meaning | shape |
|---|---|---|
| bits | activations, float32 seen as int32 | (n, U, P) or, channels last, (n, P, U) |
| n, U, P | pictures, units, positions of the map | |
| counts | how often each code occurred: ZEROS slots for 0, BINS positive, BINS negative codes | (U, ZEROS + 2 BINS) |
| base | code of the smallest magnitude that is told from 0, of each unit | (U,) |
| high, low | keys of the largest and smallest activation of each unit on each picture | (n, U) |

The code of a value is its exponent and the first 7 bits of its mantissa, 15 bits in all; `quantiles` explains it. A
unit's window of BINS codes ends at the octave of its largest magnitude so far and is moved where a larger one comes;
what leaves it at the lower end counts as 0. There are 8 slots for 0, taken in turn: after a ReLU most values are 0,
and increments of one address wait for each other.

The key of a value is an int32 that orders as the floats do, with NaN outside the infinities: bits, of which the lower
31 are flipped where the sign is set. It is its own inverse.

The positions of one unit are counted together, since its counts then stay in the first cache, and their slots are
computed before they are counted, which is done several at a time.
"""

import numpy as np

from conceptry.models.jit import compiled, helper

OCTAVES = 16
BINS = OCTAVES * 128
ZEROS = 8
LOWEST = 128  # the first code of a normal number; all below count as 0
INFINITE = 0x7F80  # the code of infinity; larger ones are NaN
TILE = 1024  # positions
LANES = 16  # units

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


@compiled
def count(bits, by_columns, begin, end, counts, base, high, low):
    """Add the units begin to end of bits, (n, P, U) if by_columns else (n, U, P), to the other arrays, in place.

    Returns the number of the first picture with a NaN or an infinity, -1 where there is none.
    """
    pictures = len(bits)
    positions = bits.shape[1] if by_columns else bits.shape[2]
    tile = np.empty((LANES, TILE), np.int32)
    slots = np.empty(TILE, np.int32)
    for n in range(pictures):
        high[n, begin:end], low[n, begin:end] = _LEAST, _MOST
        for first in range(begin, end, LANES):
            units = min(LANES, end - first)
            for start in range(0, positions, TILE):
                m = min(TILE, positions - start)
                if by_columns:
                    for block in range(0, m, LANES):
                        if units == LANES and m - block >= LANES:  # of known lengths, so unrolled
                            for c in range(LANES):
                                for p in range(LANES):
                                    tile[c, block + p] = bits[n, start + block + p, first + c]
                        else:
                            for c in range(units):
                                for p in range(block, min(block + LANES, m)):
                                    tile[c, p] = bits[n, start + p, first + c]
                else:
                    for c in range(units):
                        for p in range(m):
                            tile[c, p] = bits[n, first + c, start + p]
                for c in range(units):
                    u = first + c
                    most, least = high[n, u], low[n, u]
                    for p in range(m):
                        key = tile[c, p] ^ ((tile[c, p] >> _SIGN) & _LOWER)
                        most = max(most, key)
                        least = min(least, key)
                    high[n, u], low[n, u] = most, least
                    code = max(_magnitude(most), _magnitude(least)) >> _MANTISSA
                    if code >= INFINITE:
                        return n
                    if code >= base[u] + BINS:
                        base[u] = _raise_window(counts, u, base[u], code)
                    lowest = np.int32(base[u])
                    for p in range(m):
                        i = ((tile[c, p] & _LOWER) >> _MANTISSA) - lowest
                        slot = _ZEROS + i + ((tile[c, p] >> _SIGN) & _BINS)
                        slots[p] = slot if i >= 0 else np.int32(p) & _LAST
                    for p in range(m):
                        counts[u, slots[p]] += 1
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
