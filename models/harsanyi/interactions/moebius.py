"""The Moebius transform of a game and its inverse: between rewards v and Harsanyi interactions I.

Harsanyi, "A simplified bargaining model for the n-person cooperative game", 1963; Ren et al., "Defining and
Quantifying the Emergence of Sparse Concepts in DNNs", CVPR 2023, arXiv:2111.06206.

    I(S) = sum_{T subset S} (-1)^(|S|-|T|) v(T)          v(S) = sum_{T subset S} I(T)

| symbol | meaning | shape |
|---|---|---|
| n | number of players | scalar |
| v | reward of every subset; row k is the subset with bits binary_repr(k, n), player 0 first | (..., 2^n) |
| I | interaction of every subset, in the same order | (..., 2^n) |
| M | the transform, I = M v: the n-fold Kronecker power of [[1, 0], [-1, 1]] | (2^n, 2^n) |

M need not be built. A Kronecker power acts on one player at a time: with the rows reshaped to (2^i, 2, 2^(n-i-1)),
player i absent and present in the middle, it subtracts the rows without i from those with i. These n passes
over 2^n numbers can run in place (the butterfly). The inverse adds instead, and the transposes, which carry
gradients back, go from the rows with i to those without.

Differences from the paper's code: no dense matrix, so O(n 2^n) instead of O(4^n); float64 unless a tensor says
otherwise.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
import torch

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.interactions._checks import array_of, real_array
from conceptry.models.harsanyi.settings import MAX_PLAYERS

_WITHOUT, _WITH = 0, 1  # where a player is absent and where it is present

Table = TypeVar("Table", np.ndarray, torch.Tensor)


def n_players(table: Any) -> int:
    """The number of players n of a table whose last axis has 2^n entries.

    Raises:
        InputError: if the last axis is no power of 2 or belongs to more than MAX_PLAYERS players.
    """
    shape = tuple(table.shape) if hasattr(table, "shape") else array_of("a table over subsets", table).shape
    length = shape[-1] if shape else 0
    if length < 1 or length & (length - 1):
        raise InputError(f"the last axis of a table over subsets must have 2^n entries, got shape {shape}")
    n = length.bit_length() - 1
    if n > MAX_PLAYERS:
        raise InputError(
            f"a table of {length} entries belongs to {n} players, the limit is {MAX_PLAYERS}; "
            "group players, so that several features count as one"
        )
    return n


def finite_table(name: str, values: Any, length: int | None = None) -> np.ndarray:
    """The values of one game as a float64 array (2^n,), which may share their memory.

    Raises:
        InputError: naming the argument, if they are no finite real numbers, or not as many as expected.
    """
    table = real_array(name, values)
    if table.ndim != 1 or (length is not None and len(table) != length):
        raise InputError(f"{name} must have shape ({'2^n' if length is None else length},), got {table.shape}")
    n_players(table)
    bad = np.flatnonzero(~np.isfinite(table))
    if len(bad):
        raise InputError(f"{name} row {bad[0]} must be a finite number, got {table[bad[0]]}")
    return table


def subset_masks(n: int, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Which players the subsets start to stop (default: to the last) hold, bool (stop - start, n)."""
    _check_players(n)
    end = 2**n if stop is None else stop
    if not 0 <= start <= end <= 2**n:
        raise InputError(f"rows {start} to {end} are not within the {2**n} subsets of {n} players")
    return row_masks(np.arange(start, end), n)


def row_masks(rows: np.ndarray, n: int) -> np.ndarray:
    """Which players the subsets of these rows hold, bool (rows, n). Of a row the last n bits count."""
    return (np.asarray(rows)[:, None] >> np.arange(n - 1, -1, -1) & 1).astype(bool)


def subset_sizes(n: int) -> np.ndarray:
    """The number of players of every subset, int64 (2^n,)."""
    _check_players(n)
    return np.bitwise_count(np.arange(2**n)).astype(np.int64)


def subset_index(players: Iterable[int], n: int) -> int:
    """The row of the subset that holds these players, each of them 0 to n - 1."""
    _check_players(n)
    row = 0
    for player in players:
        if not 0 <= player < n:
            raise InputError(f"player {player} is not in 0..{n - 1}")
        row |= 1 << n - 1 - int(player)
    return row


def moebius(v: Table) -> Table:
    """Harsanyi interactions of the rewards, over the last axis.

    Args:
        v: (..., 2^n) rewards, not changed. A tensor of floats keeps dtype and device and is differentiable, to any
            order; of integers it becomes int64. Anything else becomes an array of float64. NaN and infinity spread
            to all supersets.

    Returns:
        (..., 2^n) interactions, in the order of the rows of v.

    Raises:
        InputError: if the last axis is no power of 2, above 2^20, or the entries are not real numbers.
    """
    return _transform(v, _WITHOUT, -1)


def inverse_moebius(i: Table) -> Table:
    """Rewards of the interactions, over the last axis: the inverse of `moebius`, with the same rules."""
    return _transform(i, _WITHOUT, 1)


def moebius_adjoint(g: Table) -> Table:
    """The transpose of `moebius`: from the gradient with respect to I, (..., 2^n), to that with respect to v."""
    return _transform(g, _WITH, -1)


def inverse_moebius_adjoint(g: Table) -> Table:
    """The transpose of `inverse_moebius`: entry S of the result is the sum of g over all supersets of S."""
    return _transform(g, _WITH, 1)


def _transform(table: Any, source: int, sign: int) -> Any:
    n = n_players(table)
    if isinstance(table, torch.Tensor):
        if table.is_complex() or table.dtype == torch.bool:
            raise InputError(f"a table over subsets must hold real numbers, got {table.dtype}")
        return _Butterfly.apply(table if table.is_floating_point() else table.long(), source, sign)
    array = np.array(real_array("a table over subsets", table), order="C")
    _butterfly(array, n, source, sign)
    return array


def _butterfly(table: Any, n: int, source: int, sign: int) -> None:
    """For each player add sign times the rows at `source` (player absent or present) to the others, in place."""
    for i in range(n):
        pairs = table.reshape(-1, 2, 1 << n - i - 1)  # a view, for contiguous tables
        if sign > 0:
            pairs[:, 1 - source] += pairs[:, source]
        else:
            pairs[:, 1 - source] -= pairs[:, source]


class _Butterfly(torch.autograd.Function):
    """The in-place passes on a copy; autograd of n separate passes would hold n tables."""

    @staticmethod
    def forward(ctx: Any, table: torch.Tensor, source: int, sign: int) -> torch.Tensor:
        ctx.source, ctx.sign = source, sign
        result = table.clone(memory_format=torch.contiguous_format)
        _butterfly(result, n_players(table), source, sign)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _Butterfly.apply(gradients[0], 1 - ctx.source, ctx.sign), None, None


def _check_players(n: int) -> None:
    if not 0 <= n <= MAX_PLAYERS:
        raise InputError(f"the number of players must be 0..{MAX_PLAYERS}, got {n}; group players where there are more")
