"""Trees of CatBoost, from the JSON that a model writes.

Numeric columns are compared in single precision: a sample goes right where x > border; what NaN does, the column says.
A split on categories, by one of them or by a statistic of the target, is asked of the model itself: in a symmetric
tree bit k of the number of a sample's leaf is what it does at split k. It is a feature of its own, 0 or 1, and belongs
to whom its columns belong to.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.trees.ensemble import Ensemble, stacked
from conceptry.models.harsanyi.trees.model import (
    EXACT,
    MARGIN,
    VALUE,
    TreeModel,
    dense,
    not_fitted,
    outputs_of,
    the_output,
)

_LOGARITHMIC = ("Poisson", "Tweedie")
_UNCLASSED = ("Logloss", "CrossEntropy")  # objectives that a CatBoost of no class of its own may have


def read_catboost(estimator: Any, output: str | None) -> TreeModel:
    """Read a CatBoost, CatBoostClassifier, CatBoostRegressor or CatBoostRanker."""
    kind = type(estimator).__name__
    if not estimator.is_fitted():
        raise not_fitted(kind)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        estimator.save_model(str(path), format="json")
        written = json.loads(path.read_text("utf-8"))
    scale, biases = written["scale_and_bias"]
    n_outputs = len(biases)
    columns = tuple(map(str, estimator.feature_names_))
    splits = _Splits(kind, columns, written)
    named = columns != tuple(map(str, range(len(columns))))
    classes = tuple(np.asarray(estimator.classes_).tolist()) or None
    symmetric = written.get("oblivious_trees")
    if symmetric is None:
        trees = [_branches(tree, splits) for tree in written["trees"]]
    else:
        trees = [_levels(tree, splits) for tree in symmetric]
    roots, shift = stacked([len(tree["left"]) for tree in trees])
    nodes = {name: np.concatenate([tree[name] for tree in trees]) for name in trees[0]}
    objective = _objective(written)
    if objective.startswith("MultiRMSE") or (n_outputs > 1 and classes is None):
        raise InputError(f"{kind} has several outputs; expected one: fit an estimator for each output")

    def of_output(k: int) -> Ensemble:
        return Ensemble.of(
            nodes["feature"],
            nodes["border"],
            np.where(nodes["left"] < 0, -1, nodes["left"] + shift),
            np.where(nodes["left"] < 0, -1, nodes["right"] + shift),
            scale * nodes["values"][:, k],
            roots,
            base=biases[k],
            n_features=len(columns) + len(splits.asked),
            missing_left=nodes["nan_left"],
        )

    def encode(x: Any) -> np.ndarray:
        return np.concatenate([splits.numbers(x), splits.answers(estimator, x, symmetric)], axis=1)

    def given(table: pd.DataFrame) -> Any:
        return table if named or splits.categorical else table.to_numpy()

    linked = classes is not None or objective in (*_LOGARITHMIC, *_UNCLASSED)
    return TreeModel(
        kind,
        columns,
        named,
        classes,
        the_output(kind, output, MARGIN if linked else VALUE),
        n_outputs,
        EXACT,
        of_output,
        given,
        encode,
        splits.owners,
        lambda x: outputs_of(estimator.predict(x, prediction_type="RawFormulaVal") if linked else estimator.predict(x)),
    )


def _objective(written: dict) -> str:
    parameters = written["model_info"].get("params", {})
    if isinstance(parameters, str):
        parameters = json.loads(parameters)
    return str(parameters.get("loss_function", {}).get("type", ""))


class _Splits:
    """Features of a model: a number for each column, then one for each split that is asked of the model."""

    def __init__(self, kind: str, names: Sequence[str], written: dict):
        info = written["features_info"]
        if info.get("text_features") or info.get("embedding_features"):
            raise InputError(f"{kind} has columns of texts or embeddings, which cannot be read; use the sampled engine")
        floats, categorical = info.get("float_features", []), info.get("categorical_features", [])
        self.kind, self.names = kind, names
        self.column = [feature["flat_feature_index"] for feature in floats]
        self.right = [feature.get("nan_value_treatment") == "AsTrue" for feature in floats]
        self.categorical = [feature["flat_feature_index"] for feature in categorical]
        self.n_columns = len(names)
        self.asked: dict[int, int] = {}  # features of splits by their numbers
        self.of_feature: list[list[int]] = []  # columns of each of them
        # Splits are numbered by the borders of numeric columns, then the single categories, then the statistics.
        number = sum(len(feature.get("borders") or ()) for feature in floats)
        number += sum(len(feature.get("values") or ()) for feature in categorical)
        self.statistics: dict[int, tuple[float, list[int]]] = {}  # border and columns
        for statistic in info.get("ctrs") or ():
            columns = sorted({self._column(element) for element in statistic["elements"]})
            for border in statistic["borders"]:
                self.statistics[number + len(self.statistics)] = border, columns

    def _column(self, of: dict) -> int:
        if "cat_feature_index" in of:
            return self.categorical[of["cat_feature_index"]]
        return self.column[of["float_feature_index"]]

    def _columns(self, split: dict) -> list[int]:
        """Columns that a split on categories asks."""
        if split["split_type"] == "OneHotFeature":
            return [self._column(split)]
        border, columns = self.statistics.get(split["split_index"], (None, []))
        if border != split["border"]:
            raise InputError(
                f"{self.kind} has splits that are numbered in an unknown way, so that their columns cannot be told; "
                "fit it with a one_hot_max_size above its numbers of categories, or use the sampled engine"
            )
        return columns

    def read(self, split: dict, symmetric: bool) -> tuple[int, float, bool]:
        """Feature, border, and whether NaN goes left."""
        if split["split_type"] == "FloatFeature":
            k = split["float_feature_index"]
            return self.column[k], split["border"], not self.right[k]
        if not symmetric:
            raise InputError(
                f"{self.kind} splits on categories in trees that are not symmetric, which cannot be read; fit it with "
                "grow_policy='SymmetricTree', or use the sampled engine"
            )
        number = split["split_index"]
        if number not in self.asked:
            self.asked[number] = self.n_columns + len(self.asked)
            self.of_feature.append(self._columns(split))
        return self.asked[number], 0.5, True

    def owners(self, owner: np.ndarray) -> np.ndarray:
        for columns in self.of_feature:
            if len({int(owner[column]) for column in columns}) > 1:
                listed = ", ".join(self.names[column] for column in columns)
                raise InputError(
                    f"{self.kind} splits on a statistic of columns {listed} together; "
                    "put them into one group of players, fit it with max_ctr_complexity=1, or use the sampled engine"
                )
        return np.append(owner, [owner[columns[0]] for columns in self.of_feature]).astype(owner.dtype)

    def numbers(self, x: Any) -> np.ndarray:
        """Numeric columns in single precision; 0 for those of categories."""
        rows = np.zeros((len(x) if hasattr(x, "iloc") else x.shape[0], self.n_columns))
        for k in self.column:
            values = x.iloc[:, k].to_numpy(np.float64, na_value=np.nan) if hasattr(x, "iloc") else dense(x)[:, k]
            rows[:, k] = np.asarray(values, np.float64).astype(np.float32)
        return rows

    def answers(self, estimator: Any, x: Any, symmetric: Any) -> np.ndarray:
        """What samples do at the splits that are asked of the model, 0 or 1."""
        rows = np.zeros((x.shape[0], len(self.asked)))
        if self.asked:
            leaves = np.asarray(estimator.calc_leaf_indexes(x)).astype(np.int64)
            for t, tree in enumerate(symmetric):
                for bit, split in enumerate(tree["splits"] or ()):
                    if (feature := self.asked.get(split["split_index"])) is not None:
                        rows[:, feature - self.n_columns] = leaves[:, t] >> bit & 1
        return rows


def _levels(tree: dict, splits: _Splits) -> dict[str, np.ndarray]:
    """A symmetric tree: nodes of a heap, whose level d asks the split d from the end."""
    listed = [splits.read(split, symmetric=True) for split in tree["splits"] or ()]
    depth = len(listed)
    level = np.repeat(np.arange(depth), 1 << np.arange(depth)) if depth else np.empty(0, np.int64)
    feature, border, nan = (np.array([listed[depth - 1 - d][part] for d in level]) for part in range(3))
    n_inner = (1 << depth) - 1
    values = np.reshape(tree["leaf_values"], (1 << depth, -1)).astype(np.float64)
    leaves = np.full(1 << depth, -1)
    inner = np.arange(n_inner)
    return {
        "feature": np.append(feature, np.zeros(1 << depth)).astype(np.int64),
        "border": np.append(border, np.zeros(1 << depth)).astype(np.float64),
        "left": np.append(2 * inner + 1, leaves).astype(np.int64),
        "right": np.append(2 * inner + 2, leaves).astype(np.int64),
        "values": np.concatenate([np.zeros((n_inner, values.shape[1])), values]),
        "nan_left": np.append(nan, np.zeros(1 << depth)).astype(bool),
    }


def _branches(tree: dict, splits: _Splits) -> dict[str, np.ndarray]:
    """A tree of any other form, from nested branches."""
    rows: list[tuple[int, float, bool, Any]] = []
    waiting = [(tree, -1, 0)]
    children: list[list[int]] = []
    while waiting:
        node, parent, side = waiting.pop()
        place = len(rows)
        if parent >= 0:
            children[parent][side] = place
        children.append([-1, -1])
        if "split" in node:
            feature, border, nan = splits.read(node["split"], symmetric=False)
            rows.append((feature, border, nan, None))
            waiting += [(node["left"], place, 0), (node["right"], place, 1)]
        else:
            rows.append((0, 0.0, False, np.atleast_1d(node["value"])))
    n_outputs = max(len(row[3]) for row in rows if row[3] is not None)
    values = np.array([np.zeros(n_outputs) if row[3] is None else row[3] for row in rows], np.float64)
    left, right = np.array(children).T
    feature, border, nan_left = (np.array([row[part] for row in rows]) for part in range(3))
    return {
        "feature": feature,
        "border": border,
        "left": left,
        "right": right,
        "values": values,
        "nan_left": nan_left,
    }


def leaf_values(estimator: Any) -> list[np.ndarray]:
    """What the leaves of each tree say, (leaves, outputs), in the order of training."""
    counts = np.asarray(estimator.get_tree_leaf_counts(), np.int64)
    values = np.array(estimator.get_leaf_values(), np.float64).reshape(int(counts.sum()), -1)
    return np.split(values, counts.cumsum()[:-1])


def set_leaf_values(estimator: Any, values: Sequence[np.ndarray]) -> None:
    """Have the leaves say `values`, as `leaf_values` gives them."""
    estimator.set_leaf_values(np.concatenate(values).ravel())
    with tempfile.TemporaryDirectory() as folder:  # what has predicted once goes on with its old leaves
        path = str(Path(folder) / "model.cbm")
        estimator.save_model(path)
        estimator.load_model(path)
