"""Pipelines: a player is a column before the steps, and steps that mix players' columns are refused."""

import numpy as np
import pytest
from sklearn import ensemble, feature_selection, preprocessing, tree
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.pipeline import FeatureUnion, make_pipeline

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.trees.interactions import tree_interactions


@pytest.fixture(scope="module")
def texts(mixed):
    """The table with texts in place of categories."""
    return mixed.assign(c=mixed["c"].astype(str), h=mixed["h"].astype(object).where(mixed["h"].notna(), "none"))


def steps_of_columns(**options):
    numeric = make_pipeline(SimpleImputer(add_indicator=True), preprocessing.StandardScaler())
    return ColumnTransformer(
        [
            ("spread", preprocessing.OneHotEncoder(min_frequency=30, **options), ["c"]),
            ("numeric", numeric, slice("d", "g")),
            ("encoded", preprocessing.TargetEncoder(cv=2), ["h"]),
            ("binned", preprocessing.FunctionTransformer(np.cbrt), [0]),
            ("without", "drop", ["b"]),
        ],
        remainder="passthrough",
    )


@pytest.mark.parametrize("sparse", [True, False])
def test_a_player_is_the_column_before_the_steps(explained, texts, classes, sparse):
    forest = ensemble.RandomForestClassifier(8, random_state=0)
    pipeline = make_pipeline(steps_of_columns(sparse_output=sparse), "passthrough", forest).fit(texts, classes)
    for row in (0, 5):
        rows = texts.iloc[[row]], texts.iloc[[row + 1]]
        found = explained(pipeline, lambda x: pipeline.predict_proba(x)[:, 1], *rows, target=1)
        assert found.players == tuple("abcdefgh")


def test_steps_one_after_another(explained, numbers, classes):
    pipeline = make_pipeline(
        SimpleImputer(),
        feature_selection.SelectKBest(k=6),
        FeatureUnion(
            [
                ("bins", preprocessing.KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf")),
                ("same", "passthrough"),
            ]
        ),
        preprocessing.PolynomialFeatures(1),
        ensemble.RandomForestRegressor(5, random_state=0),
    )
    pipeline.fit(numbers, classes)
    explained(pipeline, pipeline.predict, numbers[[0]], numbers[[1]])


@pytest.mark.parametrize(
    "step",
    [
        PCA(3),
        preprocessing.PolynomialFeatures(2),
        preprocessing.Normalizer(),
        KNNImputer(),
        preprocessing.FunctionTransformer(lambda x: x - x.mean(axis=1, keepdims=True)),
    ],
    ids=lambda step: type(step).__name__,
)
def test_steps_that_mix_columns_are_refused_and_taken_within_one_player(numbers, classes, step):
    filled = np.nan_to_num(numbers)
    pipeline = make_pipeline(step, tree.DecisionTreeRegressor(random_state=0)).fit(filled, classes)
    with pytest.raises(InputError, match=f"the step {type(step).__name__} makes features of several players' columns"):
        tree_interactions(pipeline, filled[0], filled[1])
    found = tree_interactions(pipeline, filled[0], filled[1], {"all": range(8)})
    assert sum(found.terms.values()) == pytest.approx(pipeline.predict(filled[:1])[0])


def test_mixed_columns_of_one_player_beside_others(numbers, classes):
    filled = np.nan_to_num(numbers)
    parts = ColumnTransformer([("two", PCA(2), [1, 2])], remainder="passthrough")
    pipeline = make_pipeline(parts, ensemble.ExtraTreesRegressor(4, random_state=0)).fit(filled, classes)
    found = tree_interactions(pipeline, filled[0], filled[1], {"pair": [1, 2]})
    masks = np.array([[k != player for k in range(7)] for player in range(7)])
    v = pipeline.predict(np.where(masks[:, [0, 1, 1, 2, 3, 4, 5, 6]], filled[0], filled[1]))
    np.testing.assert_allclose(found.sparse.values(masks), v, atol=1e-12)
