"""Games of more players than a table of all subsets could be written for, to measure sampling on.

| game | players | known terms |
|---|---|---|
| planted AND | n | 30 AND terms of 1 to 4 players |
| planted AND and OR | n | 20 AND terms of 1 to 4 players, 8 OR terms of 3 to 5 |
| planted AND, noise | n | 30 AND terms; noise of a tenth of their standard deviation, the same for the same mask |
| forest | columns of breast cancer | read off the trees |
| words | words of a review | none |
| noise | n | none: nothing to find |
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import ndtri

from conceptry.models.harsanyi.interactions.terms import Terms

Effects = dict[tuple[int, ...], float]  # of AND terms
NOISE = 0.1  # standard deviation, of that of the planted terms
REVIEW = (
    "This is a charming and often affecting film about two sisters who inherit a crumbling hotel by the sea and decide "
    "against all good advice to open it again for one last summer though the script leans on a few tired jokes and the "
    "ending is never in doubt the cast is superb and the photography gorgeous I left moved"
)


@dataclass(frozen=True)
class Game:
    """A game v: masks (m, n) bool -> (m,), and its terms in AND form, the empty one left out, where they are known.

    n_known: how many of the strongest count as known; None for all.
    """

    name: str
    n: int
    v: Callable[[np.ndarray], np.ndarray]
    known: Effects | None = None
    interactions: str = "and"
    n_known: int | None = None

    def precision(self, found: Effects, count: int = 10) -> float | None:
        """Share of the strongest terms found that are known ones; None where none are known."""
        if self.known is None:
            return None
        known = set(strongest(self.known, self.n_known or len(self.known)))
        best = strongest(found, min(count, len(known)))
        return sum(players in known for players in best) / min(count, len(known))


def strongest(effects: Effects, count: int) -> list[tuple[int, ...]]:
    """The players of the strongest terms, the empty one left out."""
    named = [players for players, effect in effects.items() if players and effect]
    return sorted(named, key=lambda players: (-abs(effects[players]), players))[:count]


def and_form(terms: Terms) -> Effects:
    """The AND terms of a game of AND and OR terms: an OR term of T is -(-1)^|U| of each U in T, U not empty."""
    effects: defaultdict[tuple[int, ...], float] = defaultdict(float, terms.and_terms)
    for players, effect in terms.or_terms.items():
        for size in range(1, len(players) + 1):
            for subset in combinations(players, size):
                effects[subset] -= (-1) ** size * effect
    return dict(effects)


def planted_terms(n: int, n_and: int = 30, n_or: int = 0, seed: int = 0) -> Terms:
    """AND terms of 1 to 4 players and OR terms of 3 to 5, with effects of absolute value 1 to 2."""
    g = np.random.default_rng([seed, n])
    found: tuple[Effects, Effects] = {}, {}
    for effects, count, least, most in ((found[0], n_and, 1, 4), (found[1], n_or, 3, 5)):
        while len(effects) < count:
            players = tuple(sorted(g.choice(n, g.integers(least, most + 1), replace=False).tolist()))
            effects[players] = float(g.choice([-1, 1]) * g.uniform(1, 2))
    return Terms.of(n, *found)


def noise(masks: np.ndarray, seed: int = 0) -> np.ndarray:
    """A normal number for each mask (m, n), always the same for it, that has nothing to do with those of others."""
    keys = np.random.default_rng([seed, masks.shape[1]]).integers(1, 2**63, masks.shape[1], dtype=np.uint64)
    z = np.bitwise_xor.reduce(np.where(masks, keys, np.uint64(seed)), axis=1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # the mixing of splitmix64
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    z ^= z >> np.uint64(31)
    return ndtri(((z >> np.uint64(11)) + 0.5) / 2.0**53)


def planted(n: int, n_or: int = 0, noisy: bool = False, seed: int = 0) -> Game:
    """A game of planted terms."""
    terms = planted_terms(n, 20 if n_or else 30, n_or, seed)
    name = "planted AND and OR" if n_or else "planted AND, noise" if noisy else "planted AND"
    spread = NOISE * float(terms.values(uniform_masks(1000, n, seed)).std()) if noisy else 0.0

    def v(masks: np.ndarray) -> np.ndarray:
        return terms.values(masks) + (spread * noise(masks, seed) if noisy else 0.0)

    return Game(f"{name}, n = {n}", n, v, and_form(terms), "and-or" if n_or else "and")


def uniform_masks(count: int, n: int, seed: int) -> np.ndarray:
    """Masks (count, n), each subset as likely as any other."""
    return np.random.default_rng([seed, n, 1]).random((count, n)) < 0.5


def forest() -> Game:
    """The probability of a random forest on breast cancer, columns masked by the mean; known are the exact ten."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import RandomForestClassifier

    from conceptry.models.harsanyi.trees.interactions import tree_interactions

    X, y = load_breast_cancer(return_X_y=True)
    model = RandomForestClassifier(100, random_state=0).fit(X, y)
    x, b = X[0], np.mean(X, axis=0)
    exact = tree_interactions(model, x, b)
    name = "forest on breast cancer, n = 30"
    return Game(name, 30, lambda masks: model.predict_proba(np.where(masks, x, b))[:, 1], exact.terms, n_known=10)


def words() -> Game:
    """The log-odds of the zoo's classifier of reviews, over a review whose 60 words are the players."""
    from conceptry.models.harsanyi.game import Reward, rewards_by_mask
    from conceptry.models.harsanyi.model import Harsanyi

    explainer = Harsanyi("zoo:movie-reviews", engine="sampled", device="cpu")
    problem = explainer.problem(REVIEW)
    v = rewards_by_mask(explainer.model, problem.maskers[0], Reward("log_odds"), 1)
    return Game(f"words of a review, n = {len(problem.players)}", len(problem.players), v)
