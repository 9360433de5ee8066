"""ProxySPEX and ProxySHAP of shapiq as games: what they predict for masks, and their terms in AND form.

Neither hands out a game: both return interaction indices of what they have fitted. What is compared is therefore the
fit itself, which is the best that can be said for them:

| rival | fitted | predicts | terms |
|---|---|---|---|
| ProxySPEX (arXiv:2505.17495) | boosted trees, then ridge on their Fourier coefficients | the refitted Fourier sum | its own Moebius transform of that sum |
| ProxySHAP (arXiv:2605.22738) | XGBoost's trees | the trees, plus v(empty) | the exact ones of its trees |

Both run on one thread with their defaults (ProxySPEX may search the sizes of its trees by cross-validation, which is 41
fits), but for the index made of the fit at the end: the clock of ProxySPEX stops before it, ProxySHAP makes its default.
"""  # noqa: E501 - a table

import importlib
import importlib.metadata
import importlib.util
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from conceptry.evaluation.benchmarks.harsanyi.wide_games import Effects
from conceptry.models.harsanyi.interactions.terms import Terms

PROXY_SPEX, PROXY_SHAP = "ProxySPEX", "ProxySHAP"
_QUIET = {"n_jobs": 1, "verbose": -1}  # LightGBM takes all cores, whatever the limit on threads, and reports each fit
_CELLS = 2**24  # of masks times terms, at a time
Values = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Fit:
    """What a rival has found: `values` of masks (m, n), its terms in AND form, and the seconds that it took."""

    values: Values
    terms: Effects
    seconds: float


def missing() -> str | None:
    """Why the rivals cannot be measured, as a sentence; None where they can."""
    if importlib.util.find_spec("shapiq") is None:
        return (
            "shapiq is not installed (pip install shapiq; 1.5 or newer, on Python 3.12): ProxySPEX, ProxySHAP not run"
        )
    approximators: Any = importlib.import_module("shapiq.approximator")
    if not all(hasattr(approximators, name) for name in (PROXY_SPEX, PROXY_SHAP)):
        version = importlib.metadata.version("shapiq")
        return f"shapiq {version} has no ProxySPEX and ProxySHAP (1.5 or newer has, on Python 3.12): not run"
    for library in ("lightgbm", "xgboost"):
        if importlib.util.find_spec(library) is None:
            return f"{library} is not installed (pip install {library}), which the proxies of shapiq need: not run"
    return None


def proxy_spex(v: Values, n: int, budget: int, seed: int, search: bool = True) -> Fit:
    """ProxySPEX; without `search` its trees have LightGBM's default sizes."""
    approximators: Any = importlib.import_module("shapiq.approximator")
    spex = approximators.ProxySPEX(n=n, max_order=1, index="SII", random_state=seed, hpo=search)
    model = spex.proxy_model
    model.set_params(**{f"estimator__{k}": value for k, value in _QUIET.items()} if search else _QUIET)
    caught: dict[str, Any] = {}
    to_moebius = spex.fourier_to_moebius

    def watched(fourier: Effects) -> Effects:
        caught["fourier"], caught["moebius"] = fourier, to_moebius(fourier)
        caught["at"] = time.perf_counter()
        return caught["moebius"]

    spex.fourier_to_moebius = watched
    start = time.perf_counter()
    _quietly(spex.approximate, budget, v)
    fourier = Terms.of(n, {_numbers(players): float(effect) for players, effect in caught["fourier"].items()})
    terms = {_numbers(players): float(effect) for players, effect in caught["moebius"].items()}
    return Fit(lambda masks: _fourier_values(fourier, masks), terms, caught["at"] - start)


def proxy_shap(v: Values, n: int, budget: int, seed: int) -> Fit:
    """ProxySHAP, its residual adjustment off, as by default: it changes indices, and makes no game."""
    from conceptry.models.harsanyi.trees.interactions import tree_interactions

    approximators: Any = importlib.import_module("shapiq.approximator")
    shap = approximators.ProxySHAP(n=n, random_state=seed)
    shap.proxy_model.set_params(n_jobs=1)
    start = time.perf_counter()
    found = _quietly(shap.approximate, budget, v)
    seconds = time.perf_counter() - start
    trees, empty = shap.proxy_model, float(found.baseline_value)
    terms = tree_interactions(trees, np.ones(n), np.zeros(n)).terms
    return Fit(lambda masks: trees.predict(masks.astype(float)) + empty, terms, seconds)


def _quietly(function: Callable[..., Any], *args: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, about names of columns and ridge
        return function(*args)


def _numbers(players: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(int(player) for player in players)


def _fourier_values(fourier: Terms, masks: np.ndarray) -> np.ndarray:
    """Sum of c_T (-1)^(players of T that are present)."""
    values = np.empty(len(masks))
    step = max(1, _CELLS // max(len(fourier), 1))
    for start in range(0, len(masks), step):
        counts = fourier.incidence @ masks[start : start + step].T.astype(np.float32)
        values[start : start + step] = fourier.effects @ (1 - 2 * (counts % 2))
    return values
