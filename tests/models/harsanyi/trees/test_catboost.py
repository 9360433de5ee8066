"""CatBoost's trees against all subsets."""

import numpy as np
import pytest

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.trees.interactions import tree_interactions
from conceptry.models.harsanyi.trees.reading import read

catboost = pytest.importorskip("catboost")
OPTIONS = {"iterations": 6, "depth": 3, "verbose": 0, "allow_writing_files": False, "thread_count": 1}


def raw(model, output=None):
    return lambda x: model.predict(x, prediction_type="RawFormulaVal")[(..., output) if output is not None else ...]


@pytest.fixture(scope="module")
def texts(mixed):
    return mixed.assign(c=mixed["c"].astype(str), h=mixed["h"].astype(object).where(mixed["h"].notna(), "none"))


@pytest.mark.parametrize(
    ("options", "output"),
    [
        ({}, "value"),
        ({"nan_mode": "Max"}, "value"),
        ({"loss_function": "MAE"}, "value"),
        ({"grow_policy": "Depthwise"}, "value"),
        ({"grow_policy": "Lossguide", "max_leaves": 6}, "value"),
        ({"loss_function": "Poisson"}, "margin"),
    ],
    ids=str,
)
def test_regressors(explained, numbers, classes, options, output):
    model = catboost.CatBoostRegressor(**OPTIONS, **options).fit(numbers, classes, sample_weight=1 + classes)
    for row in (0, 5):
        assert explained(model, raw(model), numbers[[row]], numbers[[row + 1]]).output == output


@pytest.mark.parametrize("policy", ["SymmetricTree", "Depthwise"])
def test_classifiers(explained, numbers, classes, policy):
    rows = numbers[[0]], numbers[[1]]
    two = catboost.CatBoostClassifier(**OPTIONS, grow_policy=policy).fit(numbers, classes > 0)
    explained(two, raw(two), *rows)
    many = catboost.CatBoostClassifier(**OPTIONS | {"iterations": 100}, grow_policy=policy, early_stopping_rounds=2)
    many.fit(numbers[:100], classes[:100], eval_set=(numbers[100:], classes[100:]))
    assert many.tree_count_ < 100
    for target in range(3):
        explained(many, raw(many, target), *rows, target=target)


@pytest.mark.parametrize("options", [{"one_hot_max_size": 10}, {"one_hot_max_size": 2, "max_ctr_complexity": 1}])
def test_categories_are_asked_of_the_model(explained, texts, classes, options):
    model = catboost.CatBoostClassifier(**OPTIONS, **options, cat_features=["c", "h"]).fit(texts, classes)
    for row in (0, 5):
        explained(model, raw(model, 1), texts.iloc[[row]], texts.iloc[[row + 1]], target=1)


def test_combinations_of_categories_belong_to_one_player_or_none(texts):
    y = (texts["c"].isin(["red", "blue"]) ^ (texts["h"] == "yes")).to_numpy()
    options = OPTIONS | {"iterations": 30, "one_hot_max_size": 1, "max_ctr_complexity": 2}
    table = texts[["c", "h", "a", "b"]]
    model = catboost.CatBoostClassifier(**options, cat_features=["c", "h"], ignored_features=["b"]).fit(table, y)
    rows = table.iloc[[0]], table.iloc[[3]]
    with pytest.raises(InputError, match=r"CatBoostClassifier splits on a statistic of columns c, (h|a)"):
        tree_interactions(model, *rows)
    assert len(tree_interactions(model, *rows, {"all": ["c", "h", "a"]}).players) == 2


def test_what_cannot_be_read_is_refused(numbers, texts, classes):
    deep = catboost.CatBoostClassifier(**OPTIONS, grow_policy="Depthwise", one_hot_max_size=10, cat_features=["c", "h"])
    with pytest.raises(InputError, match="CatBoostClassifier splits on categories in trees that are not symmetric"):
        read(deep.fit(texts, classes))
    several = catboost.CatBoostRegressor(**OPTIONS, loss_function="MultiRMSE")
    with pytest.raises(InputError, match="CatBoostRegressor has several outputs; expected one"):
        read(several.fit(numbers, np.nan_to_num(numbers[:, :2])))
    with pytest.raises(InputError, match="CatBoostRegressor is not fitted"):
        read(catboost.CatBoostRegressor())
