"""Metrics of SpLiCE, pure functions over arrays.

| symbol | meaning | shape |
|---|---|---|
| z, z_hat | unit-norm embeddings and their recompositions | (n, d) |
| t | unit-norm embeddings of class prompts or captions | (k, d) |
"""

from collections.abc import Collection, Sequence

import numpy as np
from scipy.sparse import csr_array

CHUNK = 1024  # rows of similarities that are held at a time


def zero_shot_hits(z: np.ndarray, t: np.ndarray, labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """Whether the most similar prompt of `t` (k, d) is that of the label, of each row of `z` (n, d): bool (n,)."""
    return (z @ t.T).argmax(axis=1) == np.asarray(labels)


def retrieval_ranks(queries: np.ndarray, items: np.ndarray, is_true: csr_array) -> np.ndarray:
    """Rank of the best true one among `items` (m, d), 1 is the first, of each row of `queries` (n, d): (n,).

    is_true: bool (n, m), which items belong to each query, one at least. Of others a tie counts against the model, so
    equal embeddings of different things earn nothing.
    """
    ranks = [np.zeros(0, np.int64)]
    for start in range(0, len(queries), CHUNK):
        similarity = queries[start : start + CHUNK] @ items.T
        true = is_true[start : start + CHUNK].toarray()
        best = np.where(true, similarity, -np.inf).max(axis=1, keepdims=True)
        ranks.append(1 + ((similarity >= best) & ~true).sum(axis=1))
    return np.concatenate(ranks)


def belonging(rows: Sequence[Sequence[int]], columns: int) -> csr_array:
    """bool (n, `columns`): true at the columns that each of n rows lists."""
    ends = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    indices = np.array([column for row in rows for column in row], dtype=np.int64)
    return csr_array((np.ones(len(indices), bool), indices, ends), shape=(len(rows), columns))


def concept_recall(named: Sequence[Collection[str]], true: Sequence[Collection[str]]) -> np.ndarray:
    """Share of a row's true words that are named, of each row: (n,), NaN for those that have no true words."""
    pairs = zip(named, true, strict=True)
    return np.array([len(set(t) & set(n)) / len(set(t)) if t else np.nan for n, t in pairs])


def concept_precision(named: Sequence[Collection[str]], true: Sequence[Collection[str]]) -> float:
    """Share of all named words that are true of their row; NaN where no word is named."""
    total = sum(len(words) for words in named)
    hits = sum(len(set(n) & set(t)) for n, t in zip(named, true, strict=True))
    return hits / total if total else float("nan")


def names_label(words: Sequence[str], label: str) -> bool:
    """Whether words name a label: one of them is it, or they have every word of it, as "fire" and "truck" together.

    In any case, and in the singular or the plural, since folders of photographs are called both.
    """
    given, asked = {_key(word) for word in words}, _key(label)
    return asked in given or set(asked.split()) <= given


def _key(words: str) -> str:
    """What words have in common with their plural of the regular kinds; irregular ones stay apart."""
    return " ".join(map(_singular, words.casefold().split()))


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def shuffled_share(words: Sequence[Sequence[str]], labels: Sequence[str]) -> np.ndarray:
    """Share of the other rows' words that name the label of a row, (n,): what naming is worth by chance.

    Every row is tried with the words of all rows of other labels: the mean over all shuffles among labels.
    """
    rows_of: dict[str, set[int]] = {}  # rows that have each word
    for row, given in enumerate(words):
        for word in given:
            rows_of.setdefault(_key(word), set()).add(row)
    own_rows: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        own_rows.setdefault(label, []).append(row)
    shares, everyone = np.full(len(labels), np.nan), set(range(len(labels)))
    for label, own in own_rows.items():
        asked = _key(label)
        parts = [rows_of.get(part, set()) for part in asked.split()]
        naming = rows_of.get(asked, set()) | (set.intersection(*parts) if parts else everyone)  # as `names_label`
        if len(own) < len(labels):
            shares[own] = len(naming.difference(own)) / (len(labels) - len(own))
    return shares


def calibration_error(sure: np.ndarray, hits: np.ndarray, parts: int = 5) -> float:
    """Mean distance of the mean of `sure` (n,) from the share of `hits` (n,), over `parts` of equal size by `sure`."""
    groups = [group for group in np.array_split(np.argsort(sure, kind="stable"), parts) if len(group)]
    return float(np.mean([abs(sure[group].mean() - hits[group].mean()) for group in groups]))


def order_of(sure: np.ndarray, hits: np.ndarray) -> float:
    """How often a hit is surer than a miss, ties counted half: .5 says nothing, 1 all; NaN without both."""
    right, wrong = sure[hits > 0], sure[hits == 0]
    if not len(right) or not len(wrong):
        return float("nan")
    ranks = np.sort(wrong)
    below, equal_or_below = np.searchsorted(ranks, right), np.searchsorted(ranks, right, side="right")
    return float((below + equal_or_below).mean() / 2 / len(wrong))
