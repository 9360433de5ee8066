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
from typing import Any

import numpy as np

NODE = np.dtype(
    [
        ("threshold", np.float64),
        ("value", np.float64),
        ("feature", np.int32),
        ("left", np.int32),
        ("right", np.int32),
        ("word", np.int32),
        ("n_words", np.int32),
        ("missing_left", np.bool_),
        ("zero_missing", np.bool_),
        ("listed_left", np.bool_),
    ],
    align=True,
)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """A sum of trees with one output.

    Attributes:
        nodes: (nodes,) of `NODE`, so that what is read of a node lies in one place:
            left and right, numbers of nodes of the ensemble, of which left is -1 at leaves; value, of leaves;
            feature and threshold; missing_left, whether NaN goes left; zero_missing, whether 0 goes the way of NaN;
            word, where categories begin in `words`, -1 where it splits by threshold, and n_words, how many words;
            listed_left, whether categories that are listed go left, and all others right; or the reverse.
        words: uint32, category c is bit c % 32 of word c // 32.
        roots: (trees,) int32.
        base: what is added to the leaves.
        n_features: number of features of a sample.
    """

    nodes: np.ndarray
    words: np.ndarray
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

        Of a leaf nothing is read but the value, which of inner nodes is not. categories: those that a node lists, of
        nodes that split by categories.
        """
        nodes = np.zeros(len(left), NODE)
        nodes["feature"], nodes["threshold"], nodes["value"] = feature, threshold, value
        nodes["left"], nodes["right"] = left, right
        nodes["missing_left"] = False if missing_left is None else missing_left
        nodes["zero_missing"] = False if zero_missing is None else zero_missing
        nodes["listed_left"] = listed_left
        nodes["word"] = -1
        words = [np.empty(0, np.uint32)]
        begin = 0
        for node, listed in (categories or {}).items():
            words.append(_bits(listed))
            nodes["word"][node], nodes["n_words"][node] = begin, len(words[-1])
            begin += len(words[-1])
        return cls(nodes, np.concatenate(words), np.asarray(roots, np.int32), float(base), n_features)

    @classmethod
    def joined(cls, parts: Sequence["Ensemble"]) -> "Ensemble":
        """The sum of ensembles; the features of each follow those of the one before."""
        copies, roots = [], []
        n_nodes = n_words = n_features = 0
        for part in parts:
            nodes = part.nodes.copy()
            nodes["feature"] += n_features
            nodes["right"] += n_nodes
            for name, shift in (("left", n_nodes), ("word", n_words)):
                nodes[name][nodes[name] >= 0] += shift
            copies.append(nodes)
            roots.append(part.roots + n_nodes)
            n_nodes, n_words, n_features = n_nodes + len(nodes), n_words + len(part.words), n_features + part.n_features
        words = np.concatenate([part.words for part in parts])
        base = sum(part.base for part in parts)
        return cls(np.concatenate(copies), words, np.concatenate(roots).astype(np.int32), base, n_features)

    def scaled(self, factor: float) -> "Ensemble":
        """The ensemble times a factor."""
        nodes = self.nodes.copy()
        nodes["value"] *= factor
        return replace(self, nodes=nodes, base=self.base * factor)

    def leaves(self, rows: np.ndarray) -> np.ndarray:
        """The leaf that each row (m, features) float64 reaches in each tree, int64 (m, trees)."""
        from conceptry.models.harsanyi.trees._kernels import leaves  # numba is slow to import

        return leaves(self.nodes, self.words, self.roots, np.ascontiguousarray(rows, np.float64))

    def predict(self, rows: Any) -> np.ndarray:
        """f (m,) of rows (m, features)."""
        return self.base + self.nodes["value"][self.leaves(rows)].sum(axis=1)

    def scale(self, rows: np.ndarray) -> float:
        """The size of the numbers that are added up for one of the rows, in absolute value, at most."""
        return float(abs(self.base) + np.abs(self.nodes["value"][self.leaves(rows)]).sum(axis=1).max(initial=0.0))


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
