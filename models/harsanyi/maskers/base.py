"""Players: what a masker offers to the game, and how inputs (columns, words) are shared out among players.

| symbol | meaning | shape |
|---|---|---|
| n | number of players | scalar |
| masks | which players keep their value, a row for each subset S | (batch, n) bool |
| owner | the player that each item of an input belongs to; BACKGROUND keeps its value in every subset | (*items,) |
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import pandas as pd

from conceptry.models.errors import InputError

BACKGROUND = -1


class Masker(Protocol):
    """One sample in which any subset of the players can be present; the others take their baseline."""

    @property
    def players(self) -> tuple[str, ...]:
        """Names of the n players, all different."""
        ...

    def masked(self, masks: np.ndarray, /) -> Any:
        """Inputs of the model, one for each row of `masks` (batch, n) bool."""
        ...


def check_players(names: Iterable[str]) -> tuple[str, ...]:
    """The names as a tuple. Raises InputError unless there is at least one and all differ."""
    players = tuple(names)
    if not players:
        raise InputError("there are no players; expected at least one part of the input outside the background")
    if len(set(players)) < len(players):
        twice = next(name for name in players if players.count(name) > 1)
        raise InputError(f"two players are called {twice!r}; expected different names")
    return players


def distinct(names: Iterable[str]) -> list[str]:
    """The names, a repeated one with " (2)", " (3)" and so on behind it."""
    given = list(names)
    result: list[str] = []
    for name in given:
        unique, count = name, 1
        while unique in result or (count > 1 and unique in given):
            count += 1
            unique = f"{name} ({count})"
        result.append(unique)
    return result


@lru_cache(maxsize=16)
def index_of(names: tuple[str, ...]) -> pd.Index:
    """The names of columns as tables have them; they take longer to make than many a table."""
    return pd.Index(names)


def partition(
    names: Sequence[str], groups: Iterable[Sequence[int]] | None, background: Iterable[int] = ()
) -> list[list[int]]:
    """The items of each player, by their first item: the groups, and every other item outside the background alone.

    Raises InputError where a group is empty, an index is none of an item (`names` has one name for each), or an item
    is in two places.
    """
    members = [list(group) for group in groups or ()]
    taken: set[int] = set()
    for item in [*(item for group in members for item in group), *(background := list(background))]:
        if not 0 <= item < len(names):
            raise InputError(f"there is no item {item} for a group or the background; expected 0 to {len(names) - 1}")
        if item in taken:
            raise InputError(f"{names[item]!r} (item {item}) is in two groups, or in one and in the background")
        taken.add(item)
    if not all(members):
        raise InputError("a group of players is empty; expected at least one item in each")
    members += [[item] for item in range(len(names)) if item not in taken]
    return sorted((sorted(group) for group in members), key=lambda group: group[0])


def owners(members: Sequence[Sequence[int]], n_items: int) -> np.ndarray:
    """The player of each item, int64 (n_items,), from the items of each player."""
    owner = np.full(n_items, BACKGROUND, dtype=np.int64)
    for player, items in enumerate(members):
        owner[list(items)] = player
    return owner


def check_owner(owner: np.ndarray, what: str, n: int | None = None) -> np.ndarray:
    """`owner` as int64. Raises InputError unless it holds every player 0 to n - 1, and at most BACKGROUND besides.

    n: number of players (default: as many as there are different ones in `owner`).
    """
    if owner.dtype.kind not in "iu":
        raise InputError(f"{what} must hold integers, the player of each part or {BACKGROUND}, got {owner.dtype}")
    values = np.unique(owner)
    found = values[values != BACKGROUND]
    n = len(found) if n is None else n
    if not np.array_equal(found, np.arange(n)):
        raise InputError(
            f"{what} must hold each of the players 0 to {n - 1}, or {BACKGROUND} for the background, "
            f"got {values[:25].tolist()}"
        )
    return owner.astype(np.int64)


def presence(masks: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Which items keep their value in each subset, bool (batch, *items); the background always does.

    Raises InputError unless masks are bool (batch, n).
    """
    return with_background(masks, int(owner.max()) + 1)[:, owner]  # BACKGROUND is -1, which takes the last column


def with_background(masks: np.ndarray, n: int) -> np.ndarray:
    """The masks with a last column for the background, bool (batch, n + 1)."""
    if masks.dtype != bool or masks.ndim != 2 or masks.shape[1] != n:
        raise InputError(f"masks must be bool of shape (batch, {n}), got {masks.dtype} {masks.shape}")
    return np.concatenate([masks, np.ones((len(masks), 1), dtype=bool)], axis=1)
