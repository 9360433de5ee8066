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


def retrieval_ranks(z: np.ndarray, t: np.ndarray, truth: Sequence[int] | np.ndarray) -> np.ndarray:
    """Rank of the true caption among those of `t` (m, d), 1 is the first, of each row of `z` (n, d): (n,).

    `truth[i]` is the row of `t` that belongs to row i. Ties count against the model, so equal embeddings of different
    captions earn nothing.
    """
    own, ranks = np.asarray(truth), [np.zeros(0, np.int64)]
    for start in range(0, len(z), CHUNK):
        similarity = z[start : start + CHUNK] @ t.T
        true = np.take_along_axis(similarity, own[start : start + CHUNK, None], axis=1)
        ranks.append((similarity >= true).sum(axis=1))
    return np.concatenate(ranks)


def caption_ranks(z: np.ndarray, t: np.ndarray, truth: Sequence[int] | np.ndarray) -> np.ndarray:
    """Rank of the best true picture among those of `z` (n, d), 1 is the first, of each caption of `t` (m, d): (m,).

    `truth[i]` is the caption of picture i; each has one at least. Of others a tie counts against the model.
    """
    own, ranks = np.asarray(truth), [np.zeros(0, np.int64)]
    for start in range(0, len(t), CHUNK):
        similarity = t[start : start + CHUNK] @ z.T
        is_true = own[None] == np.arange(start, start + len(similarity))[:, None]
        best = np.where(is_true, similarity, -np.inf).max(axis=1, keepdims=True)
        ranks.append(1 + ((similarity >= best) & ~is_true).sum(axis=1))
    return np.concatenate(ranks)


def concept_recall(named: Sequence[Collection[str]], true: Sequence[Collection[str]]) -> np.ndarray:
    """Share of a row's true words that are named, of each row: (n,), NaN for those that have no true words."""
    pairs = zip(named, true, strict=True)
    return np.array([len(set(t) & set(n)) / len(set(t)) if t else np.nan for n, t in pairs])


def concept_precision(named: Sequence[Collection[str]], true: Sequence[Collection[str]]) -> float:
    """Share of all named words that are true of their row; NaN where no word is named."""
    total = sum(len(words) for words in named)
    hits = sum(len(set(n) & set(t)) for n, t in zip(named, true, strict=True))
    return hits / total if total else float("nan")
