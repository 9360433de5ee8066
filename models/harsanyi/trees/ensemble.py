"""Trees of any library as arrays.

A sample goes left where its feature is at most the threshold; what libraries do otherwise, a reader brings into this
form: x < t of numbers in single precision is x <= the next smaller such number; rounding to single precision happens
where samples become features.

| symbol | meaning | shape |
|---|---|---|
| nodes | nodes of all trees, in any order | scalar |
| roots | the node that each tree begins with | (trees,) |
| f(x) | base + sum over trees of the value of the leaf that x reaches | scalar |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

_ZERO = 1e-35  # in absolute value, what LightGBM takes for zero
_CELLS = 2**22  # decisions kept at a time, of rows times nodes
_LARGEST_CATEGORY = 2.0**31


@dataclass(frozen=True, eq=False)
class Ensemble:
    """A sum of trees with one output.

    Attributes:
        feature: (nodes,) int32. left, right: (nodes,) int32, numbers of nodes of the ensemble, -1 at leaves.
        threshold: (nodes,) float64. value: (nodes,) float64, 0 at inner nodes.
        missing_left: (nodes,) bool, whether NaN goes left. zero_missing: (nodes,) bool, whether 0 goes the way of NaN.
        word: (nodes,) int64, where the categories of a node begin in `words`, -1 where it splits by threshold.
        n_words: (nodes,) int64, how many there are. words: uint32, category c is bit c % 32 of word c // 32.
        listed_left: (nodes,) bool, whether categories that are listed go left, and all others right; or the reverse.
        roots: (trees,) int32.
        base: what is added to the leaves.
        n_features: number of features of a sample.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray
    missing_left: np.ndarray
    zero_missing: np.ndarray
    word: np.ndarray
    n_words: np.ndarray
    words: np.ndarray
    listed_left: np.ndarray
    roots: np.ndarray
    base: float
    n_features: int

    @classmethod
    def of(
        cls,
        feature: np.ndarray,
        threshold: np.ndarray,
        left: np.ndarray,
        right: np.ndarray,
        value: np.ndarray,
        roots: np.ndarray,
        *,
        base: float,
        n_features: int,
        missing_left: np.ndarray | None = None,
        zero_missing: np.ndarray | None = None,
        categories: Mapping[int, np.ndarray] | None = None,
        listed_left: bool = True,
    ) -> "Ensemble":
        """An ensemble of arrays (nodes,), where -1 in place of a left child marks a leaf.

        value: that of inner nodes is not read. categories: those that a node lists, of nodes that split by categories.
        """
        n = len(left)
        leaf = left < 0
        word, n_words, words = np.full(n, -1, np.int64), np.zeros(n, np.int64), [np.empty(0, np.uint32)]
        begin = 0
        for node, listed in (categories or {}).items():
            words.append(_bits(listed))
            word[node], n_words[node] = begin, len(words[-1])
            begin += len(words[-1])
        return cls(
            np.where(leaf, 0, feature).astype(np.int32),
            np.asarray(threshold, np.float64),
            np.where(leaf, -1, left).astype(np.int32),
            np.where(leaf, -1, right).astype(np.int32),
            np.where(leaf, value, 0.0),
            np.zeros(n, bool) if missing_left is None else np.asarray(missing_left, bool),
            np.zeros(n, bool) if zero_missing is None else np.asarray(zero_missing, bool),
            word,
            n_words,
            np.concatenate(words),
            np.full(n, listed_left),
            np.asarray(roots, np.int32),
            float(base),
            n_features,
        )

    @classmethod
    def joined(cls, parts: Sequence["Ensemble"]) -> "Ensemble":
        """The sum of ensembles; the features of each follow those of the one before."""
        nodes = np.append(0, np.cumsum([len(part.left) for part in parts]))
        features = np.append(0, np.cumsum([part.n_features for part in parts]))
        words = np.append(0, np.cumsum([len(part.words) for part in parts]))

        def shifted(name: str, shifts: np.ndarray) -> np.ndarray:
            arrays = [getattr(part, name) for part in parts]
            return np.concatenate(
                [np.where(a < 0, a, a + by).astype(a.dtype) for a, by in zip(arrays, shifts, strict=False)]
            )

        def plain(name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in parts])

        return cls(
            shifted("feature", features),
            plain("threshold"),
            shifted("left", nodes),
            shifted("right", nodes),
            plain("value"),
            plain("missing_left"),
            plain("zero_missing"),
            shifted("word", words),
            plain("n_words"),
            plain("words"),
            plain("listed_left"),
            shifted("roots", nodes),
            sum(part.base for part in parts),
            int(features[-1]),
        )

    def scaled(self, factor: float) -> "Ensemble":
        """The ensemble times a factor."""
        return replace(self, value=self.value * factor, base=self.base * factor)

    @cached_property
    def _categorical(self) -> np.ndarray:
        return np.flatnonzero(self.word >= 0)

    def goes_left(self, rows: np.ndarray) -> np.ndarray:
        """Which way each row (m, features) float64 would go at each node, bool (m, nodes)."""
        x = rows[:, self.feature]
        result = x <= self.threshold
        missing = np.isnan(x)
        if (nodes := self._categorical).size:
            result[:, nodes] = self._listed(x[:, nodes], nodes) == self.listed_left[nodes]
        if self.zero_missing.any():
            missing |= self.zero_missing & (np.abs(x) <= _ZERO)
        return np.where(missing, self.missing_left, result)

    def _listed(self, x: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """Whether the whole part of x (m, len(nodes)) is a category listed at the node; no negative number is."""
        possible = (x > -1) & (x < _LARGEST_CATEGORY)
        category = np.where(possible, x, 0).astype(np.int64)
        possible &= (x >= 0) & (category // 32 < self.n_words[nodes])
        place = np.where(possible, self.word[nodes] + category // 32, 0)
        return possible & (self.words[place] >> (category % 32).astype(np.uint32) & 1).astype(bool)

    def leaves(self, rows: np.ndarray) -> np.ndarray:
        """The leaf that each row (m, features) float64 reaches in each tree, int64 (m, trees)."""
        parts = [np.empty((0, len(self.roots)), np.int64)]
        step = max(1, _CELLS // max(len(self.left), 1))
        for start in range(0, len(rows), step):
            goes_left = self.goes_left(rows[start : start + step])
            node = np.repeat(self.roots[None].astype(np.int64), len(goes_left), axis=0)
            which = np.arange(len(goes_left))[:, None]
            while (inner := self.left[node] >= 0).any():
                child = np.where(goes_left[which, node], self.left[node], self.right[node])
                node = np.where(inner, child, node)
            parts.append(node)
        return np.concatenate(parts)

    def predict(self, rows: Any) -> np.ndarray:
        """f (m,) of rows (m, features)."""
        return self.base + self.value[self.leaves(np.asarray(rows, np.float64))].sum(axis=1)

    def scale(self, rows: np.ndarray) -> float:
        """The size of the numbers that are added up for one of the rows, in absolute value, at most."""
        return float(abs(self.base) + np.abs(self.value[self.leaves(rows)]).sum(axis=1).max(initial=0.0))


def stacked(sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The first nodes of trees of `sizes` nodes that lie one after another, and for each node that of its tree."""
    edges = np.append(0, np.cumsum(sizes)).astype(np.int64)
    return edges[:-1], np.repeat(edges[:-1], sizes)


def _bits(categories: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 on as bits of words of 32."""
    categories = np.asarray(categories, np.int64)
    words = np.zeros(int(categories.max(initial=-1)) // 32 + 1, np.uint32)
    np.bitwise_or.at(words, categories // 32, np.uint32(1) << (categories % 32).astype(np.uint32))
    return words
