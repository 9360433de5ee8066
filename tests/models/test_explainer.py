"""What the pyfuncs of all methods share, around an `explain` of a few lines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from conceptry.models.explainer import Explainer


class Doubling(Explainer):
    def load(self, directory: Path, device: torch.device) -> None:
        raise NotImplementedError

    def explain(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
        assert list(rows.index) == list(range(len(rows)))  # sentences count rows from 0
        return pd.DataFrame({"twice": [2 * value for value in rows["x"]]})


@pytest.mark.parametrize(
    "index",
    [
        pd.RangeIndex(3),
        pd.Index([2, 0, 1]),
        pd.Index([7, 7, 7]),
        pd.Index(["b", "a", "c"], name="key"),
        pd.MultiIndex.from_tuples([(0, "x"), (0, "y"), (1, "x")]),
    ],
)
def test_the_answer_has_the_index_of_the_request(index: pd.Index) -> None:
    table = pd.DataFrame({"x": [1, 2, 3]}, index=index)
    answer = Doubling("").predict(None, table)
    assert answer.index.equals(index)
    if index.is_unique:
        table["twice"] = answer["twice"]
        assert table["twice"].tolist() == [2, 4, 6]
