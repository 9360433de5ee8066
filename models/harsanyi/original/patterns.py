"""Denoising and coalitions of patterns by the published names."""

from typing import Any

import numpy as np
import torch

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.interactions.aggregate import aggregate
from conceptry.models.harsanyi.interactions.denoise import denoise
from conceptry.models.harsanyi.interactions.moebius import n_players

_GUARD = 1e-7  # of the published denominators


def remove_noisy_greedy(
    rewards: Any,
    interactions: Any,
    masks: Any,
    min_patterns: int = 15,
    max_patterns: int = 80,
    n_greedy: int = 20,
    thres_square_error: float = 0.1,
    thres_explain_ratio: float = 0.95,
) -> dict[str, Any]:
    """Remove patterns that are noise; see `denoise`.

    Args:
        rewards, interactions: (2^n,).
        masks: bool (2^n, n), every subset once, in any order.
        min_patterns, max_patterns, n_greedy, thres_square_error, thres_explain_ratio: as `denoise` has them.

    Returns:
        final_retained (ascending rows), final_error, final_ratio; errors and explain_ratios after each removal.
    """
    v, effects, sets = (np.asarray(torch.as_tensor(values).detach().cpu()) for values in (rewards, interactions, masks))
    n = n_players(v)
    if sets.shape != (len(v), n):
        raise InputError(f"masks must have shape ({len(v)}, {n}), got {sets.shape}")
    subset_of_row = sets.astype(np.int64) @ (1 << np.arange(n - 1, -1, -1))
    row_of_subset = np.argsort(subset_of_row)
    if not np.array_equal(subset_of_row[row_of_subset], np.arange(len(v))):
        raise InputError("masks must hold every subset of the players once")
    found = denoise(
        v[row_of_subset],
        effects[row_of_subset],
        min_patterns=min_patterns,
        max_patterns=max_patterns,
        n_greedy=n_greedy,
        thres_square_error=thres_square_error,
        thres_explain_ratio=thres_explain_ratio,
    )
    return {
        "final_retained": sorted(row_of_subset[found.kept].tolist()),
        "final_error": found.square_error,
        "final_ratio": found.explain_ratio,
        "errors": found.errors[1:] * (float(v.astype(np.float64) @ v) + _GUARD),
        "explain_ratios": found.ratios[1:],
    }


def aggregate_pattern_iterative(
    patterns: Any, interactions: Any, max_iter: int = 5, entropy_lamb: float = 10.0, early_stop: bool = True
) -> tuple[np.ndarray, np.ndarray, dict[str, list[float]]]:
    """Find coalitions that patterns share, by the published rule; see `aggregate`.

    Args:
        patterns: (m, n) bool; interactions: (m,).
        max_iter: coalitions at the most.
        entropy_lamb: weight of the entropy of the code.
        early_stop: whether to stop where the code would become longer.

    Returns:
        The coalitions, bool (k, n); the patterns by players and coalitions, bool (m, n + k); and the code lengths:
        "sum" (of words and entropy_lamb times entropy), before and after each merge.
    """
    found = aggregate(patterns, interactions, max_iter, entropy_lamb, rule="published", early_stop=early_stop)
    n = np.shape(patterns)[1]
    return found.words[n:], found.patterns, {"sum": found.costs.tolist()}
