"""Intervals of means by the bootstrap over samples, and paired differences of two versions on the same samples.

Samples are drawn again with replacement, the same draws for every metric, so that the same table gives the same
figures. The interval runs between quantiles of the means of the draws (Efron 1979). A difference counts as beyond
chance where its interval leaves out 0 and enough samples differ for a sign test to notice: of fewer than six, all in
one direction, a coin would do as much once in twenty times.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

DRAWS, COVERAGE = 2000, 0.95
LEAST_DIFFERING = 6
_CHUNK = 2**22  # cells of the draws that are held at a time
SAMPLE = "sample"  # column of a table of samples that says which one; the others are metrics


@dataclass(frozen=True)
class Interval:
    """A mean over `count` samples, and the bounds of its interval."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Difference(Interval):
    """Paired difference of two versions, the first less the second: with the shares of samples where each is larger."""

    first_larger: float
    second_larger: float

    @property
    def beyond_chance(self) -> bool:
        """Whether chance does not explain it."""
        differing = round(self.count * (self.first_larger + self.second_larger))
        return differing >= LEAST_DIFFERING and not self.low <= 0 <= self.high

    @property
    def reversed(self) -> "Difference":
        """The second less the first."""
        return Difference(-self.mean, -self.high, -self.low, self.count, self.second_larger, self.first_larger)


def mean_intervals(samples: pd.DataFrame, seed: int = 0) -> dict[str, Interval]:
    """Interval of the mean of each metric of `samples`: a row for each, NaN where a metric says nothing of it."""
    metrics = _metrics(samples)
    if metrics.empty:
        return {}
    means, lows, highs, counts = _bootstrap(metrics.to_numpy(float), seed)
    every = zip(metrics.columns, means, lows, highs, counts, strict=True)
    return {str(name): Interval(float(m), float(lo), float(hi), int(n)) for name, m, lo, hi, n in every if n}


def paired_differences(first: pd.DataFrame, second: pd.DataFrame, seed: int = 0) -> dict[str, Difference]:
    """Difference of each metric that both tables have, over the samples that are in both."""
    one, other = (_metrics(each.set_index(SAMPLE, drop=False)) for each in (first, second))
    shared = [name for name in one.columns if name in other.columns]
    keys = one.index.intersection(other.index)
    if not shared or not len(keys):
        return {}
    values = one.loc[keys, shared].to_numpy(float) - other.loc[keys, shared].to_numpy(float)
    means, lows, highs, counts = _bootstrap(values, seed)
    found = {}
    for k, name in enumerate(shared):
        if n := int(counts[k]):
            larger, smaller = (values[:, k] > 0).sum() / n, (values[:, k] < 0).sum() / n
            found[str(name)] = Difference(
                float(means[k]), float(lows[k]), float(highs[k]), n, float(larger), float(smaller)
            )
    return found


def _metrics(samples: pd.DataFrame) -> pd.DataFrame:
    return samples.drop(columns=SAMPLE, errors="ignore").astype(float)


def _bootstrap(values: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means, lower and upper bounds, and counts of the columns of `values` (n, k), leaving out NaN."""
    n, rng = len(values), np.random.default_rng(np.random.SeedSequence([seed, 37]))
    known = ~np.isnan(values)
    counts = known.sum(axis=0)
    filled, weights = np.where(known, values, 0.0), known.astype(float)
    # How often each sample is drawn says all of a draw, and turns the means of many draws into one product.
    parts, step = [], max(1, _CHUNK // max(n, 1))
    for start in range(0, DRAWS, step):
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=min(step, DRAWS - start)).astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            parts.append((drawn @ filled) / (drawn @ weights))
    tail = (1 - COVERAGE) / 2
    means = np.concatenate(parts)
    bounds = np.full((2, values.shape[1]), np.nan)
    some = counts > 0
    bounds[:, some] = np.nanquantile(means[:, some], (tail, 1 - tail), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return filled.sum(axis=0) / counts, bounds[0], bounds[1], counts
