r"""Which concepts are more or less frequent, or weigh more or less, in one data set than in another.

| symbol | meaning |
|---|---|
| n, m | rows before and after |
| p, q | shares of the rows that name a concept |
| a, b | mean weights over all rows, those that do not name it included |

Share: q - p with Newcombe's interval (1998, method 10: Wilson's intervals of both, combined), and the two-sided p-value
of the pooled z test, or of Fisher's exact test, doubled, where less than EXPECTED rows would be expected to name the
concept in either. Weight: Cohen's d, (b - a) over the pooled deviation, with the interval of Hedges and Olkin (1985)
and the larger p-value of Welch's and of Student's test: Welch's breaks down where hardly any of few rows name a word.

Concepts that so few rows name that no outcome could be beyond chance are not tested (Tarone 1990, Gilbert 2005). All
other p-values are adjusted together by Benjamini and Hochberg (1995): where nothing has drifted, the chance that
anything is called drift is at most ALPHA. A concept has drifted if an adjusted p-value is below ALPHA and the effect
that it belongs to is not small: |q - p| of LEAST_SHARE or more, |d| of LEAST_EFFECT or more.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from conceptry.evaluation.drift.sums import ConceptSums
from conceptry.models.errors import InputError

ALPHA = 0.05
LEAST_SHARE, LEAST_EFFECT = 0.02, 0.1
EXPECTED = 10
_Z = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class Rule:
    """When a concept is said to have drifted."""

    alpha: float = ALPHA
    least_share: float = LEAST_SHARE
    least_effect: float = LEAST_EFFECT

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha must be between 0 and 1, got {self.alpha}")
        if not 0 <= self.least_share <= 1 or not 0 <= self.least_effect < np.inf:
            raise InputError("least_share must be from 0 to 1 and least_effect 0 or more")

    def __str__(self) -> str:
        return (
            f"adjusted p < {self.alpha:g}, and a share that changed by {self.least_share:.1%} or more or a mean weight "
            f"that moved by {self.least_effect:g} deviations or more"
        )


def compare_sums(before: ConceptSums, after: ConceptSums, rule: Rule | None = None) -> pd.DataFrame:
    """A row for each concept, those that have drifted first, the largest change of share first.

    Columns: concept, share_before, share_after, difference, low, high, weight_before, weight_after, effect, effect_low,
    effect_high, p_share, p_weight (adjusted, NaN where there is no test), drifted. Raises InputError where a data set
    has fewer than two answers, and for answers of two versions.
    """
    rule = rule or Rule()
    _check(before, after)
    concepts = sorted({*before.sums, *after.sums})
    one, other = before.of(concepts), after.of(concepts)
    tested = _testable(one[:, 0] + other[:, 0], before.rows, after.rows, rule.alpha)
    weighed = tested | (np.minimum(one[:, 0], other[:, 0]) >= EXPECTED)
    shares, weights = (
        _shares(one[:, 0], before.rows, other[:, 0], after.rows),
        _weights(one, before.rows, other, after.rows),
    )
    table = pd.DataFrame({"concept": concepts} | shares | weights)
    p_values = np.concatenate(
        [
            np.where(where, table[name].to_numpy(), np.nan)
            for where, name in ((tested, "p_share"), (weighed, "p_weight"))
        ]
    )
    known = ~np.isnan(p_values)
    if known.any():
        p_values[known] = stats.false_discovery_control(p_values[known], method="bh")
    table["p_share"], table["p_weight"] = np.split(p_values, 2)
    moved = (table["p_share"] < rule.alpha) & (table["difference"].abs() >= rule.least_share)
    weighs = (table["p_weight"] < rule.alpha) & (table["effect"].abs() >= rule.least_effect)
    table["drifted"] = moved | weighs
    order = np.lexsort((table["concept"], -table["difference"].abs(), ~table["drifted"]))
    return table.iloc[order].reset_index(drop=True)


def _check(before: ConceptSums, after: ConceptSums) -> None:
    for each in (before, after):
        if each.rows < 2:
            raise InputError(
                f"{each.name}: has {each.rows} answered rows; drift needs two at least, and better hundreds"
            )
    if before.method != after.method:
        raise InputError(f"{before.name} has answers of {before.method}, {after.name} of {after.method}")
    if len(versions := sorted(before.versions | after.versions)) > 1:
        names = sorted({name for name, _ in versions})
        if len(names) > 1:
            raise InputError(
                f"the answers are of {len(names)} versions, {', '.join(names[:3])}: what differs need not be the data; "
                "ask one version about both"
            )
        raise InputError(f"the answers of {names[0]} are to other parameters; ask it in the same way about both")


def _testable(named: np.ndarray, n: int, m: int, alpha: float) -> np.ndarray:
    """Concepts that could be beyond chance: the least p-value that `named` rows allow is alpha over their number."""
    count = named.astype(int)
    ends = (np.minimum(count, m), np.maximum(0, count - n))  # as many after as can be, and as few
    least = 2 * np.minimum(*(stats.hypergeom.pmf(end, n + m, count, m) for end in ends))
    ordered = np.sort(least)
    # The smallest k with at most k concepts whose least p-value is alpha / k or less; each has two tests.
    k = next((k for k in range(1, len(ordered) + 1) if (ordered <= alpha / (2 * k)).sum() <= k), len(ordered))
    return least <= alpha / (2 * max(k, 1))


def _shares(x: np.ndarray, n: int, y: np.ndarray, m: int) -> dict[str, np.ndarray]:
    p, q = x / n, y / m
    low_p, high_p = _wilson(p, n)
    low_q, high_q = _wilson(q, m)
    difference = q - p
    low = difference - np.sqrt((q - low_q) ** 2 + (high_p - p) ** 2)
    high = difference + np.sqrt((high_q - q) ** 2 + (p - low_p) ** 2)
    pooled = (x + y) / (n + m)
    scale = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    z = np.divide(difference, scale, out=np.zeros_like(difference), where=scale > 0)
    p_value = 2 * stats.norm.sf(np.abs(z))
    rare = np.minimum(pooled, 1 - pooled) * min(n, m) < EXPECTED
    if rare.any():
        given = (n + m, (x + y)[rare].astype(int), m)
        at = y[rare].astype(int)
        exact = 2 * np.minimum(stats.hypergeom.cdf(at, *given), stats.hypergeom.sf(at - 1, *given))
        p_value[rare] = np.minimum(1.0, exact)
    return {
        "share_before": p,
        "share_after": q,
        "difference": difference,
        "low": low,
        "high": high,
        "p_share": p_value,
    }


def _wilson(p: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    middle, half = p + _Z**2 / (2 * n), _Z * np.sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n))
    return (middle - half) / (1 + _Z**2 / n), (middle + half) / (1 + _Z**2 / n)


def _weights(one: np.ndarray, n: int, other: np.ndarray, m: int) -> dict[str, np.ndarray]:
    (a, of_a), (b, of_b) = _moments(one, n), _moments(other, m)
    pooled = np.sqrt(((n - 1) * of_a + (m - 1) * of_b) / (n + m - 2))
    # Weights that are all alike have no deviation; a millionth of them keeps d finite.
    d = (b - a) / np.maximum(pooled, 1e-6 * np.maximum(np.maximum(np.abs(a), np.abs(b)), 1e-300))
    half = _Z * np.sqrt(1 / n + 1 / m + d**2 / (2 * (n + m)))
    varies = pooled > 0
    p_value = np.where(a == b, 1.0, 0.0)
    if varies.any():
        ends = (a[varies], np.sqrt(of_a[varies]), n, b[varies], np.sqrt(of_b[varies]), m)
        welch, student = (stats.ttest_ind_from_stats(*ends, equal_var=equal).pvalue for equal in (False, True))
        p_value[varies] = np.maximum(welch, student)
    return {
        "weight_before": a,
        "weight_after": b,
        "effect": d,
        "effect_low": d - half,
        "effect_high": d + half,
        "p_weight": p_value,
    }


def _moments(sums: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over all n rows; a variance that is nothing but rounding is 0."""
    mean = sums[:, 1] / n
    squares = sums[:, 2] - n * mean**2
    return mean, np.where(squares > 1e-12 * sums[:, 2], squares, 0.0) / (n - 1)
