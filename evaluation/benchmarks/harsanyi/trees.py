"""Interactions of tree ensembles on one thread: equality with all subsets, seconds a row, Shapley values beside shap.

Each kind of ensemble is asked for all 2^n masked rows, and the butterfly over its answers is compared with the terms
that are read off its trees. Libraries that add leaves up in single precision are compared with the same trees added up
in double precision instead, since the butterfly multiplies what rounding leaves; `own` then says how far the library's
own answers are from those.

| symbol | meaning | shape |
|---|---|---|
| n | number of players, which are the columns | scalar |
| x, b | sample, baseline | (n,) |
| v | outputs for all subsets of columns from x, the others from b | (2^n,) |
"""

import importlib
import importlib.metadata
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn import ensemble, tree
from sklearn.base import is_classifier

from conceptry.evaluation.benchmarks.harsanyi.rivals import OURS
from conceptry.evaluation.benchmarks.measure import Benchmark, Record, Target, one_thread, peak_mb, seconds_side_by_side
from conceptry.models.harsanyi.interactions.moebius import moebius, subset_masks
from conceptry.models.harsanyi.model import Harsanyi
from conceptry.models.harsanyi.trees.interactions import TreeInteractions, tree_interactions
from conceptry.models.harsanyi.trees.model import TreeModel
from conceptry.models.harsanyi.trees.reading import read

SIZES, SIZES_QUICK = (12, 16, 20), (10,)
BOOSTERS = ("xgboost", "lightgbm", "catboost")
SHAP = "shap.TreeExplainer"
SHAP_THERE = importlib.util.find_spec("shap") is not None
SINGLE = ("XGBRegressor",)  # add leaves up in single precision
EQUAL, BY_ROW, SHAPLEY, GROWTH, MEMORY = (
    "trees against all subsets",
    "trees by row",
    "Shapley values of trees",
    "growth of trees",
    "memory of trees",
)
ONCE, WHOLE = "read once", "reading included"
_ROWS = 2**16  # of all subsets, asked at a time
_SAMPLES = 10  # rows that seconds are medians over


def data(n: int, rows: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of n numbers, and an output with interactions of the first ten of them, weak effects of all, and noise.

    The numbers are such as single precision holds: shap rounds samples to it, so that others may go another way.
    """
    g = np.random.default_rng(seed)
    X = g.normal(size=(rows, n)).astype(np.float32).astype(np.float64)
    effects = g.normal(size=n) / np.sqrt(n)
    products = X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) * X[:, 3] + (X[:, 4] > 0) * (X[:, 5] < 0.5) * X[:, 6]
    return X, products + np.abs(X[:, 7:10]).max(1) + X @ effects + 0.3 * g.normal(size=rows)


def kinds(n_trees: int) -> Iterator[tuple[Any, Callable[[Any, np.ndarray], np.ndarray]]]:
    """Every kind of ensemble that is installed, not fitted, and how it is asked for the output that is explained."""
    size: dict[str, Any] = {"n_estimators": n_trees, "random_state": 0}
    for regressor in (
        tree.DecisionTreeRegressor(random_state=0),
        ensemble.RandomForestRegressor(**size, max_depth=8),
        ensemble.ExtraTreesRegressor(**size, max_depth=8),
        ensemble.GradientBoostingRegressor(**size, max_depth=5),
        ensemble.HistGradientBoostingRegressor(max_iter=n_trees, random_state=0),
    ):
        yield regressor, lambda model, rows: model.predict(rows)
    yield ensemble.RandomForestClassifier(**size, max_depth=8), lambda model, rows: model.predict_proba(rows)[:, 1]
    for classifier in (
        ensemble.GradientBoostingClassifier(**size, max_depth=5),
        ensemble.HistGradientBoostingClassifier(max_iter=n_trees, random_state=0),
    ):
        yield classifier, lambda model, rows: model.decision_function(rows)
    for booster in boosters(n_trees, depth=5):
        yield booster, lambda model, rows: np.asarray(model.predict(rows), np.float64)


def boosters(n_trees: int, depth: int) -> Iterator[Any]:
    """Regressors of the boosting libraries that are installed."""
    common = {"n_estimators": n_trees, "max_depth": depth, "random_state": 0}
    made = {
        "xgboost": ("XGBRegressor", common | {"n_jobs": 1}),
        "lightgbm": ("LGBMRegressor", common | {"n_jobs": 1, "num_leaves": 2**depth, "verbose": -1}),
        "catboost": ("CatBoostRegressor", common | {"thread_count": 1, "verbose": 0, "allow_writing_files": False}),
    }
    for library, (name, options) in made.items():
        if importlib.util.find_spec(library) is not None:
            yield getattr(importlib.import_module(library), name)(**options)


def equality(n: int, n_trees: int) -> Iterator[Record]:
    """How far the terms of each kind are from the butterfly over its 2^n outputs, as a share of the largest |v|."""
    X, y = data(n)
    x, b = X[0], X[1]
    masks = subset_masks(n)
    for estimator, outputs in kinds(n_trees):
        name = type(estimator).__name__
        estimator.fit(X, y > 0 if is_classifier(estimator) else y)
        start = time.perf_counter()
        found = _written_down(estimator, x, b)
        seconds = time.perf_counter() - start
        own = _of_all(partial(outputs, estimator), masks, x, b)
        extra: dict[str, Any] = {"terms": len(found.terms), "largest order": int(found.sparse.sizes.max())}
        v = own
        if name in SINGLE:
            model = read(estimator)
            v = _of_all(lambda rows, m=model: m.ensemble(0).predict(m.encode(rows)), masks, x, b)
            extra["own"] = float(np.abs(own - v).max() / np.abs(v).max())
        extra["error"] = float(np.abs(_table(found, n) - moebius(v)).max() / np.abs(v).max())
        yield Record(f"{EQUAL}, n = {n}", name, seconds, extra=extra)


def _of_all(ask: Callable[[np.ndarray], np.ndarray], masks: np.ndarray, x: np.ndarray, b: np.ndarray) -> np.ndarray:
    parts = [ask(np.where(masks[k : k + _ROWS], x, b)) for k in range(0, len(masks), _ROWS)]
    return np.concatenate(parts).astype(np.float64)


def _table(found: TreeInteractions, n: int) -> np.ndarray:
    table = np.zeros(2**n)
    for players, effect in found.terms.items():
        table[sum(1 << (n - 1 - player) for player in players)] = effect
    return table


def wide(quick: bool) -> dict[str, tuple[Any, np.ndarray]]:
    """Fitted ensembles to measure seconds on, and rows: many columns and boosted trees, and a forest without bounds."""
    columns, trees, rows = (40, 20, 300) if quick else (500, 500, 3000)
    X, y = data(columns, rows)
    boosted = ensemble.GradientBoostingRegressor(
        n_estimators=trees, max_depth=6, max_features="sqrt", subsample=0.7, random_state=0
    )
    Z, z = data(20 if quick else 100, rows)
    forest = ensemble.RandomForestRegressor(10 if quick else 100, max_features=0.3, random_state=0)
    return {
        f"{columns} columns, {trees} boosted trees of depth 6": (boosted.fit(X, y), X),
        f"{Z.shape[1]} columns, {forest.n_estimators} forest trees without bounds": (forest.fit(Z, z), Z),
    }


def by_row(name: str, estimator: Any, X: np.ndarray) -> Iterator[Record]:
    """Seconds of one row against one baseline, medians over rows."""
    model = read(estimator)
    explainer = Harsanyi(estimator, statistics=X)
    rows = [(X[k], X[-1 - k]) for k in range(_SAMPLES)]
    found = tree_interactions(model, *rows[0])  # compiles
    explainer.explain(X[0])
    extra = {"terms": len(found.terms), "largest order": int(found.sparse.sizes.max())}
    ways: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
        f"{OURS}, {ONCE}": lambda x, b: _written_down(model, x, b),
        f"{OURS}, {WHOLE}": lambda x, b: _written_down(estimator, x, b),
        f"{OURS}, Harsanyi.explain": lambda x, b: explainer.explain(x),
    }
    for way, explain in ways.items():
        yield Record(f"{BY_ROW}, {name}", way, statistics.median(_seconds(explain, x, b) for x, b in rows), extra=extra)


def _written_down(estimator: Any, x: np.ndarray, b: np.ndarray) -> TreeInteractions:
    """The interactions with all of their terms, which are made when they are first asked for."""
    found = tree_interactions(estimator, x, b)
    assert len(found.sparse)
    return found


def _seconds(function: Callable[..., Any], *args: Any) -> float:
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def shapley(name: str, estimator: Any, X: np.ndarray, repeats: int) -> Iterator[Record]:
    """Shapley values of one row and one baseline beside shap; `error` is the largest difference, over max |v|."""
    model = read(estimator)
    x, b = X[0], X[1]
    functions: dict[str, Callable[[], Any]] = {
        f"{OURS}, {ONCE}": lambda: tree_interactions(model, x, b).shapley_values(),
        f"{OURS}, {WHOLE}": lambda: tree_interactions(estimator, x, b).shapley_values(),
    }
    explainer: Any = None
    if SHAP_THERE:
        shap: Any = importlib.import_module("shap")

        def explained() -> Any:
            return shap.TreeExplainer(estimator, data=b[None], feature_perturbation="interventional")

        explainer = explained()
        functions |= {
            f"{SHAP}, {ONCE}": lambda: explainer.shap_values(x[None], check_additivity=False),
            f"{SHAP}, {WHOLE}": lambda: explained().shap_values(x[None], check_additivity=False),
        }
    found = tree_interactions(model, x, b)
    scale = max(abs(found.value), abs(found.baseline_value))
    error = None
    if explainer is not None:
        theirs = np.asarray(explainer.shap_values(x[None], check_additivity=False)).reshape(-1)
        error = float(np.abs(theirs - found.shapley_values()).max() / scale)
    seconds = seconds_side_by_side(functions, repeats)
    for way, s in seconds.items():
        extra = {"error": error} if error is not None and way.startswith(SHAP) else {}
        like = s / seconds[f"{OURS}, {way.partition(', ')[2]}"]
        yield Record(f"{SHAPLEY}, {name}", way, s, extra=extra | {"x conceptry": like})


def growth(quick: bool) -> Iterator[Record]:
    """Seconds of a row as one thing grows: trees, their depth, columns, rows of the baseline; the others stay."""
    start = {"trees": 100, "depth": 6, "columns": 50, "baselines": 1}
    steps = {"trees": (25, 400), "depth": (2, 4, 8, 10), "columns": (10, 250), "baselines": (10, 100)}
    if quick:
        start, steps = start | {"trees": 5, "columns": 20}, {"trees": (10,), "depth": (4,)}
    for what, values in steps.items():
        for value in sorted({*values, start[what]}):
            how = start | {what: value}
            X, y = data(how["columns"], 300 if quick else 2000)
            estimator = ensemble.GradientBoostingRegressor(
                n_estimators=how["trees"], max_depth=how["depth"], max_features=10, random_state=0
            )
            model = read(estimator.fit(X, y))
            baseline = X[1 : 1 + how["baselines"]]
            explain = partial(_written_down, model, X[0], baseline)
            seconds = seconds_side_by_side({OURS: explain}, 3)[OURS]
            yield Record(f"{GROWTH}, {what}", f"{what} = {value}", seconds, extra={"terms": len(explain().terms)})


def _prepared(file: str) -> Callable[[], Any]:
    estimator, rows = joblib.load(file)
    model: TreeModel = read(estimator)
    small = ensemble.RandomForestRegressor(2, max_depth=2).fit(rows[:, :4], rows[:, 0])
    _written_down(small, rows[0, :4], rows[1, :4])  # what is compiled or loaded is not counted
    model.ensemble(0)
    return partial(_written_down, model, rows[0], rows[1])


def memory(name: str, estimator: Any, X: np.ndarray) -> Record:
    """Peak memory of the terms of one row, the trees being read."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "estimator.joblib")  # made in another process: fitting leaves memory behind
        joblib.dump((estimator, X[:16]), file)
        return Record(f"{MEMORY}, {name}", OURS, None, peak_mb(_prepared, file))


def run(quick: bool = False, progress: Callable[[str], None] = lambda _: None) -> Benchmark:
    """Measure; some minutes, or seconds if `quick` (small ensembles, no memory)."""
    records: list[Record] = []
    for library in (*BOOSTERS, "shap"):
        if importlib.util.find_spec(library) is not None:
            importlib.import_module(library)  # now: the limit on threads reaches loaded libraries only
    with one_thread():
        for n in SIZES_QUICK if quick else SIZES:
            progress(f"trees against all subsets at n = {n}")
            records += equality(n, 5 if quick else 20)
        progress("seconds of trees by row")
        measured = wide(quick)
        for name, (estimator, X) in measured.items():
            records += by_row(name, estimator, X)
        progress("Shapley values of trees")
        X, y = data(20 if quick else 50)
        others: list[Any] = [ensemble.HistGradientBoostingRegressor(max_iter=5 if quick else 100)]
        others += boosters(5 if quick else 100, depth=6)
        compared = measured | {type(other).__name__: (other.fit(X, y), X) for other in others}
        for name, (estimator, rows) in compared.items():
            records += shapley(name, estimator, rows, 3 if quick else 9)
        progress("growth of trees")
        records += growth(quick)
        if not quick:
            records += [memory(name, estimator, X) for name, (estimator, X) in measured.items()]
    return Benchmark("Harsanyi interactions of trees", records, _targets(records, list(measured)), _notes())


def _notes() -> list[str]:
    notes = [
        f"{EQUAL}: error and own are shares of the largest |v|; xgboost adds up in float32, see `own`",
        f"{SHAPLEY}: {OURS} asks the model itself for both rows besides, {SHAP} does not",
    ]
    for library in (*BOOSTERS, "shap"):
        if importlib.util.find_spec(library) is None:
            notes.append(f"{library} is not installed (pip install {library}): not measured")
        else:
            notes.append(f"{library} {importlib.metadata.version(_distribution(library))}")
    return notes


def _distribution(library: str) -> str:
    return importlib.metadata.packages_distributions()[library][0]


def _targets(records: list[Record], names: list[str]) -> list[Target]:
    def of(subject: str, way: str = "") -> list[Record]:
        return [r for r in records if r.case.startswith(subject) and r.implementation.startswith(way)]

    def seconds(name: str) -> float | None:
        return next((r.seconds for r in of(f"{BY_ROW}, {name}", f"{OURS}, {ONCE}")), None)

    errors = {r.case: r.extra["error"] for r in of(SHAPLEY, SHAP) if "error" in r.extra}
    single = [error for case, error in errors.items() if any(name in case for name in SINGLE)]
    double = [error for case, error in errors.items() if not any(name in case for name in SINGLE)]
    times = {way: [1 / r.extra["x conceptry"] for r in of(SHAPLEY, f"{SHAP}, {way}")] for way in (ONCE, WHOLE)}
    return [
        Target("trees, largest difference from all subsets", max(r.extra["error"] for r in of(EQUAL)), 1e-10, "max"),
        Target(f"trees, seconds a row: {names[0]}", seconds(names[0]), 0.05, "max"),
        Target(f"trees, seconds a row: {names[1]}", seconds(names[1]), 0.5, "max"),
        Target("trees, Shapley values, largest difference from shap", max(double, default=None), 1e-6, "max"),
        Target("the same, of trees in single precision", max(single, default=None), 1e-5, "max"),
        *(Target(f"trees, most times shap's seconds, {w}", max(t, default=None), 1, "max") for w, t in times.items()),
    ]
