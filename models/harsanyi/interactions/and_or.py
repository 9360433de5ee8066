"""AND-OR interactions: split the rewards into an AND game and an OR game so that few interactions remain.

Li and Zhang, "Defining and Quantifying AND-OR Interactions for Faithful and Concise Explanation of DNNs", 2023,
arXiv:2304.13312; Chen, Lou, Huang, Zhang, "Defining and Extracting Generalizable Interaction Primitives from DNNs",
ICLR 2024, arXiv:2401.16318.

Objective, over all v_and + v_or = v:  min  sum_{S nonempty} |I_and(S)| + |I_or(S)|  with

    I_and(S) =  sum_{L subset S} (-1)^(|S|-|L|) v_and(L)      v_and(S) = sum_{T subset S} I_and(T)
    I_or(S)  = -sum_{L subset S} (-1)^(|S|-|L|) v_or(N \\ L)   v_or(S)  = sum_{T meets S} I_or(T), and v_or(empty)

| symbol | meaning | shape |
|---|---|---|
| v | rewards, shifted and scaled to v(empty) = 0 and max |v| = 1 | (2^n,) |
| a, b | I_and; coefficients of the patterns "S and T are disjoint", b_T = -I_or(T) | (2^n,) |
| H, D | [T subset S] and [S, T disjoint]: Kronecker powers of [[1,0],[1,1]] and [[1,1],[1,0]] | (2^n, 2^n) |
| R, s | orthogonal transform and slopes, see below | (2^n, 2^n), (2^n,) |
| gamma | step size | scalar |
| y | dual variable | (2^n,) |

Since [S meets T] = 1 - [S, T disjoint], and constants are free, this is the linear programme

    min ||a||_1 + ||b||_1  (empty set not counted)   subject to  H a + D b = v
    max v^T y   subject to  |H^T y| <= 1, |D^T y| <= 1, sum y = 0.

Solved by Douglas-Rachford splitting: soft thresholding of (a, b) by gamma, then projection onto the constraint.
The projection is cheap: with phi the golden ratio, for one player

    H^T P = R diag(phi, 1/phi),  D^T P = R J,   R = [[1, phi], [phi, -1]] / sqrt(1 + phi^2),  J = [[0, 1], [1, 0]]

for the P that diagonalises both H H^T = [[1,1],[1,2]] and D D^T = [[2,1],[1,1]]. R is symmetric and its own
inverse, all of it is Kronecker powers, and so the constraint is the 2^n separate equations

    s_k (R a)_k + (R b)_~k = w_k,   s_k = phi^(n - 2|k|),   ~k the complement of k.

An iteration costs 4 butterflies, O(n 2^n). The plain iteration is slow on linear programmes; this one is
reflected, averaged with the point where its epoch began (Halpern) and restarted from where it is whenever the
step became short enough, with gamma set to balance the distances that x and the subgradient travelled (as PDLP
does for its primal and dual steps; Lu and Yang, "Restarted Halpern PDHG for Linear Programming", 2024). The
certificate: b fixes a = H^-1 (v - D b) and a fixes b, both exactly feasible; the projection leaves a vector H^T
y, D^T y, which is centred and scaled until feasible.

The minimum is unique, the minimiser need not be. The columns of H and D satisfy one relation for each T of two or
more players, OR_T = sum over nonempty L subset T of (-1)^(|L|+1) AND_L. Moving along a combination of these is free
where the |weights| it lowers equal those it raises, which takes a solution with half of the combination's terms:

    AND_ij + OR_ij = x_i + x_j     x_i - AND_ij = OR_ij - x_j     x_k - AND_ik - AND_jk = OR_ijk - OR_ij - AND_ijk

Of such a tie any mixture may be returned; where the solution would hold more than half of a combination, a
shorter one exists. Both need terms that crowd on the same players: of 100 random games of six terms of two or
more players, the planted split was the one returned in 49, 91, 98, 100 and 100 at n = 4, 5, 6, 8 and 10, and
never a longer one.

Differences from the paper: the papers descend on p in v_and = v/2 + p by gradient steps; this ends with a
proof of how far from the minimum it is. Single players, for which AND and OR are the same, count as AND.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from conceptry.models.errors import ConvergenceWarning
from conceptry.models.harsanyi.interactions._checks import finite_number, real_array, whole_number
from conceptry.models.harsanyi.interactions.moebius import (
    finite_table,
    inverse_moebius,
    moebius,
    n_players,
    subset_sizes,
)

_CHECK_EVERY = 100  # iterations between certificates
_LONGEST = 0.36  # share of all iterations that an epoch may take before it is restarted
_FIRST_STEP = 0.02  # gamma, for max |v| = 1
_POLISHED = 128  # so many terms or fewer are refitted, their columns holding at most so many numbers:
_POLISHED_ENTRIES = 2**22
_DUST = (1e-3, 1e-6, 0.0)  # shares of the largest term up to which the others are left out, if v allows it
_ROUNDING = 1e-12  # of max |v|: a residual that counts as none


@dataclass(frozen=True, eq=False)
class AndOrSplit:
    """Rewards as `v(S) = v(empty) + sum_T i_and[T] [T subset S] + sum_T i_or[T] [S meets T]`, T nonempty.

    Attributes:
        i_and: (2^n,) AND interactions; row 0 is v(empty).
        i_or: (2^n,) OR interactions; 0 for the empty set and single players, which are counted in AND.
        l1: sum of |i_and| and |i_or|, the empty set excluded.
        gap: l1 is at most this far above the minimum over all splits.
        iterations: how many were made.
        converged: whether gap <= tolerance l1.
    """

    i_and: np.ndarray
    i_or: np.ndarray
    l1: float
    gap: float
    iterations: int
    converged: bool


def or_interactions(v: Any) -> np.ndarray:
    """OR interactions (..., 2^n) of a game that consists of them only; row 0 is v(empty), as for `moebius`."""
    v = real_array("v", v)
    n_players(v)
    result = -moebius(v[..., ::-1])
    result[..., 0] = v[..., 0]
    return result


def inverse_or(o: Any) -> np.ndarray:
    """Rewards (..., 2^n) of OR interactions, v(S) = o[0] + sum_{T meets S} o_T: the inverse of `or_interactions`."""
    o = real_array("o", o)
    by_absent = inverse_moebius(o)[..., ::-1]  # of each S, the sum over the T that miss it
    return by_absent[..., :1] - by_absent + o[..., :1]


def split(v: Any, tolerance: float = 1e-6, max_iterations: int = 20_000) -> AndOrSplit:
    """Split rewards into AND and OR interactions of minimal L1 norm.

    Args:
        v: (2^n,) rewards, finite.
        tolerance: on the duality gap, relative to the L1 norm.
        max_iterations: of the splitting method; each costs O(n 2^n).

    Returns:
        An AndOrSplit, which adds up to v but for rounding, converged or not.

    Raises:
        InputError: if v is no table of finite numbers or an option is out of range.

    Warns:
        ConvergenceWarning: if the gap did not reach the tolerance.
    """
    v = finite_table("v", v).copy()
    finite_number("tolerance", tolerance, above=0)
    whole_number("max_iterations", max_iterations, least=1)

    empty = v[0]
    v -= empty
    scale = float(np.abs(v).max())
    if scale == 0.0:
        return AndOrSplit(np.where(np.arange(len(v)) == 0, empty, 0.0), v, 0.0, 0.0, 0, True)
    v /= scale
    sizes = subset_sizes(n_players(v))
    problem = _Problem(v, sizes)
    iterations = problem.solve(tolerance, max_iterations)
    problem.polish()
    a, b = problem.best
    i_and, i_or = scale * a, scale * (0.0 - b)
    i_and[sizes == 1] += i_or[sizes == 1]
    i_or[sizes < 2] = 0.0
    i_and[0] = empty
    l1 = float(np.abs(i_and[1:]).sum() + np.abs(i_or).sum())
    gap = max(0.0, l1 - scale * problem.bound)
    converged = gap <= tolerance * l1
    if not converged:
        warnings.warn(
            f"the AND-OR split did not converge in {iterations} iterations: duality gap {gap / l1:.1e} of its L1 norm, "
            f"tolerance {tolerance:.1e}; raise max_iterations or tolerance",
            ConvergenceWarning,
            stacklevel=2,
        )
    return AndOrSplit(i_and, i_or, l1, gap, iterations, converged)


class _Problem:
    """The linear programme of one game, with the best feasible (a, b), its L1 norm and the best dual bound so far."""

    def __init__(self, v: np.ndarray, sizes: np.ndarray) -> None:
        self.v, self.sizes, self.n = v, sizes, n_players(v)
        self.interactions = moebius(v)
        self.best, self.l1, self.bound = np.stack([self.interactions, np.zeros_like(v)]), 0.0, 0.0
        self.l1 = _l1(self.best)
        self.sparse = np.zeros_like(self.best)  # the last (a, b) after thresholding, which misses v a little

    def solve(self, tolerance: float, max_iterations: int) -> int:
        """Improve `best` and `bound` until they agree to the tolerance; returns the iterations made."""
        from conceptry.models.harsanyi.interactions._kernels import (  # numba is slow to import
            GOLDEN,
            iterate,
            transform,
        )

        s = GOLDEN ** (self.n - 2.0 * self.sizes)
        w = self.interactions.copy()  # a feasible a, with b = 0, gives the right-hand sides
        transform(w, self.n)
        w *= s
        z, x, g, d, anchor, start, subgradient = (np.zeros_like(self.best) for _ in range(7))
        gamma, iterations, epoch = _FIRST_STEP, 0, np.zeros(3)
        while iterations < max_iterations and self.l1 - self.bound > tolerance * self.l1:
            steps, longest = min(_CHECK_EVERY, max_iterations - iterations), _LONGEST * iterations
            made, restart = iterate(z, anchor, x, g, d, s, w, self.n, gamma, epoch, steps, longest)
            iterations += made
            self._certify(x, g)
            if restart:
                end = (z - x) / gamma
                moved, turned = np.linalg.norm(x - start), np.linalg.norm(end - subgradient)
                if moved > 0.0 and turned > 0.0:
                    gamma = float(gamma * moved / turned) ** 0.5
                start, subgradient = x.copy(), end
                z = x + gamma * end
                anchor, epoch = z.copy(), np.zeros(3)
        return iterations

    def _certify(self, x: np.ndarray, g: np.ndarray) -> None:
        a, b = self.sparse = x.copy()
        self._propose(moebius(self.v - inverse_moebius(b)[::-1]), b)
        self._propose(a, moebius((self.v - inverse_moebius(a))[::-1]))
        g = g - g[:, :1] * 0.5**self.sizes  # H^T y and D^T y of the y that is centred
        self.bound = max(self.bound, float(self.interactions @ g[0]) / max(1.0, float(np.abs(g[:, 1:]).max())))

    def _propose(self, a: np.ndarray, b: np.ndarray) -> None:
        candidate = np.stack([a, b])
        l1 = _l1(candidate)
        if l1 < self.l1:
            self.best, self.l1 = candidate, l1

    def polish(self) -> None:
        """Refit few terms by least squares: where they explain v but for rounding, the others are none."""
        shared = np.where(self.sizes == 1, self.sparse[1], 0.0)  # single players are in a too, and -D_i = H_i - 1
        strength = np.abs(self.sparse - shared)
        strength[:, 0] = (np.inf, 0.0)
        for share in _DUST:
            kept = strength > share * strength[:, 1:].max()
            if kept.sum() <= min(_POLISHED, _POLISHED_ENTRIES // len(self.v)) and self._refit(kept):
                return

    def _refit(self, kept: np.ndarray) -> bool:
        subsets, (in_a, in_b) = np.arange(len(self.v))[:, None], map(np.flatnonzero, kept)
        columns = np.hstack([subsets & in_a == in_a, subsets & in_b == 0]).astype(np.float64)
        weights = np.linalg.lstsq(columns, self.v)[0]
        candidate = np.zeros_like(self.best)
        candidate[kept] = weights
        l1 = _l1(candidate)
        if np.abs(columns @ weights - self.v).max() > _ROUNDING or l1 > self.l1 * (1 + _ROUNDING):
            return False
        self.best, self.l1 = candidate, l1
        return True


def _l1(candidate: np.ndarray) -> float:
    return float(np.abs(candidate[:, 1:]).sum())
