"""Metrics of SpLiCE, pure functions over arrays.

| symbol | meaning | shape |
|---|---|---|
| z, z_hat | unit-norm embeddings and their recompositions | (n, d) |
| t | unit-norm embeddings of class prompts or captions | (k, d) |
"""

from collections.abc import Collection, Sequence

import numpy as np

CHUNK = 1024  # rows of similarities that are held at a time


def zero_shot_hits(z: np.ndarray, t: np.ndarray, labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """Whether the most similar prompt of `t` (k, d) is that of the label, of each row of `z` (n, d): bool (n,)."""
    return (z @ t.T).argmax(axis=1) == np.asarray(labels)


def retrieval_hits(z: np.ndarray, t: np.ndarray, truth: Sequence[int], k: int = 1) -> np.ndarray:
    """Whether fewer than `k` captions of `t` are more similar than the true one, of each row of `z` (n, d): bool (n,).

    `truth[i]` is the row of `t` (m, d) that belongs to row i. Ties count against the model, so equal embeddings of
    different captions earn nothing.
    """
    own, hits = np.asarray(truth), []
    for start in range(0, len(z), CHUNK):
        similarity = z[start : start + CHUNK] @ t.T
        true = np.take_along_axis(similarity, own[start : start + CHUNK, None], axis=1)
        hits.append((similarity >= true).sum(axis=1) <= k)
    return np.concatenate(hits) if hits else np.zeros(0, bool)


def concept_recall(named: Sequence[Collection[str]], true: Sequence[Collection[str]]) -> np.ndarray:
    """Share of a row's true words that are named, of each row: (n,), NaN for those that have no true words."""
    pairs = zip(named, true, strict=True)
    return np.array([len(set(t) & set(n)) / len(set(t)) if t else np.nan for n, t in pairs])


def concept_precision(named: Sequence[Collection[str]], true: Sequence[Collection[str]]) -> float:
    """Share of all named words that are true of their row; NaN where no word is named."""
    total = sum(len(words) for words in named)
    hits = sum(len(set(n) & set(t)) for n, t in zip(named, true, strict=True))
    return hits / total if total else float("nan")
