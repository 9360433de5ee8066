"""Greedy denoising against its definition, executed literally on dense matrices."""

import numpy as np
import pytest

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.interactions.and_or import inverse_or
from conceptry.models.harsanyi.interactions.denoise import RESOLUTION, denoise
from conceptry.models.harsanyi.interactions.moebius import inverse_moebius, moebius, subset_masks, subset_sizes

DEFAULTS = {
    "min_patterns": 15,
    "max_patterns": 80,
    "n_greedy": 20,
    "thres_square_error": 0.1,
    "thres_explain_ratio": 0.95,
}


def patterns_of(n, with_or):
    """{row: its contribution to each subset, (2^n,)}."""
    present = subset_masks(n)
    patterns = {k: present[:, present[k]].all(axis=1) for k in range(2**n)}
    if with_or:
        patterns |= {2**n + k: present[:, present[k]].any(axis=1) for k in range(2**n) if present[k].sum() > 1}
    return patterns


def literal(v, interactions, or_interactions=None, **options):
    """(kept, ratios, errors) as the method states it: every candidate's error from the dense sum of the patterns."""
    o = DEFAULTS | options
    patterns = patterns_of(len(v).bit_length() - 1, or_interactions is not None)
    effects = np.concatenate([interactions, np.zeros_like(v) if or_interactions is None else or_interactions])
    kept = sorted(patterns)
    columns = np.zeros((len(v), len(effects)))
    for row, contribution in patterns.items():
        columns[:, row] = contribution

    def error(rows):
        return float(((v - columns[:, rows] @ effects[rows]) ** 2).sum())

    def ratio(rows):
        in_kept = sum(abs(effects[k]) for k in rows if k)
        removed = abs(sum(effects[k] for k in patterns if k and k not in rows))
        return in_kept / (in_kept + removed + 1e-7)

    states = [list(kept)]
    while len(kept) > o["min_patterns"]:
        weakest = sorted(kept, key=lambda k: (abs(effects[k]), k))[: o["n_greedy"]]
        best, best_norm = None, np.inf
        for row in weakest:
            norm = error([k for k in kept if k != row]) ** 0.5
            if norm < best_norm - RESOLUTION * (v @ v) ** 0.5:
                best, best_norm = row, norm
        kept.remove(best)
        states.append(list(kept))
    ratios = np.array([ratio(set(rows)) for rows in states])
    errors = np.array([error(rows) for rows in states]) / ((v**2).sum() + 1e-7)
    result = states[0]
    for rows, r, e in zip(states, ratios, errors, strict=True):
        if (r > o["thres_explain_ratio"] and e < o["thres_square_error"]) or len(rows) >= o["max_patterns"]:
            result = rows
    return result, ratios, errors


def network(n, seed):
    rng = np.random.default_rng(seed)
    return np.tanh(subset_masks(n) @ rng.normal(size=(n, 8)) - rng.normal(size=8)) @ rng.normal(size=8)


def planted(n, seed, n_terms=8, noise=0.0):
    rng = np.random.default_rng(seed)
    interactions = noise * rng.normal(size=2**n)
    interactions[rng.choice(2**n, min(n_terms, 2**n), replace=False)] += rng.normal(size=min(n_terms, 2**n))
    return inverse_moebius(interactions)


GAMES = {
    "random": lambda n, seed: np.random.default_rng(seed).normal(size=2**n),
    "integers": lambda n, seed: np.random.default_rng(seed).integers(-2, 3, size=2**n).astype(float),
    "network": network,
    "planted": planted,
    "noisy": lambda n, seed: planted(n, seed, noise=0.01),
    "additive": lambda n, seed: subset_masks(n) @ np.arange(1.0, n + 1) + 3.0,
    "majority": lambda n, seed: (subset_masks(n).sum(1) * 2 > n).astype(float),
    "constant": lambda n, seed: np.full(2**n, 0.3),
    "zero": lambda n, seed: np.zeros(2**n),
}


def assert_literal(v, interactions, or_interactions=None, **options):
    result = denoise(v, interactions, or_interactions, **options)
    kept, ratios, errors = literal(v, interactions, or_interactions, **options)
    assert result.kept.tolist() == kept
    np.testing.assert_allclose(result.ratios, ratios, atol=1e-9)
    np.testing.assert_allclose(result.errors, errors, atol=1e-9)
    state = np.flatnonzero(result.counts == len(kept)).item()
    assert (result.explain_ratio, result.square_error) == (result.ratios[state], result.errors[state])
    assert len(result.counts) == len(ratios)


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 6])
def test_keeps_what_the_definition_keeps(name, n):
    for seed in range(3):
        v = GAMES[name](n, seed)
        assert_literal(v, moebius(v))
        assert_literal(v, moebius(v), min_patterns=1, max_patterns=7, n_greedy=3)


@pytest.mark.parametrize("name", ["random", "network", "noisy"])
def test_keeps_what_the_definition_keeps_at_eight_players(name):
    v = GAMES[name](8, 5)
    assert_literal(v, moebius(v))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(3))
def test_with_or_patterns(n, seed):
    rng = np.random.default_rng(seed)
    interactions, or_effects = rng.normal(size=(2, 2**n)) * rng.choice([0.01, 1.0], size=(2, 2**n))
    or_effects[subset_sizes(n) < 2] = 0.0
    v = inverse_moebius(interactions) + inverse_or(or_effects)
    assert_literal(v, interactions, or_effects)
    assert_literal(v, interactions, or_effects, min_patterns=1, max_patterns=5, n_greedy=4)


def test_interactions_that_do_not_add_up_to_v():
    rng = np.random.default_rng(0)
    v = rng.normal(size=64)
    assert_literal(v, moebius(v + 0.1 * rng.normal(size=64)))


def test_everything_is_kept_where_there_is_little():
    v = np.random.default_rng(0).normal(size=8)
    result = denoise(v, moebius(v))
    assert result.kept.tolist() == list(range(8))
    assert result.kept.dtype == np.int64
    assert result.counts.tolist() == [8]
    assert result.square_error == pytest.approx(0.0, abs=1e-20)


def test_max_patterns_overrides_the_thresholds():
    v = np.random.default_rng(1).normal(size=256)
    result = denoise(v, moebius(v))
    assert len(result.kept) == 80
    assert result.square_error > 0.1
    free = denoise(v, moebius(v), max_patterns=256)
    assert len(free.kept) > 80
    assert free.explain_ratio > 0.95
    assert free.square_error < 0.1


def test_planted_patterns_survive():
    v = planted(10, seed=3, n_terms=6, noise=1e-4)
    strongest = np.argsort(-np.abs(moebius(v)))[:6]
    result = denoise(v, moebius(v), min_patterns=6)
    assert result.kept.tolist() == sorted(strongest)
    assert result.square_error < 1e-4


def test_where_no_state_is_within_the_thresholds_the_start_is_kept():
    v = 1e-9 * np.random.default_rng(2).normal(size=64)  # the guard of the ratio outweighs every effect
    assert len(denoise(v, moebius(v)).kept) == 64


def test_recorded_error_is_that_of_the_kept_patterns_after_thousands_of_updates():
    v = network(12, seed=4)
    interactions = moebius(v)
    result = denoise(v, interactions)
    kept = np.zeros_like(v)
    kept[result.kept] = interactions[result.kept]
    error = ((v - inverse_moebius(kept)) ** 2).sum() / (v @ v + 1e-7)
    assert result.square_error == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.zeros(8), np.zeros(4)), {}, r"interactions must have shape \(8,\), got \(4,\)"),
        ((np.zeros(8), np.zeros(8), np.zeros(16)), {}, r"or_interactions must have shape \(8,\), got \(16,\)"),
        ((np.zeros(6), np.zeros(6)), {}, r"2\^n entries, got shape \(6,\)"),
        (([0.0, np.nan], np.zeros(2)), {}, "v row 1 must be a finite number, got nan"),
        ((np.zeros(2), [np.inf, 0.0]), {}, "interactions row 0 must be a finite number, got inf"),
        (
            (np.zeros(4), np.zeros(4), [0.0, 1.0, 0.0, 0.0]),
            {},
            "or_interactions must be 0 for the empty set",
        ),
        ((np.zeros(4), np.zeros(4)), {"min_patterns": 90}, "min_patterns is 90, which is above max_patterns, 80"),
        ((np.zeros(4), np.zeros(4)), {"min_patterns": 0}, "min_patterns must be a whole number of at least 1, got 0"),
        ((np.zeros(4), np.zeros(4)), {"n_greedy": 2.5}, "n_greedy must be a whole number of at least 1, got 2.5"),
        ((np.zeros(4), np.zeros(4)), {"max_patterns": True}, "max_patterns must be a whole number"),
        ((np.zeros(4), np.zeros(4)), {"thres_explain_ratio": np.nan}, "thres_explain_ratio must be a finite number"),
        ((np.zeros(4), np.zeros(4)), {"thres_square_error": "x"}, "thres_square_error must be a finite number"),
    ],
)
def test_refuses(arguments, options, message):
    with pytest.raises(InputError, match=message):
        denoise(*arguments, **options)
