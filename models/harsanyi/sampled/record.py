"""The terms of a sampled game, and how far they are to be believed: R2 on masks kept apart, with its interval.

    R2 = 1 - mean (v - f)^2 / mean (v - mean v)^2     f the sum of the terms; means over all subsets, each as likely

The held-out masks are a sample of these subsets. The interval is that of  L = log(1 - R2),  whose estimate from h masks
varies, by the delta method, with the standard deviation of  e_i^2 / mean e^2 - d_i^2 / mean d^2,  over sqrt(h), where e
is v - f and d is v - mean v. It is made wider than normal by `WIDTH`, for squared errors have long tails, of which few
masks show little, and by WIDTH^2 / h for what the mean of v itself varies, which is all there is where f is constant.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from conceptry.models.harsanyi.interactions.terms import Terms
from conceptry.models.harsanyi.sampled.masks import unpacked

WIDTH = 2.6  # standard deviations to each side; measured to hold the true R2 in 95 of 100 repeats and more
_ROUNDING = 1e-24  # of the mean square of v


@dataclass(frozen=True, eq=False)
class SampledInteractions:
    """Sparse interactions of a game that was asked for a budget of rewards.

    Attributes:
        sparse: the terms, with what follows from them in closed form (`Terms`).
        r2: share of the variance of v over uniformly drawn masks that the terms explain, from masks that nothing was
            fitted to or chosen by. 1 where all subsets were asked, for the terms are then v itself.
        r2_interval: (low, high), where the r2 of all subsets lies, with a confidence of 95 %.
        min_r2: the least r2 that is to be believed.
        calls: number of masks that v was asked for, held-out ones included.
        v_full: v of all players; v_empty: of none. Both were asked.
        exact: whether all subsets were asked, so that the terms are the interactions themselves.
        bits: (calls, ceil(n / 8)) uint8, the masks as `numpy.packbits` writes them; rewards: (calls,), their v.
        held_out: (calls,) bool, which of them r2 is from.
    """

    sparse: Terms
    r2: float
    r2_interval: tuple[float, float]
    min_r2: float
    v_full: float
    v_empty: float
    exact: bool
    bits: np.ndarray
    rewards: np.ndarray
    held_out: np.ndarray

    @property
    def n(self) -> int:
        """Number of players."""
        return self.sparse.n

    @property
    def calls(self) -> int:
        """Number of masks that v was asked for, held-out ones included."""
        return len(self.rewards)

    @property
    def terms(self) -> dict[tuple[int, ...], float]:
        """Effects of the AND terms by their players; () is the empty set."""
        return self.sparse.and_terms

    @property
    def or_terms(self) -> dict[tuple[int, ...], float]:
        """Effects of the OR terms by their players."""
        return self.sparse.or_terms

    @property
    def believable(self) -> bool:
        """Whether the whole interval of r2 lies at or above min_r2."""
        return self.r2_interval[0] >= self.min_r2

    @cached_property
    def residual(self) -> float:
        """The largest |v - sum of the terms| of the masks that were asked, over the largest |v|."""
        errors = np.abs(self.rewards - self.sparse.values(unpacked(self.bits, self.n)))
        return float(errors.max() / (np.abs(self.rewards).max() or 1.0))

    @cached_property
    def residuals(self) -> tuple[float, float]:
        """v less the sum of the terms, with all players and with none: 0 where the terms are exact.

        The terms are fitted to masks that are mostly far from both, so this is what they leave unsaid of them.
        """
        masks = np.array([[True] * self.n, [False] * self.n])
        full, empty = (np.array([self.v_full, self.v_empty]) - self.sparse.values(masks)).tolist()
        return full, empty


def r2_of(v: np.ndarray, f: np.ndarray) -> tuple[float, tuple[float, float]]:
    """R2 of the values f (h,) for the rewards v (h,), and its interval.

    Rewards that are all equal leave nothing to explain: R2 is 1 where f is equal to them, else 0.
    """
    e, d = (v - f) ** 2, (v - v.mean()) ** 2
    rounding = _ROUNDING * max(float((v**2).mean()), np.finfo(np.float64).tiny)
    if d.mean() <= rounding:
        r2 = float(e.mean() <= rounding)
        return r2, (r2, r2)
    if e.mean() <= rounding:
        return 1.0, (1.0, 1.0)
    log = np.log(e.mean() / d.mean())
    spread = WIDTH * float(np.std(e / e.mean() - d / d.mean(), ddof=1)) / np.sqrt(len(v))
    spread += WIDTH**2 / len(v)
    return float(1 - np.exp(log)), (float(1 - np.exp(log + spread)), float(1 - np.exp(log - spread)))
