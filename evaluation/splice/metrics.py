"""Metrics of SpLiCE, pure functions over arrays.

| symbol | meaning | shape |
|---|---|---|
| z, z_hat | unit-norm embeddings and their recompositions | (n, d) |
| t | unit-norm embeddings of class prompts or captions | (k, d) |
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

CHUNK = 1024  # rows of similarities that are held at a time


def zero_shot_accuracy(z: np.ndarray, t: np.ndarray, labels: Sequence[int] | np.ndarray) -> float:
    """Share of rows of `z` (n, d) whose most similar prompt of `t` (k, d) is that of their label."""
    return float(((z @ t.T).argmax(axis=1) == np.asarray(labels)).mean())


def retrieval_recall(z: np.ndarray, t: np.ndarray, truth: Sequence[int], k: int = 1) -> float:
    """Share of rows of `z` (n, d) for which fewer than `k` captions of `t` are more similar than the true one.

    `truth[i]` is the row of `t` (m, d) that belongs to row i. Ties count against the model, so equal embeddings of
    different captions earn nothing.
    """
    own, hits = np.asarray(truth), 0
    for start in range(0, len(z), CHUNK):
        similarity = z[start : start + CHUNK] @ t.T
        true = np.take_along_axis(similarity, own[start : start + CHUNK, None], axis=1)
        hits += int(((similarity >= true).sum(axis=1) <= k).sum())
    return hits / len(z)


def concept_recall(named: Sequence[Collection[str]], true: Sequence[Collection[str]]) -> dict[str, float]:
    """Measure how well named words cover true ones, over rows that have true words.

    recall: mean share of a row's true words that are named; all: share of rows whose true words are all named.
    """
    shares = [len(set(t) & set(n)) / len(set(t)) for n, t in zip(named, true, strict=True) if t]
    return {"recall": float(np.mean(shares)), "all": float(np.mean([share == 1.0 for share in shares]))}


def concept_precision(named: Sequence[Collection[str]], true: Sequence[Collection[str]]) -> float:
    """Share of all named words that are true of their row; NaN where no word is named."""
    total = sum(len(words) for words in named)
    hits = sum(len(set(n) & set(t)) for n, t in zip(named, true, strict=True))
    return hits / total if total else float("nan")


def spread(values: np.ndarray, name: str) -> Mapping[str, float]:
    """Mean and standard deviation, as `name` and `name_std`."""
    return {name: float(np.mean(values)), f"{name}_std": float(np.std(values))}
