"""Sparse interactions: the terms of a game that are not 0, of any number of players.

    v(S) = sum of w_T over the AND terms T that lie in S  +  sum of w_T over the OR terms T that meet S

Terms of trees and of sampled games are few, where a table over all subsets of 500 players could not be written down.
What follows from them needs no further call of the model:

    AND and OR term T:    phi_i = w_T / |T|                   for each i in T
    AND term T:           I_Sh(A) = w_T / (|T| - |A| + 1)     for each A in T, A not empty
    OR term T:            I_Sh(A) = (-1)^(|A| + 1) w_T / (|T| - |A| + 1)

for the OR term is 1 - prod over T of (1 - z_i), whose AND terms are -(-1)^|U| w_T for each U in T, U not empty.

| symbol | meaning | shape |
|---|---|---|
| n | number of players | scalar |
| m | number of terms | scalar |
| members | players of all terms, one term after another, ascending in each | (sum of sizes,) |
| offsets | where each term begins in `members`, and the end | (m + 1,) |
| w | effects | (m,) |
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.interactions._checks import array_of, whole_number

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_COUNTS = 2**22  # players counted at a time, of terms times masks


@dataclass(frozen=True, eq=False)
class Terms:
    """Interactions by their players, AND terms and OR terms, each at most once.

    Attributes:
        n: number of players.
        members: (sum of sizes,) int32, the players of all terms, ascending in each.
        offsets: (m + 1,) int64, term k has `members[offsets[k]:offsets[k + 1]]`.
        effects: (m,) float64.
        is_or: (m,) bool, which are OR terms; an OR term has two players or more.

    Example:
        >>> terms = Terms.of(3, {(): 1.0, (0, 2): 2.0}, {(0, 1): 4.0})
        >>> terms.values([[True, False, True]]).tolist()
        [7.0]
        >>> terms.shapley_values().tolist()
        [3.0, 2.0, 1.0]
    """

    n: int
    members: np.ndarray
    offsets: np.ndarray
    effects: np.ndarray
    is_or: np.ndarray

    @classmethod
    def of(
        cls,
        n: int,
        and_terms: Mapping[tuple[int, ...], float],
        or_terms: Mapping[tuple[int, ...], float] | None = None,
    ) -> "Terms":
        """The terms of mappings from players to effects.

        Raises InputError for players that are not ascending numbers below n, and for OR terms of less than two.
        """
        sets = [*and_terms, *(or_terms or {})]
        for place, players in enumerate(sets):
            if list(players) != sorted({p for p in players if 0 <= p < n}):
                raise InputError(f"term {players}: expected ascending numbers of players below {n}")
            if place >= len(and_terms) and len(players) < 2:
                raise InputError(f"OR term {players}: expected two players or more; a single one is an AND term")
        return cls(
            n,
            np.array([player for players in sets for player in players], np.int32),
            np.cumsum([0, *map(len, sets)], dtype=np.int64),
            np.array([*and_terms.values(), *(or_terms or {}).values()], np.float64),
            np.arange(len(sets)) >= len(and_terms),
        )

    def __len__(self) -> int:
        return len(self.effects)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Number of players of each term, (m,) int64."""
        return np.diff(self.offsets)

    def sets(self) -> Iterator[tuple[int, ...]]:
        """The players of each term, in the order of the effects."""
        members, offsets = self.members.tolist(), self.offsets.tolist()
        return (tuple(members[start:stop]) for start, stop in pairwise(offsets))

    @cached_property
    def and_terms(self) -> dict[tuple[int, ...], float]:
        """Effects of the AND terms by their players; () is the empty set."""
        return self._mapping(~self.is_or)

    @cached_property
    def or_terms(self) -> dict[tuple[int, ...], float]:
        """Effects of the OR terms by their players."""
        return self._mapping(self.is_or)

    def _mapping(self, chosen: np.ndarray) -> dict[tuple[int, ...], float]:
        rows = zip(self.sets(), self.effects.tolist(), chosen.tolist(), strict=True)
        return {players: effect for players, effect, is_chosen in rows if is_chosen}

    @cached_property
    def incidence(self) -> "csr_array":
        """Which players each term has: 1 in a sparse (m, n) array of float32."""
        from scipy.sparse import csr_array

        ones = np.ones(len(self.members), np.float32)
        return csr_array((ones, self.members, self.offsets), shape=(len(self), self.n))

    def chosen(self, rows: Any) -> "Terms":
        """The terms of `rows`: their numbers, or bool (m,)."""
        rows = np.arange(len(self))[rows]
        sizes = self.sizes[rows]
        offsets = np.append(0, np.cumsum(sizes))
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], sizes)
        return Terms(self.n, self.members[places], offsets, self.effects[rows], self.is_or[rows])

    def present(self, masks: np.ndarray) -> np.ndarray:
        """Which terms contribute for each mask (batch, n) bool: bool (m, batch)."""
        counts = self.incidence @ masks.T.astype(np.float32)
        return np.where(self.is_or[:, None], counts > 0, counts >= self.sizes[:, None])

    def values(self, masks: Any) -> np.ndarray:
        """v (batch,) float64 of the subsets `masks` (batch, n) bool. Raises InputError for another shape or type."""
        masks = array_of("masks", masks)
        if masks.dtype != bool or masks.ndim != 2 or masks.shape[1] != self.n:
            raise InputError(f"masks must be bool of shape (batch, {self.n}), got {masks.dtype} {masks.shape}")
        step = max(1, _COUNTS // max(len(self), 1))
        parts = [self.effects @ self.present(masks[k : k + step]) for k in range(0, len(masks), step)]
        return np.concatenate([np.empty(0), *parts])

    def shapley_values(self) -> np.ndarray:
        """Shapley values (n,); they add up to v(N) - v(empty)."""
        shares = np.repeat(self.effects / np.maximum(self.sizes, 1), self.sizes)
        return np.bincount(self.members, shares, minlength=self.n)

    def shapley_interactions(self, order: int = 2) -> dict[tuple[int, ...], float]:
        """Shapley interaction indices of the sets of `order` players that share a term; those of all others are 0.

        Raises InputError unless the order is 1 to n.
        """
        whole_number("order", order, least=1, most=self.n)
        index: dict[tuple[int, ...], float] = {}
        signs = np.where(self.is_or, (-1.0) ** (order + 1), 1.0)
        for players, effect in zip(self.sets(), (signs * self.effects).tolist(), strict=True):
            share = effect / max(len(players) - order + 1, 1)
            for subset in combinations(players, order):
                index[subset] = index.get(subset, 0.0) + share
        return index
