"""Tests of concepts equal literal ones over the rows themselves; a planted change is found, and chance is not."""

from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from conceptry.evaluation.drift.comparison import EXPECTED, Rule, compare_sums
from conceptry.evaluation.drift.sums import ConceptSums
from conceptry.models.errors import InputError

Z = 1.959963984540054


def sums(rows: list[dict[str, float]], name: str = "data", version: str = "words/1") -> ConceptSums:
    found = ConceptSums(name, "splice", versions={(version, "f")})
    found.add([{"concept": word, "weight": weight} for word, weight in row.items()] for row in rows)
    return found


def drawn(shares: dict[str, float], count: int, seed: int, scale: float = 1.0) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    return [
        {w: scale * float(rng.uniform(0.1, 1)) for w, p in shares.items() if rng.random() < p} for _ in range(count)
    ]


def wilson(p: float, n: int) -> tuple[float, float]:
    half = Z * sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return (p + Z * Z / (2 * n) - half) / (1 + Z * Z / n), (p + Z * Z / (2 * n) + half) / (1 + Z * Z / n)


def exact(x: int, n: int, y: int, m: int) -> float:
    """Fisher's test, doubled, from binomial coefficients."""
    total = [comb(m, k) * comb(n, x + y - k) / comb(n + m, x + y) for k in range(x + y + 1)]
    return min(1.0, 2 * min(sum(total[: y + 1]), sum(total[y:])))


def test_every_number_is_that_of_the_rows() -> None:
    one = drawn({"red": 0.4, "train": 0.08, "rare": 0.02, "all": 1.0}, 120, 0)
    other = drawn({"red": 0.5, "train": 0.25, "new": 0.1, "all": 1.0}, 150, 1, scale=1.3)
    table = compare_sums(sums(one), sums(other)).set_index("concept")
    p_values = {}
    for word, row in table.iterrows():
        w, v = (np.array([each.get(word, 0.0) for each in rows]) for rows in (one, other))
        x, y, n, m = int((w > 0).sum()), int((v > 0).sum()), len(w), len(v)
        p, q = x / n, y / m
        (low_p, high_p), (low_q, high_q) = wilson(p, n), wilson(q, m)
        assert row["difference"] == pytest.approx(q - p)
        assert row["low"] == pytest.approx(q - p - sqrt((q - low_q) ** 2 + (high_p - p) ** 2))
        assert row["high"] == pytest.approx(q - p + sqrt((high_q - q) ** 2 + (p - low_p) ** 2))
        pooled = sqrt(((n - 1) * w.var(ddof=1) + (m - 1) * v.var(ddof=1)) / (n + m - 2))
        d = (v.mean() - w.mean()) / pooled
        half = Z * sqrt(1 / n + 1 / m + d * d / (2 * (n + m)))
        assert row[["effect", "effect_low", "effect_high"]].tolist() == pytest.approx([d, d - half, d + half])
        share = (x + y) / (n + m)
        if min(share, 1 - share) * min(n, m) < EXPECTED:
            first = exact(x, n, y, m)
        else:
            first = 2 * stats.norm.sf(abs(q - p) / sqrt(share * (1 - share) * (1 / n + 1 / m)))
        p_values[word, "p_share"] = first
        p_values[word, "p_weight"] = max(stats.ttest_ind(w, v, equal_var=equal).pvalue for equal in (False, True))
    tested = {key for key in p_values if not np.isnan(table.loc[key])}
    # No outcome of a word that a few rows name is beyond chance, nor one of the share of a word that all of them name.
    shares = {(word, "p_share") for word in ("red", "train", "new")}
    assert tested == shares | {(word, "p_weight") for word in ("red", "train", "new", "all")}
    family = sorted((value, key) for key, value in p_values.items() if key in tested)
    for place, (_, (word, column)) in enumerate(family):  # Benjamini and Hochberg, by their definition
        adjusted = min(value * len(family) / (k + 1) for k, (value, _) in enumerate(family) if k >= place)
        assert table.loc[word, column] == pytest.approx(min(1.0, adjusted))
    assert bool(table.loc["train", "drifted"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(20, 60), st.integers(20, 60))
def test_swapping_the_sides_swaps_the_signs(seed: int, n: int, m: int) -> None:
    one, other = drawn({"a": 0.3, "b": 0.6, "c": 0.05}, n, seed), drawn({"a": 0.7, "b": 0.6}, m, seed + 1)
    there, back = (
        compare_sums(*sides).set_index("concept").sort_index()
        for sides in ((sums(one), sums(other)), (sums(other), sums(one)))
    )
    for column, low, high in (("difference", "low", "high"), ("effect", "effect_low", "effect_high")):
        np.testing.assert_allclose(there[[column, low, high]], -back[[column, high, low]], atol=1e-9)
    np.testing.assert_allclose(there[["p_share", "p_weight"]], back[["p_share", "p_weight"]], atol=1e-9)
    assert ((there["low"] <= there["difference"]) & (there["difference"] <= there["high"])).all()


def test_what_is_alike_does_not_drift_and_what_is_small_is_not_drift() -> None:
    rows = drawn({f"word{k}": 0.1 + 0.02 * k for k in range(20)}, 400, 0)
    assert not compare_sums(sums(rows), sums(rows))["drifted"].any()
    shares = {f"w{k}": 0.2 for k in range(15)}
    pairs = [[sums(drawn(shares, 300, seed)) for seed in (2 * k, 2 * k + 1)] for k in range(40)]
    alike = [compare_sums(*pair) for pair in pairs]
    assert sum(bool(table["drifted"].any()) for table in alike) <= 5  # two are to be expected
    many, more = drawn({"red": 0.30}, 20_000, 0), drawn({"red": 0.315}, 20_000, 1)
    table = compare_sums(sums(many), sums(more))
    assert table["p_share"][0] < 0.05
    assert not table["drifted"][0]  # beyond chance, and too small to matter
    assert compare_sums(sums(many), sums(more), Rule(least_share=0.01))["drifted"][0]


@pytest.mark.parametrize(("n", "m"), [(3000, 40), (40, 3000), (2000, 200)])
def test_sides_of_unlike_sizes_that_are_alike_do_not_drift(n: int, m: int) -> None:
    shares = {f"w{k}": 0.4 / (k + 1) for k in range(40)}
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(15):
        sides = []
        for count in (n, m):
            has = rng.random((count, len(shares))) < list(shares.values())
            weights = np.where(has, rng.uniform(0.1, 1, has.shape), 0.0)
            each = zip(has.sum(axis=0), weights.sum(axis=0), (weights**2).sum(axis=0), strict=True)
            named = {word: np.array(s, dtype=float) for word, s in zip(shares, each, strict=True) if s[0]}
            sides.append(ConceptSums("data", "splice", count, 0, {("words/1", "f")}, named))
        found += bool(compare_sums(*sides)["drifted"].any())
    assert found <= 3  # one is to be expected


def test_weights_that_never_vary_are_compared_too() -> None:
    before, same, heavier = ([{"red": weight}] * 30 for weight in (0.3, 0.3, 0.5))
    assert not compare_sums(sums(before), sums(same))["drifted"].any()
    table = compare_sums(sums(before), sums(heavier))
    assert table["drifted"].all()
    assert np.isfinite(table["effect"]).all()


def test_what_cannot_be_compared_is_refused() -> None:
    rows = [{"red": 0.5}] * 3
    patterns = ConceptSums("rows", "harsanyi", rows=5, versions={("words/1", "f")})
    for sides, sentence in (
        ((sums(rows[:1], "few"), sums(rows)), "few: has 1 answered rows; drift needs two at least"),
        ((sums(rows), patterns), "data has answers of splice, rows of harsanyi"),
        (
            (sums(rows), sums(rows, version="words/2")),
            r"the answers are of 2 versions, words/1, words/2: .*ask one version",
        ),
    ):
        with pytest.raises(InputError, match=sentence):
            compare_sums(*sides)
    with pytest.raises(InputError, match="alpha must be between 0 and 1, got 1"):
        Rule(alpha=1.0)
    with pytest.raises(InputError, match="least_effect 0 or more"):
        Rule(least_effect=float("nan"))
