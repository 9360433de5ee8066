"""Games to measure Harsanyi interactions on: values of a small network, and games of a few known terms.

| symbol | meaning                                                     | shape  |
|--------|-------------------------------------------------------------|--------|
| n      | number of players                                           | -      |
| v      | rewards, row k = bits of k, player 0 the most significant   | (2^n,) |
| a, o   | effects of AND and OR terms: v(S) = sum_T a_T [T in S] + sum_T o_T [S meets T] | (2^n,) |
"""

from dataclasses import dataclass

import numpy as np

HIDDEN = 24
ROWS = 2**14  # at a time


def network_game(n: int, seed: int = 0) -> np.ndarray:
    """v of a network n - HIDDEN - HIDDEN - 1 with tanh and random weights, on a random input masked to 0.

    Interactions of such a game fade with their order, as those of trained networks do, and none is exactly 0.
    """
    g = np.random.default_rng(seed)
    x = g.normal(size=n)
    W1, b1 = g.normal(size=(n, HIDDEN)) / np.sqrt(n), g.normal(size=HIDDEN) / 2
    W2, b2 = g.normal(size=(HIDDEN, HIDDEN)) / np.sqrt(HIDDEN), g.normal(size=HIDDEN) / 2
    w3 = g.normal(size=HIDDEN) * 2 / np.sqrt(HIDDEN)
    v = np.empty(2**n)
    for start in range(0, 2**n, ROWS):
        rows = np.arange(start, min(start + ROWS, 2**n))
        masked = (rows[:, None] >> np.arange(n)[::-1] & 1) * x
        v[rows] = np.tanh(np.tanh(masked @ W1 + b1) @ W2 + b2) @ w3
    return v


@dataclass(frozen=True)
class Planted:
    """A game and the terms it was made of; l1 is the sum of |a| + |o|, the empty pattern left out."""

    v: np.ndarray
    a: np.ndarray
    o: np.ndarray

    @property
    def l1(self) -> float:
        return float(np.abs(self.a[1:]).sum() + np.abs(self.o).sum())

    def named_by(self, a: np.ndarray, o: np.ndarray) -> bool:
        """Whether the strongest terms of a split (a, o) are those planted, as many as these are."""
        planted, found = (
            np.abs(np.concatenate([and_part[1:], or_part])) for and_part, or_part in ((self.a, self.o), (a, o))
        )
        terms = np.flatnonzero(planted)
        return set(np.argsort(-found, kind="stable")[: len(terms)]) == set(terms)


def planted_game(n: int, n_and: int = 5, n_or: int = 3, seed: int = 0) -> Planted:
    """A few AND terms of 1 to 4 players and OR terms of 3 or 4, with effects of absolute value 1 to 2."""
    g = np.random.default_rng(seed)
    rows = np.arange(2**n)
    v, a, o = np.zeros(2**n), np.zeros(2**n), np.zeros(2**n)
    for table, count, least in ((a, n_and, 1), (o, n_or, 3)):
        while np.count_nonzero(table) < count:
            players = g.choice(n, size=g.integers(least, 5), replace=False)
            table[(1 << players).sum()] = g.choice([-1, 1]) * g.uniform(1, 2)
    for T in np.flatnonzero(a):
        v += a[T] * (rows & T == T)
    for T in np.flatnonzero(o):
        v += o[T] * (rows & T > 0)
    return Planted(v, a, o)
