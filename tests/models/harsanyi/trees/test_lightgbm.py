"""LightGBM's trees against all subsets."""

import numpy as np
import pandas as pd
import pytest

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.trees.interactions import tree_interactions
from conceptry.models.harsanyi.trees.reading import read

lightgbm = pytest.importorskip("lightgbm")
OPTIONS = {"n_estimators": 6, "num_leaves": 15, "min_child_samples": 5, "verbose": -1, "n_jobs": 1}


@pytest.mark.parametrize(
    ("options", "output"),
    [
        ({}, "value"),
        ({"boosting_type": "dart"}, "value"),
        ({"zero_as_missing": True}, "value"),
        ({"use_missing": False}, "value"),
        ({"objective": "quantile"}, "value"),
        ({"objective": "poisson"}, "margin"),
        ({"objective": "tweedie"}, "margin"),
        ({"reg_sqrt": True}, "margin"),
    ],
    ids=str,
)
def test_regressors(explained, numbers, classes, options, output):
    model = lightgbm.LGBMRegressor(**OPTIONS, **options).fit(numbers, classes + 1, sample_weight=1 + classes)
    for row in (0, 5):
        rows = numbers[[row]], numbers[[row + 1]]
        found = explained(model.booster_, lambda x: model.predict(x, raw_score=True), *rows)
        assert found.output == output


def test_a_column_without_gaps_in_training_takes_nan_as_zero(explained, numbers, classes):
    model = lightgbm.LGBMRegressor(**OPTIONS).fit(np.nan_to_num(numbers), classes)
    explained(model, model.predict, numbers[[1]], numbers[[5]])


def test_random_forests_are_averaged(explained, numbers, classes):
    options = {"boosting_type": "rf", "subsample": 0.6, "subsample_freq": 1}
    rows = numbers[[0]], numbers[[1]]
    regressor = lightgbm.LGBMRegressor(**OPTIONS, **options).fit(numbers, classes)
    explained(regressor, regressor.predict, *rows)
    classifier = lightgbm.LGBMClassifier(**OPTIONS, **options).fit(numbers, classes > 0)
    explained(classifier, lambda x: classifier.predict(x, raw_score=True) / 6, *rows)


def test_classifiers(explained, numbers, classes):
    rows = numbers[[0]], numbers[[1]]
    two = lightgbm.LGBMClassifier(**OPTIONS).fit(numbers, classes > 0)
    explained(two, lambda x: two.predict(x, raw_score=True), *rows)
    data = [lightgbm.Dataset(numbers[part], classes[part]) for part in (slice(100), slice(100, None))]
    many = lightgbm.train(
        {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1, "min_data_in_leaf": 5},
        data[0],
        80,
        valid_sets=[data[1]],
        callbacks=[lightgbm.early_stopping(1, verbose=False)],
        keep_training_booster=True,
    )
    assert many.best_iteration < many.current_iteration()
    for target in range(3):
        explained(many, lambda x, k=target: many.predict(x, raw_score=True)[:, k], *rows, target=target)


@pytest.mark.parametrize("most_to_onehot", [1, 10])
def test_categories(explained, mixed, classes, most_to_onehot):
    model = lightgbm.LGBMClassifier(**OPTIONS, max_cat_to_onehot=most_to_onehot, min_data_per_group=2, cat_smooth=1)
    model.fit(mixed, classes)
    rows = mixed.iloc[[0]], mixed.iloc[[1]]
    found = explained(model, lambda x: model.predict(x, raw_score=True)[:, 1], *rows, target=1)
    as_texts = mixed.iloc[0].to_dict(), mixed.iloc[1].to_dict()
    assert tree_interactions(model, *as_texts, target=1).terms == found.terms
    with pytest.raises(InputError, match="column 'c' has 'mauve'; expected one of its categories"):
        tree_interactions(model, as_texts[0] | {"c": "mauve"}, as_texts[1])


def test_names_with_blanks_are_those_of_the_table(numbers, classes):
    table = pd.DataFrame(numbers, columns=[f"column {k}" for k in range(8)])
    model = lightgbm.LGBMRegressor(**OPTIONS).fit(table, classes)
    found = tree_interactions(model, table.iloc[[0]], table[table.columns[::-1]].iloc[[1]])
    assert found.players == tuple(table.columns)
    assert found.terms == tree_interactions(model.booster_, numbers[0], numbers[1]).terms
    with pytest.raises(InputError, match="the sample has no column 'column_0'; expected the columns"):
        tree_interactions(model, {"column 1": 1.0}, numbers[1])


def test_a_tree_of_one_leaf(explained, numbers):
    constant = lightgbm.LGBMRegressor(**OPTIONS).fit(numbers, np.full(200, 2.5))
    assert explained(constant, constant.predict, numbers[[0]], numbers[[1]]).terms == {(): 2.5}


def test_linear_leaves_are_refused(numbers, classes):
    model = lightgbm.LGBMRegressor(**OPTIONS, linear_tree=True).fit(np.nan_to_num(numbers), classes)
    with pytest.raises(InputError, match=r"LGBMRegressor has linear functions in its leaves \(linear_tree=True\)"):
        read(model)
    with pytest.raises(InputError, match="LGBMRegressor is not fitted"):
        read(lightgbm.LGBMRegressor())
