"""Terms of a game one after the other: orthogonal matching pursuit over all conjunctions, found by a beam.

Pati, Rezaiifar, Krishnaprasad, "Orthogonal matching pursuit", 1993.

    minimise  sum over masks of (v - sum_k w_k a_k)^2   over few terms k,

| symbol | meaning | shape |
|---|---|---|
| Z | masks; of the OR terms 1 - Z, for an OR term is 1 - prod (1 - z_i) | (m, n) |
| v | their rewards | (m,) |
| a_T | prod over T of z_i, the column of the AND term T | (m,) |
| r | v less the fit, orthogonal to the columns of all terms so far | (m,) |
| A, w | columns of the terms, and effects | (m, k), (k,) |

A term T not yet taken lessens the squared error by at least  s(T) = <r, a_T>^2 / ||a_T - mean a_T||^2.  All s of one
and two players are one product Z^T diag(r) Z. Those of larger sets come from the best of the sets before: with one more
player each, the best `BEAM` of all go on to the next size. Then a few of the best, which must not be near copies of
one another, are taken, w is solved for anew, and so on, which lets terms that were first taken for others fall to 0.

The number of terms is the one with the least error on the validation masks, to which w is not fitted. Then w is
solved for on all masks, and terms whose effects could be chance (BIC) are dropped.
"""

from dataclasses import dataclass, field

import numpy as np

BEAM = 48
MOST_PLAYERS = 6  # of a term
MOST_TERMS = 400  # besides the single players
_AT_ONCE = 6  # terms taken in a step
_SINGLY, _MOST_ENTRIES = 80, 2**21  # terms taken one by one where that is not enough, unless Z has more entries
_NEAR_BEST = 0.3  # of the best s: terms below it wait for the next step
_ALIKE = 0.5  # correlation above which two candidates may stand for one term
_NOT_SPARSE = 120  # terms besides the start from which on a better search is not worth its time
_PATIENCE = 48  # terms without a gain
_PASSES, _WORTH = 3, 0.98  # how often to begin anew at most, and the error of the last that is worth another
_LEAST_SEEN = 5  # masks on which a term is present, and on which it is not
_RIDGE = 1e-9  # relative, for columns that are equal on all masks
_EXACT = 1e-20  # of the variance: a squared error that is rounding
_SEARCHED = 2**23  # entries of Z among which terms are looked for, at most; more masks only serve to solve for w

Term = tuple[tuple[int, ...], bool]  # players, and whether it is an OR term


def column(rows: np.ndarray, term: Term) -> np.ndarray:
    """Presence of a term (m,) in masks given by player, (n, m) float32."""
    players, is_or = term
    if not players:
        return np.ones(rows.shape[1], np.float32)
    chosen = rows[list(players)]
    return chosen.max(axis=0) if is_or else chosen.min(axis=0)


@dataclass
class Least:
    """Least squares that grows by columns."""

    y: np.ndarray
    A: np.ndarray = field(init=False)
    gram: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.A = np.empty((len(self.y), 0))
        self.gram = np.empty((0, 0))

    def add(self, columns: np.ndarray) -> None:
        cross = self.A.T @ columns
        self.gram = np.block([[self.gram, cross], [cross.T, columns.T @ columns]])
        self.A = np.hstack([self.A, columns])

    def solve(self, chosen: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Effects of the chosen columns; refined once, so that the ridge leaves no trace where columns differ."""
        from scipy.linalg import cho_factor, cho_solve

        A, gram = self.A[:, chosen], self.gram[chosen][:, chosen]
        factor = cho_factor(gram + _RIDGE * np.diag(np.diag(gram)) + 1e-300 * np.eye(len(gram)))
        w = cho_solve(factor, A.T @ self.y)
        for _ in range(2):
            w += cho_solve(factor, A.T @ (self.y - A @ w))
        return w


class Beam:
    """The search for conjunctions that correlate with a residual, over columns Z (m, n) float32."""

    def __init__(self, Z: np.ndarray) -> None:
        self.Z, self.rows = Z, np.ascontiguousarray(Z.T)
        self.counts = self.rows @ Z

    def search(self, r: np.ndarray) -> dict[tuple[int, ...], float]:
        """s of the best sets of each size; r (m,) float32."""
        n = self.Z.shape[1]
        scores = np.triu(self._scores((self.rows * r) @ self.Z, self.counts)).ravel()
        best = {tuple(sorted({int(k) // n, int(k) % n})): float(scores[k]) for k in _largest(scores, BEAM)}
        frontier = list(best)
        for _ in range(2, MOST_PLAYERS):
            if not frontier:
                break
            present = np.stack([self.rows[list(players)].min(axis=0) for players in frontier])
            scores = self._scores((present * r) @ self.Z, present @ self.Z)
            for k, players in enumerate(frontier):
                scores[k, list(players)] = 0
                scores[k, scores[k] < 0.6 * best[players]] = 0
            flat = scores.ravel()
            grown: dict[tuple[int, ...], float] = {}
            for k in _largest(flat, 2 * BEAM):  # a set is found from several of its parts
                players = tuple(sorted((*frontier[k // n], int(k % n))))
                if players not in best and len(grown) < BEAM:
                    grown.setdefault(players, float(flat[k]))
            best.update(grown)
            frontier = list(grown)
        return best

    def _scores(self, products: np.ndarray, counts: np.ndarray) -> np.ndarray:
        m = len(self.Z)
        products, counts = products.astype(np.float64), counts.astype(np.float64)
        seen = (counts >= _LEAST_SEEN) & (counts <= m - _LEAST_SEEN)
        return np.where(seen, products**2 / np.where(seen, counts * (1 - counts / m), 1.0), 0.0)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the largest positive values, the largest first, of equals the first index."""
    if count < len(values):
        least = np.partition(values, len(values) - count)[len(values) - count]
        chosen = np.flatnonzero(values >= max(least, np.finfo(np.float64).tiny))
    else:
        chosen = np.flatnonzero(values > 0)
    return chosen[np.argsort(-values[chosen], kind="stable")][:count]


@dataclass(frozen=True)
class Pursued:
    """Terms in the order found, up to the best number of them, and the squared error on the validation masks."""

    terms: list[Term]
    effects: np.ndarray  # on the masks that are not for validation
    error: float


def pursue(Z: np.ndarray, v: np.ndarray, validation: np.ndarray, or_terms: bool, singles: bool) -> Pursued:
    """The pursuit on masks Z (m, n) bool with rewards v (m,), of which `validation` (m,) bool choose the number.

    Unless the game has turned out not to be sparse, it begins anew, with those of its terms that could not be chance,
    as long as that lessens the error: terms that stood for others are in the way of the search no more.

    singles: take all single players at the start; where masks are few they join as they are found.
    """
    search = _Search(Z, v, validation, or_terms)
    start: list[Term] = [((), False), *(((i,), False) for i in range(Z.shape[1]) if singles)]
    best = search.run(start, _AT_ONCE, MOST_TERMS)
    if len(best.terms) - len(start) > _NOT_SPARSE:
        return best
    if best.error > search.exact and Z.size <= _MOST_ENTRIES:
        best = min(search.run(start, 1, _SINGLY), best, key=lambda pursued: pursued.error)
    for _ in range(_PASSES):
        if best.error <= search.exact:
            break
        kept, _ = refit(Z[~validation], v[~validation], best.terms)
        at_once = 1 if len(kept) <= _SINGLY and Z.size <= _MOST_ENTRIES else _AT_ONCE
        again = search.run(kept, at_once, MOST_TERMS)
        if again.error > _WORTH * best.error:
            break
        best = again
    return best


class _Search:
    """The masks of a pursuit: fitted, judged by, and searched."""

    def __init__(self, Z: np.ndarray, v: np.ndarray, validation: np.ndarray, or_terms: bool) -> None:
        fitted = Z[~validation].astype(np.float32)
        self.rows = np.ascontiguousarray(fitted.T)
        self.judged = np.ascontiguousarray(Z[validation].T.astype(np.float32))
        self.y, self.y_judged = v[~validation], v[validation]
        self.searched = min(len(fitted), max(2048, _SEARCHED // Z.shape[1]))
        self.beams = [(False, Beam(fitted[: self.searched]))]
        if or_terms:
            self.beams.append((True, Beam(1 - fitted[: self.searched])))
        self.scale = max(float(v.var()), np.finfo(np.float64).tiny)
        self.exact = _EXACT * self.scale

    def run(self, start: list[Term], at_once: int, most: int) -> Pursued:
        """Take `most` terms at most, after those of the start, until the error has not fallen for long."""
        least, judged = Least(self.y), np.empty((len(self.y_judged), 0))
        terms, new = [], start
        most = min(len(self.y) // 3, len(start) + most)
        best = Pursued([], np.empty(0), np.inf)
        while True:
            terms = terms + new
            least.add(_columns(self.rows, new))
            judged = np.hstack([judged, _columns(self.judged, new)])
            w = least.solve()
            r = self.y - least.A @ w
            error = float(((self.y_judged - judged @ w) ** 2).mean())
            if error < 0.999 * best.error:
                best = Pursued(terms, w, error)
            finished = max(error, float((r * r).mean())) <= self.exact
            if finished or len(terms) >= most or len(terms) - len(best.terms) >= _PATIENCE:
                return best
            r = (r[: self.searched] / np.sqrt(self.scale)).astype(np.float32)
            found = _candidates(self.beams, r, set(terms))
            if not found:
                return best
            new = _unlike(found, self.rows[:, : self.searched], at_once)


def _columns(rows: np.ndarray, terms: list[Term]) -> np.ndarray:
    return np.stack([column(rows, term) for term in terms], axis=1).astype(np.float64)


def _candidates(beams: list[tuple[bool, Beam]], r: np.ndarray, taken: set[Term]) -> list[tuple[float, Term]]:
    found = [
        (score, (players, is_or and len(players) > 1))
        for is_or, beam in beams
        for players, score in beam.search(r).items()
        if not (is_or and len(players) < 2) and (players, is_or) not in taken
    ]
    return sorted(found, key=lambda pair: (-pair[0], pair[1]))


def _unlike(found: list[tuple[float, Term]], rows: np.ndarray, at_most: int) -> list[Term]:
    """The best candidates, `at_most`, no two of which are much alike."""
    chosen: list[Term] = []
    columns: list[np.ndarray] = []
    for score, term in found:
        if score < _NEAR_BEST * found[0][0] or len(chosen) == at_most:
            break
        x = column(rows, term)
        x = x - x.mean()
        x /= np.linalg.norm(x)
        if all(abs(float(x @ other)) < _ALIKE for other in columns):
            chosen.append(term)
            columns.append(x)
    return chosen


def refit(Z: np.ndarray, v: np.ndarray, terms: list[Term]) -> tuple[list[Term], np.ndarray]:
    """Effects of the terms on all masks, without those that could be chance by BIC; () stays."""
    rows = np.ascontiguousarray(Z.T.astype(np.float32))
    least = Least(v)
    least.add(_columns(rows, terms))
    m, live = len(v), np.arange(len(terms))
    rounding = 1e-18 * max(float(v.var()), np.finfo(np.float64).tiny)
    while True:
        w = least.solve(live)
        noise = max(float(((v - least.A[:, live] @ w) ** 2).sum()) / max(m - len(live), 1), rounding)
        gram = least.gram[np.ix_(live, live)]
        inverse = np.linalg.inv(gram + _RIDGE * np.diag(np.diag(gram)))
        gains = w**2 / np.diag(inverse) / noise
        gains[live == 0] = np.inf
        weak = np.flatnonzero(gains < np.log(m))
        if not len(weak):
            return [terms[k] for k in live], w
        weak = weak[np.argsort(gains[weak], kind="stable")][: max(1, len(weak) // 3)]
        live = np.delete(live, weak)
