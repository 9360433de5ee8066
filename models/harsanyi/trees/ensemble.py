"""Trees of any library as arrays.

A sample goes left where its feature is at most the threshold; what libraries do otherwise, a reader brings into this
form: x < t of numbers in single precision is x <= the next smaller such number; rounding to single precision happens
where samples become features.

| symbol | meaning | shape |
|---|---|---|
| nodes | nodes of all trees, one tree after another | scalar |
| roots | the first node of each tree | (trees,) |
| f(x) | base + sum over trees of the value of the leaf that x reaches | scalar |
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

_ZERO = 1e-35  # in absolute value, what LightGBM takes for zero
_CELLS = 2**22  # decisions kept at a time, of rows times nodes
_LARGEST_CATEGORY = 2.0**31


@dataclass(frozen=True, eq=False)
class Tree:
    """One tree; children are numbers of its own nodes, node 0 is the root, -1 in place of a child marks a leaf.

    Attributes:
        feature, threshold, left, right, value: (nodes,); the value of inner nodes is not read.
        missing_left: (nodes,) bool, whether NaN goes left.
        zero_missing: (nodes,) bool, whether 0 goes the way of NaN.
        categories: of nodes that split by categories, those that go left, or right where `listed_left` is False. A
            number that is not listed goes the other way, NaN as `missing_left` says.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray
    missing_left: np.ndarray | None = None
    zero_missing: np.ndarray | None = None
    categories: dict[int, np.ndarray] = field(default_factory=dict)
    listed_left: bool = True


@dataclass(frozen=True, eq=False)
class Ensemble:
    """A sum of trees with one output.

    Attributes:
        feature: (nodes,) int32. left, right: (nodes,) int32, numbers of nodes of the ensemble, -1 at leaves.
        threshold: (nodes,) float64. value: (nodes,) float64, 0 at inner nodes.
        missing_left, zero_missing: (nodes,) bool, as in `Tree`.
        word: (nodes,) int64, where the categories of a node begin in `words`, -1 where it splits by threshold.
        n_words: (nodes,) int64, how many there are. words: uint32, category c is bit c % 32 of word c // 32.
        listed_left: (nodes,) bool, as in `Tree`.
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
    def of(cls, trees: Sequence[Tree], base: float, n_features: int) -> "Ensemble":
        """The sum of trees."""
        counts = [len(tree.left) for tree in trees]
        roots = np.append(0, np.cumsum(counts)).astype(np.int64)
        words: list[np.ndarray] = []
        word, n_words = np.full(roots[-1], -1, np.int64), np.zeros(roots[-1], np.int64)
        for root, tree in zip(roots, trees, strict=False):
            for node, categories in tree.categories.items():
                bits = _bits(categories)
                word[root + node], n_words[root + node] = sum(map(len, words)), len(bits)
                words.append(bits)

        def joined(name: str, dtype: type) -> np.ndarray:
            parts = [getattr(tree, name) for tree in trees]
            return np.concatenate(
                [
                    np.empty(0, dtype),
                    *(np.zeros(n, dtype) if part is None else part for part, n in zip(parts, counts, strict=True)),
                ]
            ).astype(dtype)

        shift = np.repeat(roots[:-1], counts)
        left, right, value = joined("left", np.int64), joined("right", np.int64), joined("value", np.float64)
        leaf = left < 0
        return cls(
            np.where(leaf, 0, joined("feature", np.int32)).astype(np.int32),
            joined("threshold", np.float64),
            np.where(leaf, -1, left + shift).astype(np.int32),
            np.where(leaf, -1, right + shift).astype(np.int32),
            np.where(leaf, value, 0.0),
            joined("missing_left", np.bool_),
            joined("zero_missing", np.bool_),
            word,
            n_words,
            np.concatenate([np.empty(0, np.uint32), *words]),
            np.repeat(np.array([tree.listed_left for tree in trees], bool), counts),
            roots[:-1].astype(np.int32),
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


def _bits(categories: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 on as bits of words of 32."""
    categories = np.asarray(categories, np.int64)
    words = np.zeros(int(categories.max(initial=-1)) // 32 + 1, np.uint32)
    np.bitwise_or.at(words, categories // 32, np.uint32(1) << (categories % 32).astype(np.uint32))
    return words
