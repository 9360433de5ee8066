"""Which masks are asked: each at most once, drawn by a seed.

| part | masks | why |
|---|---|---|
| held out | uniform over all subsets | nothing is fitted to them or chosen by them; R2 is over these |
| corners | all present, none present, one absent, one present | v(N) and v(empty), and what one player does there |
| dense | each player present with probability .7 or .9 | conjunctions of many players are seen |
| uniform | uniform over all subsets, most of the budget | what is fitted is judged on such masks |
"""

import math

import numpy as np

HELD_OUT_SHARE, LEAST_HELD_OUT, MOST_HELD_OUT = 1 / 8, 32, 1024
DENSITIES = (0.7, 0.9)
DENSE_SHARE = 1 / 16  # of the budget, for each density
_CORNER_SHARE = 1 / 8  # of the budget, at most, for the masks with one player absent, and for those with one present
_LISTED = 20  # players up to which all subsets can be listed


def packed(masks: np.ndarray) -> np.ndarray:
    """Masks (m, n) bool as bits, (m, ceil(n / 8)) uint8."""
    return np.packbits(masks, axis=1)


def unpacked(bits: np.ndarray, n: int) -> np.ndarray:
    """Masks (m, n) bool from their bits."""
    return np.unpackbits(bits, axis=1, count=n).astype(bool)


class MaskSource:
    """Masks (m, n) bool of n players by a seed, none of them twice."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self._taken = n, set[bytes]()
        self._rng = np.random.default_rng([seed, n])

    def corners(self, budget: int) -> np.ndarray:
        """All present and none; each player absent, and each alone, where these are few by the budget."""
        one = np.eye(self.n, dtype=bool)
        parts = [np.ones((1, self.n), bool), np.zeros((1, self.n), bool)]
        if self.n <= budget * _CORNER_SHARE:
            parts.append(~one)
        if self.n <= budget * _CORNER_SHARE / 2:
            parts.append(one)
        return self._new(np.concatenate(parts))

    def drawn(self, count: int, density: float = 0.5) -> np.ndarray:
        """At most `count` masks, less where a few draws bring nothing new."""
        parts, missing = [], count
        for _ in range(8):
            parts.append(self._new(self._rng.random((missing, self.n)) < density))
            missing -= len(parts[-1])
            if not missing:
                break
        return np.concatenate(parts)

    def uniform(self, count: int) -> np.ndarray:
        """Exactly `count` masks; there must be as many left."""
        if self.n > _LISTED:
            parts = [self.drawn(count)]
            while (missing := count - sum(map(len, parts))) > 0:
                parts.append(self.drawn(missing))
            return np.concatenate(parts)
        rows = self._rng.permutation(2**self.n)
        masks = (rows[:, None] >> np.arange(self.n - 1, -1, -1)) & 1 > 0
        return self._new(masks, count)

    def _new(self, masks: np.ndarray, count: int | None = None) -> np.ndarray:
        """Those of the masks that were not taken yet, at most `count`; they are from now on."""
        fresh: list[int] = []
        for row, bits in enumerate(packed(masks)):
            if len(fresh) == count:
                break
            if (key := bits.tobytes()) not in self._taken:
                self._taken.add(key)
                fresh.append(row)
        return masks[fresh]


def held_out_count(budget: int) -> int:
    """How many masks of a budget are held out."""
    return min(max(LEAST_HELD_OUT, math.floor(budget * HELD_OUT_SHARE)), MOST_HELD_OUT)
