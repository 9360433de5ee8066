"""What the readers of trees are held against: a model asked for all subsets, one masked row for each."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conceptry.models import harsanyi
from conceptry.models.harsanyi.trees.interactions import TreeInteractions

N = 8


def _masked(sample: Any, baseline: Any) -> Any:
    """All subsets of the columns, in the form and the types of the rows."""
    masks = harsanyi.subset_masks(N)
    if isinstance(sample, np.ndarray):
        return np.where(masks, sample, baseline)
    columns = {}
    for k, name in enumerate(sample.columns):
        both = pd.concat([baseline[name], sample[name]])
        columns[name] = both.iloc[masks[:, k].astype(int)].reset_index(drop=True)
    return pd.DataFrame(columns)


@pytest.fixture
def explained() -> Callable[..., TreeInteractions]:
    """Explain a sample, and compare every term with those of the model's own outputs on all 2^8 masked rows."""

    def explain(
        estimator: Any, outputs: Callable[[Any], Any], sample: Any, baseline: Any, rtol: float = 1e-10, **options: Any
    ) -> TreeInteractions:
        found = harsanyi.tree_interactions(estimator, sample, baseline, **options)
        v = np.asarray(outputs(_masked(sample, baseline)), np.float64)
        table = np.zeros(2**N)
        for players, effect in found.terms.items():
            table[sum(1 << (N - 1 - player) for player in players)] = effect
        np.testing.assert_allclose(table, harsanyi.moebius(v), atol=rtol * np.abs(v).max(), rtol=0)
        assert found.value == v[-1]
        assert found.baseline_value == v[0]
        return found

    return explain


@pytest.fixture(scope="session")
def numbers() -> np.ndarray:
    """200 rows of 8 numbers, one in ten of them NaN, a column of whole numbers among them; samples, then baselines."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, N))
    x[:, 5] = generator.integers(0, 40, 200)
    x[:, 6] = 3 * generator.integers(-1, 3, 200)
    x[generator.random(x.shape) < 0.1] = np.nan
    return x


@pytest.fixture(scope="session")
def mixed(numbers: np.ndarray) -> pd.DataFrame:
    """The same with two columns of categories, one of them with gaps."""
    generator = np.random.default_rng(1)
    table = pd.DataFrame(numbers, columns=list("abcdefgh"))
    table["c"] = pd.Categorical(generator.choice(["red", "green", "blue", "grey", "pink"], 200))
    table["h"] = pd.Categorical(generator.choice(["yes", "no", None], 200))
    return table


@pytest.fixture(scope="session")
def classes(numbers: np.ndarray, mixed: pd.DataFrame) -> np.ndarray:
    """A class from 0 to 2 of each row."""
    x = np.nan_to_num(numbers)
    named = mixed["c"].isin(["red", "grey"]).to_numpy()
    return (x[:, 0] * x[:, 1] + x[:, 3] > 0).astype(int) + (named & (x[:, 5] > 10))
