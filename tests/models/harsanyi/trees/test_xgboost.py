"""XGBoost's trees against all subsets, in its single precision."""

import numpy as np
import pytest

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.trees.interactions import tree_interactions
from conceptry.models.harsanyi.trees.reading import read

xgboost = pytest.importorskip("xgboost")
SINGLE = 1e-5
OPTIONS = {"n_estimators": 6, "max_depth": 4, "n_jobs": 1}


@pytest.mark.parametrize(
    ("options", "output"),
    [
        ({"base_score": 3.0}, "value"),
        ({"objective": "reg:absoluteerror"}, "value"),
        ({"booster": "dart", "rate_drop": 0.5}, "value"),
        ({"missing": 0.0}, "value"),
        ({"objective": "count:poisson"}, "margin"),
        ({"objective": "reg:tweedie"}, "margin"),
        ({"objective": "reg:gamma"}, "margin"),
    ],
    ids=str,
)
def test_regressors(explained, numbers, classes, options, output):
    model = xgboost.XGBRegressor(**OPTIONS, **options).fit(numbers, classes + 1, sample_weight=1 + classes)
    for row in (0, 5):
        rows = numbers[[row]], numbers[[row + 1]]
        found = explained(model, lambda x: model.predict(x, output_margin=True), *rows, SINGLE)
        assert found.output == output


def test_classifiers(explained, numbers, classes):
    rows = numbers[[0]], numbers[[1]]
    for kind in (xgboost.XGBClassifier, xgboost.XGBRFClassifier):
        two = kind(**OPTIONS).fit(numbers, classes > 0)
        explained(two, lambda x, two=two: two.predict(x, output_margin=True), *rows, SINGLE)
    many = xgboost.XGBClassifier(**OPTIONS | {"n_estimators": 60}, early_stopping_rounds=2, num_parallel_tree=2)
    many.fit(numbers[:100], classes[:100], eval_set=[(numbers[100:], classes[100:])], verbose=False)
    assert many.best_iteration < many.get_booster().num_boosted_rounds() - 1
    for target in range(3):
        outputs = lambda x, k=target: many.predict(x, output_margin=True)[:, k]  # noqa: E731
        explained(many, outputs, *rows, SINGLE, target=target)


@pytest.mark.parametrize("most_to_onehot", [1, 10])
def test_categories(explained, mixed, classes, most_to_onehot):
    model = xgboost.XGBClassifier(**OPTIONS, enable_categorical=True, max_cat_to_onehot=most_to_onehot)
    model.fit(mixed, classes)
    rows = mixed.iloc[[0]], mixed.iloc[[1]]
    found = explained(model, lambda x: model.predict(x, output_margin=True)[:, 1], *rows, SINGLE, target=1)
    booster = model.get_booster()

    def margins(x):
        return booster.predict(xgboost.DMatrix(x, enable_categorical=True), output_margin=True)[:, 1]

    assert explained(booster, margins, *rows, SINGLE, target=1).terms == found.terms
    as_texts = mixed.iloc[0].to_dict(), mixed.iloc[1].to_dict()
    assert tree_interactions(model, *as_texts, target=1).terms == found.terms
    turned = mixed.assign(c=mixed["c"].cat.reorder_categories(mixed["c"].cat.categories[::-1]))
    assert tree_interactions(model, turned.iloc[[0]], turned.iloc[[1]], target=1).terms == found.terms
    with pytest.raises(InputError, match="column 'c' has 'mauve'; expected one of its categories"):
        tree_interactions(model, as_texts[0] | {"c": "mauve"}, as_texts[1])


def test_what_a_sparse_matrix_leaves_out_is_missing(explained, mixed, classes):
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    spread = ColumnTransformer([("spread", OneHotEncoder(), ["c", "h"])], remainder="passthrough", sparse_threshold=1.0)
    pipeline = make_pipeline(spread, xgboost.XGBRegressor(**OPTIONS)).fit(mixed, classes)
    explained(pipeline, pipeline.predict, mixed.iloc[[0]], mixed.iloc[[1]], SINGLE)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"booster": "gblinear"}, "XGBRegressor is linear .booster='gblinear'. and has no trees"),
        ({"multi_strategy": "multi_output_tree"}, "XGBRegressor has a vector in each leaf"),
        ({"max_depth": 2}, "XGBRegressor has several outputs; expected one"),
    ],
)
def test_other_boosters_are_refused(numbers, classes, options, sentence):
    y = classes if "booster" in options else np.nan_to_num(numbers[:, :2])
    with pytest.raises(InputError, match=sentence):
        read(xgboost.XGBRegressor(n_estimators=2, **options).fit(np.nan_to_num(numbers), y))


def test_probabilities_of_margins_are_refused(numbers, classes):
    model = xgboost.XGBClassifier(**OPTIONS).fit(numbers, classes)
    with pytest.raises(InputError, match=r"the probability of XGBClassifier is not a sum over its trees.*its margin"):
        read(model, "probability")
    with pytest.raises(InputError, match="XGBClassifier is not fitted"):
        read(xgboost.XGBClassifier())
