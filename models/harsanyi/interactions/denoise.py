"""Remove the patterns that are noise: a greedy choice of the few that still add up to the rewards.

Ren, Li, Chen, Deng, Zhang, "Defining and Quantifying the Emergence of Sparse Concepts in DNNs", CVPR 2023,
arXiv:2111.06206.

Objective, over the sets K of kept patterns: few patterns with a small ||v - sum_{p in K} I_p F_p||^2.

| symbol | meaning | shape |
|---|---|---|
| v | reward of every subset | (2^n,) |
| p, I_p | pattern and its effect: AND rows, then OR rows if there are any; never refitted | (m,) |
| F_p | the subsets p contributes to: supersets of S (AND), those that meet T (OR) | (2^n,) |
| r, e | residual v - sum_{p in K} I_p F_p and its squared norm | (2^n,), scalar |
| c_p | <F_p, r> | (m,) |

Start from all patterns, the empty one included. While more than min_patterns remain: of the n_greedy weakest
|I_p| (equal ones by row) remove the one that leaves the smallest e (of equals the first). Among these states the
*last* with explain ratio and normalised error within the thresholds is returned, but never one of more than
max_patterns.

Removing p changes the error by  2 I_p c_p + I_p^2 <F_p, F_p>  and then every other c_q by  I_p <F_p, F_q>,
and these overlaps count subsets, so they have closed forms:

    AND S, AND T: supersets of both                  2^(n-|S u T|)
    OR S, OR T:   all, less those that miss S or T   2^n - 2^(n-|S|) - 2^(n-|T|) + 2^(n-|S u T|)
    AND S, OR T:  supersets of S, less those that    2^(n-|S|) - [S, T disjoint] 2^(n-|S u T|)
                  miss T, of which there are none unless S and T are disjoint

So a step costs O(n_greedy); only a pattern that newly comes under the n_greedy weakest needs its c_p in full,
which is a sum over 2^(n-|p|) subsets. All in all O(3^n + m n_greedy) instead of O(4^n n_greedy).

Differences from the paper's code: the trajectory is recorded down to min_patterns; works for any n;
norms of r that agree to 1e-13 of ||v|| are equal, so that rounding decides nothing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.interactions._checks import finite_number, whole_number
from conceptry.models.harsanyi.interactions.and_or import inverse_or
from conceptry.models.harsanyi.interactions.moebius import finite_table, inverse_moebius, n_players, subset_sizes

RESOLUTION = 1e-13  # of ||v||: norms of the residual that are this close are equal
_OFFSET = 1e-7  # the published guard of both denominators


@dataclass(frozen=True, eq=False)
class Denoised:
    """The kept patterns and the states on the way.

    Attributes:
        kept: int64, ascending rows of the interactions; 2^n + k is row k of the OR interactions.
        explain_ratio: sum of |I| of the kept patterns over the same + |sum of I of the removed ones| + 1e-7, the empty
            set excluded. Removed effects of opposite signs cancel: what counts is what they take from v(N).
        square_error: of the kept patterns, ||v - sum of kept||^2 / (||v||^2 + 1e-7).
        counts: (n_states,) int64, number of patterns kept, from all down to min_patterns.
        ratios: (n_states,) explain ratio of each state.
        errors: (n_states,) normalised squared error of each state.
    """

    kept: np.ndarray
    explain_ratio: float
    square_error: float
    counts: np.ndarray
    ratios: np.ndarray
    errors: np.ndarray


@dataclass(frozen=True)
class Limits:
    """How far patterns are removed; see `denoise`. Raises InputError naming the argument that is out of range."""

    min_patterns: int = 15
    max_patterns: int = 80
    n_greedy: int = 20
    thres_square_error: float = 0.1
    thres_explain_ratio: float = 0.95

    def __post_init__(self) -> None:
        for name in ("min_patterns", "max_patterns", "n_greedy"):
            whole_number(name, getattr(self, name), least=1)
        if self.min_patterns > self.max_patterns:
            raise InputError(f"min_patterns is {self.min_patterns}, which is above max_patterns, {self.max_patterns}")
        for name in ("thres_square_error", "thres_explain_ratio"):
            finite_number(name, getattr(self, name))

    def choose(
        self,
        order: np.ndarray,
        removed: np.ndarray,
        errors: np.ndarray,
        squared_norm: float,
        effects: np.ndarray,
        before: np.ndarray | None = None,
    ) -> Denoised:
        """The last good state on the way from all patterns of `order` to those without `removed`.

        errors: (len(removed) + 1,) squared errors of the states. effects: of all rows, row 0 that of the empty set.
        before: rows that are in no state.
        """
        signed = effects.copy()
        signed[0] = 0.0
        never = signed[np.empty(0, np.int64) if before is None else before]
        kept_strength = np.abs(signed).sum() - np.abs(never).sum()
        kept_strength = kept_strength - np.append(0.0, np.cumsum(np.abs(signed[removed])))
        kept_strength = np.maximum(kept_strength, 0.0)  # a difference of sums can end below
        removed_effect = never.sum() + np.append(0.0, np.cumsum(signed[removed]))
        ratios = kept_strength / (kept_strength + np.abs(removed_effect) + _OFFSET)
        errors = errors / (squared_norm + _OFFSET)
        good = np.flatnonzero((ratios > self.thres_explain_ratio) & (errors < self.thres_square_error))
        state = max(int(good[-1]) if len(good) else 0, len(order) - self.max_patterns)
        kept = np.setdiff1d(order, removed[:state])
        counts = len(order) - np.arange(len(errors))
        return Denoised(kept, float(ratios[state]), float(errors[state]), counts, ratios, errors)


def denoise(
    v: Any,
    interactions: Any,
    or_interactions: Any = None,
    *,
    min_patterns: int = 15,
    max_patterns: int = 80,
    n_greedy: int = 20,
    thres_square_error: float = 0.1,
    thres_explain_ratio: float = 0.95,
) -> Denoised:
    """Keep the patterns that matter.

    Args:
        v: (2^n,) rewards, n up to 20; array, tensor or list, as the interactions.
        interactions: (2^n,) Harsanyi interactions of v, or the AND part of its split.
        or_interactions: (2^n,) the OR part; 0 for the empty set and single players, which AND holds.
        min_patterns: how many remain at the least; all patterns are kept where there are no more.
        max_patterns: how many are kept at the most, whatever the thresholds say.
        n_greedy: how many of the weakest patterns compete for each removal.
        thres_square_error: the normalised error has to be below it.
        thres_explain_ratio: the explain ratio has to be above it.

    Returns:
        A Denoised record. Where no state is within the thresholds it is the first of at most max_patterns.

    Raises:
        InputError: naming the argument, what it must be and what it was.
    """
    from conceptry.models.harsanyi.interactions._kernels import remove_greedily  # numba is slow to import

    v = finite_table("v", v)
    n = n_players(v)
    effects = finite_table("interactions", interactions, len(v))
    sizes = subset_sizes(n)
    patterns = np.arange(2**n)
    residual = v - inverse_moebius(effects)
    if or_interactions is not None:
        or_effects = finite_table("or_interactions", or_interactions, len(v))
        if or_effects[sizes < 2].any():
            raise InputError("or_interactions must be 0 for the empty set and single players; count these in AND")
        residual -= inverse_or(or_effects)
        effects = np.concatenate([effects, or_effects])
        patterns = np.concatenate([patterns, 2**n + np.flatnonzero(sizes >= 2)])
    limits = Limits(min_patterns, max_patterns, n_greedy, thres_square_error, thres_explain_ratio)

    order = patterns[np.argsort(np.abs(effects[patterns]), kind="stable")]
    removed = np.empty(max(0, len(order) - min_patterns), np.int64)
    errors = np.empty(len(removed) + 1)
    squared_norm = float(v @ v)
    resolution = RESOLUTION * squared_norm**0.5
    remove_greedily(residual, effects, order, sizes, n, min(n_greedy, len(order)), resolution, removed, errors)

    return limits.choose(order, removed, errors, squared_norm, effects)
