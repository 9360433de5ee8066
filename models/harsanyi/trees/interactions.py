r"""Interactions of tree ensembles, exactly, of any number of players.

Player j is present where its columns hold the sample x, absent where they hold the baseline b. At a node that splits on
a column of j, x goes one way and b the same or the other. Where they part, j must be present along x's branch (j joins
E), and absent along b's (j joins R); a j that is in E follows x from there on, one in R follows b. A leaf of value w
that is reached with (E, R) contributes

    w prod_{j in E} z_j prod_{j in R} (1 - z_j)      to v(z), z_j = 1 where j is present,
    (-1)^|T| w                                       to I(E + T), for every T in R.

So the sum of all I is f(x), and I(empty) is f(b). To the Shapley values the leaf gives, without its 2^|R| terms,

    w (|E| - 1)! |R|! / (|E| + |R|)! for each j in E,      -w |E|! (|R| - 1)! / (|E| + |R|)! for each j in R.

Several baselines average: the mean of each term has Shapley values that are the interventional ones of TreeSHAP, and
its standard deviation says how far it hangs on the choice.

| symbol | meaning | shape |
|---|---|---|
| n | number of players | scalar |
| x, b | features of the sample, of a baseline | (features,) |
| owner | the player of each feature, BACKGROUND for one that keeps x | (features,) |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.interactions.terms import Terms
from conceptry.models.harsanyi.maskers.base import check_players, distinct, owners, partition
from conceptry.models.harsanyi.trees.ensemble import Ensemble
from conceptry.models.harsanyi.trees.model import TreeModel
from conceptry.models.harsanyi.trees.reading import read
from conceptry.models.harsanyi.trees.tables import joint_table

MOST_ABSENT = 24  # players of R: 2^24 terms of one leaf
MOST_STEPS = 2**28  # terms of all leaves, a few seconds
MOST_TERMS = 2**23  # different ones, about 1 GiB
_ROUNDING = 16 * np.finfo(np.float64).eps
_WAY_OUT = "group columns, so that there are fewer players, or use the sampled engine"

Players = Mapping[str, Sequence[str | int]] | Sequence[Sequence[str | int]] | None


@dataclass(frozen=True, eq=False)
class TreeInteractions:
    """Interactions of a sample.

    Its terms are written down when they are first asked for: Shapley values come straight from the leaves.

    Attributes:
        players: names of the n players, by their first column.
        value: the estimator's own output for the sample, which the terms add up to.
        baseline_value: its own output for the baseline, the mean of several; the term of the empty set.
        target: the class that is explained, None for a regressor.
        output: what is explained: "probability", "margin" (the raw score: log-odds of two classes, or the logarithm
            under a logarithmic link) or "value".
        n_baselines: number of rows of the baseline.
    """

    players: tuple[str, ...]
    value: float
    baseline_value: float
    target: Any
    output: str
    n_baselines: int
    _shapley: np.ndarray = field(repr=False)
    _game: "_Game" = field(repr=False)
    _claim: "_Claim" = field(repr=False)

    @cached_property
    def _expanded(self) -> tuple[Terms, np.ndarray]:
        terms, spreads = terms_of(*self._game)
        self._claim.check(float(terms.effects.sum()), float(terms.effects[0]))
        return terms, spreads

    @property
    def sparse(self) -> Terms:
        """The terms; of several baselines, their means."""
        return self._expanded[0]

    @property
    def spreads(self) -> np.ndarray:
        """Standard deviation of each term over the baselines, (terms,), 0 for one."""
        return self._expanded[1]

    @property
    def terms(self) -> dict[tuple[int, ...], float]:
        """Effects by numbers of players, ascending; () is the empty set. Terms that are not here are 0."""
        return self.sparse.and_terms

    @cached_property
    def spread(self) -> dict[tuple[int, ...], float]:
        """Standard deviation of each term over the baselines, by numbers of players."""
        return dict(zip(self.sparse.sets(), self.spreads.tolist(), strict=True))

    def shapley_values(self) -> np.ndarray:
        """Shapley values (n,); they add up to `value` - `baseline_value`."""
        return self._shapley.copy()

    def shapley_interactions(self, order: int = 2) -> dict[tuple[int, ...], float]:
        """Shapley interaction indices of the sets of `order` players that share a term; those of all others are 0."""
        return self.sparse.shapley_interactions(order)


def tree_interactions(
    estimator: Any,
    sample: Any,
    baseline: Any,
    players: Players = None,
    *,
    target: Any = None,
    output: str | None = None,
) -> TreeInteractions:
    """Harsanyi interactions of a tree ensemble for one sample, exactly, of any number of columns.

    Args:
        estimator: a fitted tree, forest, boosted ensemble, average or pipeline of them, of scikit-learn, XGBoost,
            LightGBM or CatBoost; or what `read_trees` made of one, to explain many samples.
        sample: values of the columns in their order, or one row as a table, Series or dictionary.
        baseline: as the sample, or several such rows, of which each term is averaged.
        players: groups of columns that form a player together, {name: columns} or a list of them, columns by name or
            number; every other column is a player of its own.
        target: a class, by its label or, where labels are not numbers, by its number; by default the second one of two,
            and the one predicted for the sample of more.
        output: what is explained: of forests and single trees "probability", of boosted classifiers and of regressors
            under a logarithmic link "margin", of other regressors "value", which are the defaults.

    Raises:
        InputError: where the estimator, its output or the target cannot be explained exactly; where sample, baseline or
            players do not fit its columns; where there would be too many terms; where the terms do not add up to the
            estimator's own outputs.

    Example:
        >>> from sklearn.tree import DecisionTreeRegressor
        >>> tree = DecisionTreeRegressor().fit([[0, 0], [0, 1], [1, 0], [1, 1]], [1, 1, 1, 4])
        >>> found = tree_interactions(tree, [1, 1], [0, 0])
        >>> found.terms
        {(): 1.0, (0, 1): 3.0}
        >>> found.shapley_values().tolist()
        [1.5, 1.5]
    """
    model = estimator if isinstance(estimator, TreeModel) else read(estimator, output)
    table, columns = joint_table(sample, baseline, model)
    names, owner = _players(players, columns)
    owner = model.feature_owners(owner)
    try:
        given = model.given(table)
        own = model.predict(given)
        rows = model.encode(given)
    except InputError:
        raise
    except Exception as error:  # of whatever kind the library raises for what it cannot take
        raise InputError(f"{model.kind} does not take the sample and the baseline: {error}") from None
    chosen, label = _target(model, target, own[0])
    sign = -1.0 if chosen == 0 and model.classes is not None and model.n_outputs == 1 else 1.0
    chosen = min(chosen, model.n_outputs - 1)
    own = sign * own[:, chosen]
    value, baseline_value = float(own[0]), float(own[1:].mean())
    game = _Game(model.ensemble(chosen, sign), rows[0], rows[1:], owner, len(names))
    leaves = leaf_sums(*game)
    most = model.tolerance * max(leaves.scale, abs(value), abs(baseline_value))
    claim = _Claim(model.kind, model.output, value, baseline_value, most)
    found = TreeInteractions(
        names, value, baseline_value, label, model.output, len(rows) - 1, leaves.shapley, game, claim
    )
    if leaves.most_absent > MOST_ABSENT or leaves.steps > min(MOST_STEPS, MOST_TERMS):
        _ = found.sparse  # refused now, and not when they are asked for
    claim.check(leaves.full, leaves.empty)
    return found


class _Game(NamedTuple):
    """What `terms_of` takes."""

    ensemble: Ensemble
    x: np.ndarray
    baselines: np.ndarray
    owner: np.ndarray
    n: int


class _Claim(NamedTuple):
    """What the estimator itself says, and how far the sums of terms may be from it."""

    kind: str
    output: str
    value: float
    baseline_value: float
    most: float

    def check(self, full: float, empty: float) -> None:
        """Raise InputError where the sum of all terms, or the empty one, is another number."""
        for what, total, expected in (("sample", full, self.value), ("baseline", empty, self.baseline_value)):
            if not abs(total - expected) <= self.most:
                raise InputError(
                    f"the terms read from {self.kind} give {total!r} for the {what}, and its own {self.output} is "
                    f"{expected!r}; its trees are read wrongly, so use another engine"
                )


class LeafSums(NamedTuple):
    """What adds up over leaves, without their terms.

    Attributes:
        shapley: (n,) Shapley values; full, empty: v of all players, and of none; all three means over baselines.
        scale: the size of the numbers that are added up for one row, in absolute value, at most.
        most_absent: players of the largest R. steps: terms of all leaves.
    """

    shapley: np.ndarray
    full: float
    empty: float
    scale: float
    most_absent: int
    steps: float


def leaf_sums(ensemble: Ensemble, x: np.ndarray, baselines: np.ndarray, owner: np.ndarray, n: int) -> LeafSums:
    """Sums over the leaves that a sample and baselines share; arguments as in `terms_of`."""
    from conceptry.models.harsanyi.trees._kernels import shared  # numba is slow to import

    base = ensemble.base
    x, baselines = np.ascontiguousarray(x), np.ascontiguousarray(baselines)
    trees = ensemble.nodes, ensemble.words, ensemble.roots, np.asarray(owner, np.int32)
    phi, full, empty, scale, most_absent, steps = shared(*trees, x, baselines, n)
    return LeafSums(phi, full + base, empty + base, scale + abs(base), most_absent, steps)


def terms_of(
    ensemble: Ensemble, x: np.ndarray, baselines: np.ndarray, owner: np.ndarray, n: int
) -> tuple[Terms, np.ndarray]:
    """The terms of a sample, averaged over baselines, and their standard deviations.

    x: (features,), baselines: (rows, features), owner: (features,) of numbers below n or BACKGROUND.

    A term that is 0 up to the rounding of its own sum is left out; the one of the empty set stays. Terms are by size.
    Raises InputError where there would be too many.
    """
    keys = np.random.default_rng(0).integers(0, 2**64 - 1, 2 * n, np.uint64, endpoint=True)
    singles = (_of_one(ensemble, owner, x, baseline, keys, n) for baseline in baselines)
    if len(baselines) == 1:
        members, offsets, effects = next(singles)
        spreads = np.zeros(len(effects))
    else:
        members, offsets, effects, spreads = _average(singles, keys, n, len(baselines))
    terms = Terms(n, members, offsets, effects, np.zeros(len(effects), bool))
    order = np.argsort(terms.sizes, kind="stable")
    return terms.chosen(order), spreads[order]


def _of_one(ensemble, owner, x, baseline, keys, n) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from conceptry.models.harsanyi.trees._kernels import expanded, reached_leaves  # numba is slow to import

    x, baseline = np.ascontiguousarray(x), np.ascontiguousarray(baseline)
    trees = ensemble.nodes, ensemble.words, ensemble.roots, np.asarray(owner, np.int32)
    codes, starts, weights = reached_leaves(*trees, x, baseline, keys, n)
    before: Any = np.append(0, np.cumsum(codes >= n))  # codes of absent players, up to each place
    absent = before[starts[1:]] - before[starts[:-1]]
    if (most := int(absent.max(initial=0))) > MOST_ABSENT:
        raise InputError(f"a leaf hangs on the absence of {most} players, and the limit is {MOST_ABSENT}; {_WAY_OUT}")
    if (steps := int((1 << absent).sum())) > MOST_STEPS:
        raise InputError(f"the leaves have {steps:,} terms, and the limit is {MOST_STEPS:,}; {_WAY_OUT}")
    members, offsets, effects, masses = expanded(codes, starts, weights, keys, n, MOST_TERMS)
    if len(weights) and not len(effects):
        raise InputError(f"there are more than {MOST_TERMS:,} different terms, which is the limit; {_WAY_OUT}")
    terms = Terms(n, members, offsets, effects, np.zeros(len(effects), bool))
    kept = terms.chosen((np.abs(effects) > _ROUNDING * masses) & (terms.sizes > 0))
    empty = float(effects[terms.sizes == 0].sum()) + ensemble.base
    return kept.members, np.append(0, kept.offsets), np.append(empty, kept.effects)


def _average(singles, keys, n, n_baselines) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    from conceptry.models.harsanyi.trees._kernels import averaged

    table = (
        np.full(1024, -1, np.int64),
        np.empty(512, np.uint64),
        np.zeros(513, np.int64),
        np.empty(4096, np.int32),
        np.empty(512),
        np.empty(512),
        np.empty(512, np.int64),
    )
    count = 0
    for step, (members, offsets, effects) in enumerate(singles):
        table, count = averaged(table, count, members, offsets, effects, keys, n, step)
        if count > MOST_TERMS:
            raise InputError(f"the baselines have more than {MOST_TERMS:,} different terms together; {_WAY_OUT}")
    *_, offsets, members, means, deviations, taken = table
    means, deviations, taken = means[:count], deviations[:count], taken[:count]
    zeros = n_baselines - taken
    spreads = np.sqrt((deviations + means * means * taken * zeros / n_baselines) / n_baselines)
    return members[: offsets[count]], offsets[: count + 1], means * taken / n_baselines, spreads


def _players(players: Players, columns: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the players, and the player of each column."""
    if players is None:
        return check_players(columns), np.arange(len(columns))
    place = {name: k for k, name in enumerate(columns)}

    def number(column: str | int, where: str) -> int:
        if isinstance(column, str) and column in place:
            return place[column]
        if isinstance(column, (int, np.integer)) and not isinstance(column, bool) and 0 <= column < len(columns):
            return int(column)
        raise InputError(f"{where}: there is no column {column!r}; expected a name or a number below {len(columns)}")

    if isinstance(players, Mapping):
        named = {name: [number(c, f"player {name!r}") for c in group] for name, group in players.items()}
        groups = list(named.values())
    else:
        groups = [[number(c, f"player {k}") for c in group] for k, group in enumerate(players)]
        named = {" + ".join(columns[c] for c in group): group for group in groups}
    members = partition(columns, groups)
    name_of = {min(group): name for name, group in named.items()}
    names = [name_of.get(items[0], columns[items[0]]) for items in members]
    made_up = not isinstance(players, Mapping)  # names of groups, which may be those of columns
    return check_players(distinct(names) if made_up else names), owners(members, len(columns))


def _target(model: TreeModel, target: Any, outputs: np.ndarray) -> tuple[int, Any]:
    """Number and label of the class that is explained; (0, None) of a regressor."""
    classes = model.classes
    if classes is None:
        if target is not None:
            raise InputError(f"target is {target!r}, and {model.kind} has no classes; leave the target out")
        return 0, None
    if target is None:
        chosen = int(np.argmax(outputs)) if len(classes) > 2 else len(classes) - 1
        return chosen, classes[chosen]
    target = target.item() if isinstance(target, np.generic) else target
    numbered = type(target) is int and not any(isinstance(label, (int, float)) for label in classes)
    if target in classes:
        chosen = classes.index(target)
    elif numbered and 0 <= target < len(classes):
        chosen = target
    else:
        raise InputError(f"target is {target!r}; expected one of the classes {', '.join(map(repr, classes))}")
    return chosen, classes[chosen]
