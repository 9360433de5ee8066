"""Coalitions of players that many patterns share, found by shortening the description of all patterns.

Ren, Li, Chen, Deng, Zhang, "Defining and Quantifying the Emergence of Sparse Concepts in DNNs",
CVPR 2023, arXiv:2111.06206. A pattern S is written with words: single players at first, later also coalitions, each
standing for all of its players. The cost of a set of words M is the code length of all patterns, weighted by their
effects, plus kappa times the entropy of the code,

    cost(M) = sum_S |I(S)| sum_{m in S} -log p(m)  +  kappa H(p),      p(m) = c(m) / C

| symbol | meaning | shape |
|---|---|---|
| I(S) | effect of pattern S | (m,) |
| c(w) | weight of word w, the sum of abs I(S) over the patterns written with it | (n_words,) |
| C | sum of all c | () |
| p, H(p) | how often each word is written, and the entropy of that in nats | (n_words,), () |
| kappa | weight of the entropy, in the units of I | () |
| omega(W) | weight of the patterns written with all the words of W | (candidates,) |

Greedy: of the candidates W, sets of two or more words, the one becomes a word where (change in cost) / (players of W)
is least; at most `max_merges` times. Two rules say what the candidates are and when to stop:

| rule | candidates | stops where the best candidate |
|---|---|---|
| shared | what any two patterns have in common | does not lower the cost |
| published | every subset of a pattern's words | raises the cost, or is used by one pattern alone |

A coalition of one pattern says nothing that the pattern does not. By the published rule such a candidate ends the
search even while others, which several patterns share, would still shorten the description; by "shared" it is none.

The first sum equals sum_w c(w) (-log p(w)) = C H(p), so cost = (C + kappa) H(p), where
H(p) = log C - (1/C) sum_w c(w) log c(w). Making W a word takes omega from c(w) of each of its words and gives omega to
the new one, so the costs of all candidates follow from omega without rewriting a pattern.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.interactions._checks import array_of, real_array
from conceptry.models.harsanyi.interactions.moebius import row_masks

RULES = ("shared", "published")
MAX_SUBSETS = 2**22
_AT_ONCE = 2**16  # candidates whose costs are computed together
_TIE = 1e-12  # of the cost: changes that are this close are equal


@dataclass(frozen=True)
class Aggregation:
    """Patterns written with words, each word a set of players that patterns use together.

    words: (n_words, n) bool, the players of each word: the n single players first, then the coalitions as found.
    patterns: (m, n_words) bool, the words of each pattern: disjoint, and together exactly its players.
    costs: (1 + merges,), the cost of the description before and after each merge; with `early_stop` it never rises.
    """

    words: np.ndarray
    patterns: np.ndarray
    costs: np.ndarray


def aggregate(
    masks: Any,
    interactions: Any,
    max_merges: int = 5,
    entropy_weight: float = 10.0,
    *,
    rule: str = "shared",
    early_stop: bool = True,
) -> Aggregation:
    """Write patterns by single players and by coalitions that several of them share.

    Args:
        masks: (m, n) bool, the players of each pattern. The empty pattern and patterns without effect may be among
            them; they have no say.
        interactions: (m,) effects.
        max_merges: how many coalitions are made at the most.
        entropy_weight: kappa.
        rule: "shared" or "published", see the table above.
        early_stop: whether to stop where the cost would rise.

    Raises:
        InputError: where the shapes do not fit, an effect is not finite, an option is negative, or there is no such
            rule.

    Example:
        >>> aggregate([[1, 1, 1, 0], [1, 1, 0, 1]], [2.0, -1.0]).words[4:].astype(int)
        array([[1, 1, 0, 0]])
    """
    codes, weights = _checked(masks, interactions, max_merges, entropy_weight)
    if rule not in RULES:
        raise InputError(f"rule is {rule!r}; expected one of {', '.join(RULES)}")
    words = np.eye(codes.shape[1], dtype=bool)
    costs = [_cost(weights @ codes, entropy_weight)]
    while len(costs) <= max_merges:
        candidates = _shared(codes) if rule == "shared" else _subsets(codes)
        if not len(candidates):
            break
        after, sizes = _judged(candidates, codes, words, weights, entropy_weight)
        changes = (after - costs[-1]) / sizes
        tie = _TIE * costs[-1] if rule == "published" else 0.0
        best = int(np.argmax(changes <= changes.min() + tie))
        falls = bool(after[best] < costs[-1] * (1 - _TIE))
        rises = bool(after[best] > costs[-1] * (1 + _TIE))
        if early_stop and (rises if rule == "published" else not falls):
            break
        word = candidates[best]
        users: np.ndarray = (codes | ~word).all(axis=1)
        if users.sum() == 1:
            break
        codes = np.column_stack([codes & ~(users[:, None] & word), users])
        words = np.vstack([words, words[word].any(axis=0)])
        costs.append(_cost(weights @ codes, entropy_weight))
    return Aggregation(words, codes, np.array(costs))


def _judged(
    candidates: np.ndarray, codes: np.ndarray, words: np.ndarray, weights: np.ndarray, entropy_weight: float
) -> tuple[np.ndarray, np.ndarray]:
    """The cost if each of `candidates` (candidates, n_words) became a word, and how many players it has."""
    missing, counts = (~codes.T).astype(np.float32), weights @ codes
    after = np.empty(len(candidates))
    for start in range(0, len(candidates), _AT_ONCE):
        part = candidates[start : start + _AT_ONCE]
        # The words of a candidate are all in a pattern where none of them is missing.
        using = (part.astype(np.float32) @ missing) == 0
        after[start : start + _AT_ONCE] = _costs_after(counts, part, using @ weights, entropy_weight)
    return after, (candidates @ words.astype(np.int64)).sum(axis=1)


def _checked(masks: Any, interactions: Any, max_merges: int, entropy_weight: float) -> tuple[np.ndarray, np.ndarray]:
    codes, effects = array_of("masks", masks).astype(bool), real_array("interactions", interactions)
    if codes.ndim != 2 or effects.shape != codes.shape[:1]:
        raise InputError(
            f"aggregate() got masks of shape {np.shape(masks)} and interactions of shape {effects.shape}; "
            "expected (patterns, players) and (patterns,)."
        )
    if not np.isfinite(effects).all():
        raise InputError(f"interactions: {int((~np.isfinite(effects)).sum())} of {len(effects)} are not finite.")
    if max_merges < 0 or not entropy_weight >= 0:
        raise InputError(
            f"max_merges and entropy_weight must be at least 0, got max_merges={max_merges} and "
            f"entropy_weight={entropy_weight}."
        )
    return codes, np.abs(effects)


def _shared(codes: np.ndarray) -> np.ndarray:
    """What any two of `codes` (m, n_words) have in common, where that is two words or more: (candidates, n_words)."""
    first, second = np.triu_indices(len(codes), 1)
    common = codes[first] & codes[second]
    common = common[common.sum(axis=1) >= 2]
    # Equal rows are found by their packed bytes, which is far faster than comparing whole rows.
    packed = np.packbits(common, axis=1)
    keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    return common[np.unique(keys, return_index=True)[1]]


def _subsets(codes: np.ndarray) -> np.ndarray:
    """Every set of two words or more that a pattern of `codes` (m, n_words) holds, (candidates, n_words).

    In the order of the patterns, and within one by the binary number of its words: of equal candidates the first wins.
    """
    places = [np.flatnonzero(code) for code in codes]
    if sum(2 ** len(place) for place in places) > MAX_SUBSETS:
        raise InputError(
            f"the published rule tries every subset of each pattern's words, and patterns of {max(map(len, places))} "
            f"words have more than {MAX_SUBSETS:,} together; keep fewer patterns, or use the rule shared"
        )
    if codes.shape[1] > 62:  # the bits of an integer
        raise InputError(f"the published rule takes at most 62 words, got {codes.shape[1]}; use the rule shared")
    values = 1 << np.arange(codes.shape[1], dtype=np.int64)
    found = np.concatenate([row_masks(np.arange(2 ** len(place)), len(place)) @ values[place] for place in places])
    found = found[np.bitwise_count(found) >= 2]
    rows = found[np.sort(np.unique(found, return_index=True)[1])]
    return (rows[:, None] & values).astype(bool)


def _cost(counts: np.ndarray, entropy_weight: float) -> float:
    total = counts.sum()
    if total == 0:
        return 0.0
    return float((total + entropy_weight) * (np.log(total) - _x_log_x(counts).sum() / total))


def _costs_after(counts: np.ndarray, candidates: np.ndarray, omega: np.ndarray, entropy_weight: float) -> np.ndarray:
    """The cost (candidates,) if each of `candidates` (candidates, n_words), written `omega` times, became a word."""
    lost = np.maximum(counts - omega[:, None], 0.0)  # never below 0 but for rounding
    changes = np.where(candidates, _x_log_x(lost) - _x_log_x(counts), 0.0).sum(axis=1) + _x_log_x(omega)
    total = counts.sum() - omega * (candidates.sum(axis=1) - 1)
    safe = np.where(total > 0, total, 1.0)
    return (total + entropy_weight) * (np.log(safe) - (_x_log_x(counts).sum() + changes) / safe)


def _x_log_x(x: np.ndarray) -> np.ndarray:
    return x * np.log(np.where(x > 0, x, 1.0))
