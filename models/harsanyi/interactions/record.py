"""All interactions of one sample: a record, and what follows from it without asking the model again.

| symbol | meaning | shape |
|---|---|---|
| v | rewards of all subsets of the n players | (2^n,) |
| i_and, i_or | AND and OR interactions; without OR, v(S) is the sum of i_and over the subsets of S | (2^n,) |
| effects | both in one table, the OR rows after the AND rows | (2^n,) or (2 * 2^n,) |
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from conceptry.models.harsanyi.baseline import Sparsified
from conceptry.models.harsanyi.graph import AndOrGraph, build_graph
from conceptry.models.harsanyi.interactions.and_or import inverse_or
from conceptry.models.harsanyi.interactions.denoise import Denoised, denoise
from conceptry.models.harsanyi.interactions.indices import salient, shapley_values
from conceptry.models.harsanyi.interactions.moebius import inverse_moebius, moebius, row_masks


def residual(v: np.ndarray, effects: np.ndarray) -> float:
    """The largest |v(S) - sum of the effects that contribute to S|, over the largest |v|."""
    recomposed = inverse_moebius(effects[: len(v)])
    if len(effects) > len(v):
        recomposed = recomposed + inverse_or(effects[len(v) :])
    return float(np.abs(recomposed - v).max() / (np.abs(v).max() or 1.0))


@dataclass(frozen=True)
class Interactions:
    """All interactions of one sample.

    players: n names; target: the output explained; v, i_and: (2^n,); i_or: (2^n,) or None where v was not split;
    gap: how far the L1 of the split can be from the least one at most, relative to it (0 where v was not split);
    learned: how the baseline was learned, else None; calls: masked inputs that the model was asked;
    description: the sample and its players, JSON-ready.
    """

    players: tuple[str, ...]
    target: str
    v: np.ndarray
    i_and: np.ndarray
    i_or: np.ndarray | None
    gap: float
    learned: Sparsified | None
    calls: int
    description: dict[str, Any]

    @property
    def v_empty(self) -> float:
        return float(self.v[0])

    @property
    def v_full(self) -> float:
        return float(self.v[-1])

    @cached_property
    def effects(self) -> np.ndarray:
        """Interactions by row: (2^n,), or (2 * 2^n,) with the OR part after the AND part."""
        return self.i_and if self.i_or is None else np.concatenate([self.i_and, self.i_or])

    @property
    def l1(self) -> float:
        """The sum of all |I|."""
        return float(np.abs(self.effects).sum())

    @property
    def residual(self) -> float:
        """See `residual`."""
        return residual(self.v, self.effects)

    @property
    def salient(self) -> np.ndarray:
        """Rows of `effects` above 5 % of the largest, the empty set left out."""
        return salient(self.effects)

    @cached_property
    def shapley(self) -> np.ndarray:
        """Shapley values (n,) of v, from the interactions."""
        return shapley_values(moebius(self.v))

    def denoised(self, **options: Any) -> Denoised:
        """The patterns that are kept; see `denoise`."""
        return denoise(self.v, self.i_and, self.i_or, **options)

    def strongest(self, rows: np.ndarray | None = None, top_k: int | None = None) -> np.ndarray:
        """`rows` (default: all) of `effects` by descending strength, without the empty set and without zeros."""
        rows = np.arange(len(self.effects)) if rows is None else rows
        rows = rows[(rows != 0) & (self.effects[rows] != 0)]
        return rows[np.argsort(-np.abs(self.effects[rows]), kind="stable")][:top_k]

    def masks(self, rows: np.ndarray) -> np.ndarray:
        """The players of rows of `effects`, bool (rows, n)."""
        return row_masks(rows, len(self.players))

    def kinds(self, rows: np.ndarray) -> list[str]:
        """ "and" or "or" for each of the rows."""
        return ["and" if row < len(self.v) else "or" for row in rows]

    def graph(self, rows: np.ndarray) -> AndOrGraph:
        """The And-Or graph of the patterns in `rows`."""
        rows = self.strongest(rows)
        return build_graph(
            self.players,
            self.masks(rows),
            self.effects[rows],
            self.kinds(rows),
            v_full=self.v_full,
            v_empty=self.v_empty,
            target=self.target,
        )
