"""Scikit-learn models as MLflow logs them, against the estimators themselves; nothing is unpickled unasked."""

import gc
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conceptry.models.errors import InputError
from conceptry.models.explained import DifferentiableModel, PackagedModel, load_explained, read_explained
from conceptry.models.explained.pickles import pickle_setting
from support import environment

N = 60
VARIABLE = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"
rng = np.random.default_rng(0)
ROWS = pd.DataFrame(
    {
        "age": rng.integers(18, 90, N),
        "income": rng.normal(3.0, 1.0, N),
        "town": rng.choice(["Ulm", "Bonn", "Kiel"], N),
        "owner": rng.random(N) > 0.5,
    }
)
LABELS = np.where(ROWS["income"] + (ROWS["town"] == "Ulm") > 3, "yes", "no")
NUMBERS = ROWS[["age", "income"]]


@pytest.fixture(scope="module")
def log(store: str) -> Callable[..., Any]:
    """Log an estimator, by default in the format skops, and return what MLflow says of it."""
    import mlflow

    def log(estimator: Any, example: Any = None, name: str | None = None, **options: Any) -> Any:
        from mlflow.models import infer_signature

        with mlflow.start_run(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's hints on columns of whole numbers
            options = {"signature": infer_signature(example) if example is not None else None} | options
            return mlflow.sklearn.log_model(
                estimator, name="model", registered_model_name=name, pip_requirements=["scikit-learn"], **options
            )

    return log


@pytest.fixture(scope="module")
def mixed() -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = ColumnTransformer(
        [("town", OneHotEncoder(), ["town"]), ("scaled", StandardScaler(), ["age", "income"])], remainder="passthrough"
    )
    return make_pipeline(columns, LogisticRegression()).fit(ROWS, LABELS)


@pytest.fixture(scope="module")
def mixed_model(log: Callable[..., Any], mixed: Any) -> PackagedModel:
    log(mixed, ROWS, "churn")
    return load_explained("models:/churn/1", "cpu", statistics=ROWS)


def test_a_pipeline_over_mixed_columns(mixed_model: PackagedModel, mixed: Any) -> None:
    assert (mixed_model.modality, mixed_model.form, mixed_model.classes) == ("table", "probabilities", ("no", "yes"))
    assert [column.dtype for column in mixed_model.columns] == ["int64", "float64", "str", "bool"]
    np.testing.assert_allclose(mixed_model(ROWS), mixed.predict_proba(ROWS), rtol=1e-12)
    assert mixed_model.requirements == ("scikit-learn", "skops")
    assert not isinstance(mixed_model, DifferentiableModel)


def test_the_mean_of_a_whole_column_reaches_the_estimator(mixed_model: PackagedModel, mixed: Any) -> None:
    rows = ROWS.head(3).astype({"age": float})
    rows.loc[0, "age"] = mixed_model.columns[0].mean
    assert rows.loc[0, "age"] % 1
    np.testing.assert_allclose(mixed_model(rows), mixed.predict_proba(rows), rtol=1e-12)


def test_names_of_one_version_give_one_model(
    mixed_model: PackagedModel, log: Callable[..., Any], mixed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    import mlflow

    client = mlflow.MlflowClient()
    client.set_registered_model_alias("churn", "champion", "1")
    version = client.get_model_version("churn", "1")
    model_id = mixed_model.lineage["explained_model_id"]
    assert client.get_logged_model(model_id).source_run_id == version.run_id
    with caplog.at_level(logging.INFO, logger="conceptry.models.explained"):
        aliased = load_explained("models:/churn@champion", "cpu", statistics=ROWS)
    assert "models:/churn/1: " in caplog.text
    assert " MB" in caplog.text
    assert aliased.name == "models:/churn/1"
    assert aliased.lineage == mixed_model.lineage
    assert mixed_model.lineage["explained_model"] == "models:/churn/1"
    assert mixed_model.lineage["explained_run_id"] == version.run_id
    for uri in (f"models:/{model_id}", f"runs:/{version.run_id}/model"):
        other = load_explained(uri, "cpu", statistics=ROWS)
        assert other.name == uri
        assert other.lineage["explained_sha256"] == mixed_model.lineage["explained_sha256"]
    log(mixed, ROWS, "churn")
    assert load_explained("models:/churn/2", "cpu", statistics=ROWS).lineage != mixed_model.lineage


@pytest.mark.parametrize(
    "uri", ["models:/nobody/1", "models:/churn/77", "models:/churn@nobody", "models:/m-0", "runs:/0/model", "models:/x"]
)
def test_addresses_that_lead_nowhere(mixed_model: PackagedModel, uri: str) -> None:
    with pytest.raises(InputError, match=rf"{uri}: cannot be fetched from the MLflow store sqlite.*expected models:/"):
        load_explained(uri, "cpu", statistics=ROWS)


def test_a_table_needs_background_rows(mixed_model: PackagedModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a CSV file of background rows of the columns age, income"):
        load_explained("models:/churn/1", "cpu")
    with pytest.raises(InputError, match="lack the column 'town'; the model takes age, income, town, owner, the rows"):
        load_explained("models:/churn/1", "cpu", statistics=NUMBERS)
    ROWS.assign(more=1).to_csv(tmp_path / "rows.csv", index=False)
    assert load_explained("models:/churn/1", "cpu", statistics=tmp_path / "rows.csv").columns == mixed_model.columns


def test_outputs_as_asked_for(mixed_model: PackagedModel, mixed: Any) -> None:
    logits = load_explained("models:/churn/1", "cpu", statistics=ROWS, outputs="logits")
    assert (logits.form, logits.classes) == ("logits", ("no", "yes"))
    np.testing.assert_allclose(logits(ROWS), mixed.decision_function(ROWS)[:, None], rtol=1e-12)
    with pytest.raises(InputError, match="'no', which is not a number"):
        load_explained("models:/churn/1", "cpu", statistics=ROWS, outputs="values")
    with pytest.raises(InputError, match="outputs must be one of auto, logits, probabilities, values, got 'odds'"):
        load_explained("models:/churn/1", "cpu", statistics=ROWS, outputs="odds")


def test_forests_and_boosting(log: Callable[..., Any]) -> None:
    from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier

    trusted = {"skops_trusted_types": ["sklearn.tree._tree.Tree"]}
    forest = RandomForestClassifier(5, random_state=0).fit(NUMBERS.to_numpy(), LABELS)
    uri = log(forest, NUMBERS.to_numpy(), **trusted).model_uri
    model = load_explained(uri, "cpu", statistics=NUMBERS)
    assert [column.name for column in model.columns] == ["age", "income"]
    np.testing.assert_array_equal(model(NUMBERS), forest.predict_proba(NUMBERS.to_numpy()))
    boosted = GradientBoostingRegressor(n_estimators=5, random_state=0).fit(NUMBERS, ROWS["income"] ** 2)
    model = load_explained(log(boosted, **trusted).model_uri, "cpu", statistics=ROWS)
    assert (model.form, model.classes, [c.name for c in model.columns]) == ("values", ("target",), ["age", "income"])
    np.testing.assert_array_equal(model(ROWS)[:, 0], boosted.predict(NUMBERS))
    with pytest.raises(InputError, match=r"GradientBoostingRegressor has no predict_proba.*it offers values"):
        load_explained(log(boosted, **trusted).model_uri, "cpu", statistics=ROWS, outputs="probabilities")


def test_a_classifier_without_probabilities_is_not_guessed_at(log: Callable[..., Any]) -> None:
    from sklearn.svm import LinearSVC

    uri = log(LinearSVC().fit(NUMBERS, LABELS), NUMBERS).model_uri
    with pytest.raises(InputError, match="LinearSVC has no predict_proba; expected --outputs logits"):
        load_explained(uri, "cpu", statistics=NUMBERS)
    assert load_explained(uri, "cpu", statistics=NUMBERS, outputs="logits").form == "logits"


@pytest.mark.parametrize("example", [None, np.array(["good"]), pd.DataFrame({"review": ["good"]})])
def test_text_pipelines(log: Callable[..., Any], example: Any) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = ["a good film", "a bad film", "good", "bad"]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0])
    model = load_explained(log(pipeline, example).model_uri, "cpu")
    assert (model.modality, model.classes, model.columns) == ("text", ("0", "1"), ())
    np.testing.assert_allclose(model(texts), pipeline.predict_proba(texts))


def test_a_whole_table_is_called_at_once(mixed_model: PackagedModel) -> None:
    import time

    rows = pd.concat([ROWS] * 70, ignore_index=True)
    mixed_model(rows)
    start = time.perf_counter()
    mixed_model(rows)
    assert time.perf_counter() - start < 0.5


def test_calls_from_many_threads(mixed_model: PackagedModel) -> None:
    alone = mixed_model(ROWS)
    with ThreadPoolExecutor(8) as pool:
        for together in pool.map(lambda _: mixed_model(ROWS), range(32)):
            np.testing.assert_array_equal(together, alone)


def test_loads_from_many_threads(mixed_model: PackagedModel) -> None:
    before = os.environ.get(VARIABLE)
    with ThreadPoolExecutor(4) as pool:
        loads = pool.map(
            lambda i: load_explained("models:/churn/1", "cpu", statistics=ROWS, allow_pickle=bool(i % 2)), range(8)
        )
        for model in loads:
            assert model.lineage == mixed_model.lineage
    assert os.environ.get(VARIABLE) == before


def test_downloaded_files_stay_as_long_as_the_model(mixed_model: PackagedModel) -> None:
    model: Any = load_explained("models:/churn/1", "cpu", statistics=ROWS)
    folder = model.source.folder
    assert (folder / "MLmodel").is_file()
    del model
    gc.collect()
    assert not folder.exists()


def test_a_failing_model_is_one_sentence(mixed_model: PackagedModel) -> None:
    with pytest.raises(InputError, match="models:/churn/1: the model failed on 60 samples: Found unknown categories"):
        mixed_model(ROWS.assign(town="Rom"))


READ = """
import sys, numpy as np, pandas as pd
from conceptry.models.explained import read_explained
model = read_explained(sys.argv[1], "cpu")
rows = pd.DataFrame({"age": [30, 40], "income": [2.5, 3.5], "town": ["Ulm", "Kiel"], "owner": [True, False]})
print(model.name, *model.lineage.values(), *np.ravel(model(rows)))
"""


def test_a_saved_model_needs_no_store(mixed_model: PackagedModel, mixed: Any, tmp_path: Path) -> None:
    mixed_model.save(tmp_path / "explained")
    read = read_explained(tmp_path / "explained", "cpu")
    for attribute in ("name", "modality", "form", "classes", "columns", "notes", "lineage", "requirements"):
        assert getattr(read, attribute) == getattr(mixed_model, attribute)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "explained")],
        env=environment(MLFLOW_TRACKING_URI="http://127.0.0.1:9"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    rows = pd.DataFrame({"age": [30, 40], "income": [2.5, 3.5], "town": ["Ulm", "Kiel"], "owner": [True, False]})
    said = done.stdout.split()
    assert said[: 1 + len(mixed_model.lineage)] == [mixed_model.name, *mixed_model.lineage.values()]
    np.testing.assert_allclose([float(x) for x in said[-4:]], np.ravel(mixed.predict_proba(rows)))
    assert not list(tmp_path.glob("*.db"))


def test_pickles_are_read_only_with_consent(log: Callable[..., Any], mixed: Any, tmp_path: Path) -> None:
    uri = log(mixed, ROWS, serialization_format="cloudpickle").model_uri
    before = os.environ.get(VARIABLE)
    with pytest.raises(
        InputError, match=r"model\.pkl is a pickle.* in the format skops .*or allow it by --allow-pickle"
    ):
        load_explained(uri, "cpu", statistics=ROWS)
    model = load_explained(uri, "cpu", statistics=ROWS, allow_pickle=True)
    np.testing.assert_allclose(model(ROWS), mixed.predict_proba(ROWS))
    model.save(tmp_path / "explained")
    np.testing.assert_allclose(read_explained(tmp_path / "explained", "cpu")(ROWS), mixed.predict_proba(ROWS))
    assert os.environ.get(VARIABLE) == before


def test_the_list_of_trusted_types_is_not_taken_from_the_file(log: Callable[..., Any]) -> None:
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    pipeline = make_pipeline(FunctionTransformer(np.nan_to_num), LinearRegression()).fit(NUMBERS, ROWS["income"])
    uri = log(pipeline, NUMBERS, skops_trusted_types=["numpy.nan_to_num"]).model_uri
    with pytest.raises(InputError, match=r"types that may run code .numpy\.nan_to_num.*--allow-pickle"):
        load_explained(uri, "cpu", statistics=NUMBERS)
    assert load_explained(uri, "cpu", statistics=NUMBERS, allow_pickle=True).form == "values"


def test_the_setting_of_mlflow_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pickle_setting(False):
        assert os.environ[VARIABLE] == "false"
        with pickle_setting(True):
            assert os.environ[VARIABLE] == "true"
        assert os.environ[VARIABLE] == "false"
    assert VARIABLE not in os.environ
    monkeypatch.setenv(VARIABLE, "true")
    with pytest.raises(KeyError), pickle_setting(False):
        raise KeyError
    assert os.environ[VARIABLE] == "true"


FOUR = pd.DataFrame(np.random.default_rng(1).normal(size=(120, 3)), columns=pd.Index(list("abc")))


def explained(estimator: Any, rows: pd.DataFrame = FOUR, **options: Any) -> Any:
    from conceptry.models.explained.loaders.objects import as_explained

    return as_explained(estimator, statistics=rows, **options)


def test_an_outlier_detector_is_explained_by_its_score() -> None:
    from sklearn.ensemble import IsolationForest
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    detector = IsolationForest(n_estimators=5, random_state=0).fit(FOUR)
    for estimator in (
        detector,
        make_pipeline(StandardScaler(), IsolationForest(n_estimators=5, random_state=0)).fit(FOUR),
    ):
        model = explained(estimator)
        assert model.form == "values"
        np.testing.assert_array_equal(model(FOUR)[:, 0], estimator.decision_function(FOUR))
        assert any("decision_function" in note and "not the labels" in note for note in model.notes)


def test_labels_are_no_quantity_unless_asked_for() -> None:
    from sklearn.cluster import KMeans
    from sklearn.svm import LinearSVC

    with pytest.raises(InputError, match="KMeans has no predict_proba; expected --outputs values"):
        explained(KMeans(2, n_init=1, random_state=0).fit(FOUR))
    model = explained(LinearSVC().fit(FOUR, (FOUR["a"] > 0).astype(int)), outputs="values")
    assert any("labels are explained as if their numbers were a quantity" in note for note in model.notes)


def test_scores_of_pairs_of_classes_are_not_called_by_class_names() -> None:
    from sklearn.svm import SVC

    y = np.digitize(FOUR["a"], [-0.5, 0.5])
    pairs = SVC(decision_function_shape="ovo").fit(FOUR, y)
    with pytest.raises(InputError, match=r"scores pairs of classes .* set decision_function_shape='ovr'"):
        explained(pairs, outputs="logits")
    model = explained(pairs.set_params(decision_function_shape="ovr"), outputs="logits")
    np.testing.assert_array_equal(model(FOUR), pairs.decision_function(FOUR))


def test_labels_that_do_not_exclude_each_other_are_explained_by_their_probabilities(tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    y = np.c_[FOUR["a"] > 0, FOUR["b"] > 0].astype(int)
    each = OneVsRestClassifier(LogisticRegression()).fit(FOUR, y)
    for outputs in ("auto", "probabilities", "values"):
        model = explained(each, outputs=outputs)
        assert (model.form, model.classes) == ("values", ("0", "1"))
        np.testing.assert_array_equal(model(FOUR), each.predict_proba(FOUR))
    np.testing.assert_array_equal(explained(each, outputs="logits")(FOUR), each.decision_function(FOUR))
    forest = RandomForestClassifier(4, random_state=0).fit(FOUR, y)
    model = explained(forest)
    expected = np.stack([p[:, 1] for p in forest.predict_proba(FOUR)], 1)
    np.testing.assert_array_equal(model(FOUR), expected)
    model.save(tmp_path / "saved")
    np.testing.assert_array_equal(read_explained(tmp_path / "saved", "cpu")(FOUR), expected)
    several = RandomForestClassifier(2, random_state=0).fit(FOUR, np.c_[y[:, 0], np.digitize(FOUR["c"], [-0.5, 0.5])])
    with pytest.raises(InputError, match="predicts 2 targets at once, one of them of 3 classes"):
        explained(several)


def test_empty_cells_are_values_of_models_that_take_them() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    gappy, y = FOUR.copy(), FOUR["a"] > 0
    for row in range(len(gappy)):
        gappy.iloc[row, row % 3] = np.nan
    for estimator in (HistGradientBoostingClassifier(max_iter=5), make_pipeline(SimpleImputer(), LogisticRegression())):
        model = explained(estimator.fit(gappy, y), gappy)
        assert [column.gaps for column in model.columns] == [True] * 3
        assert model.columns[0].mean == pytest.approx(gappy["a"].mean())
        np.testing.assert_array_equal(model(gappy), estimator.predict_proba(gappy))
    model = explained(LogisticRegression().fit(FOUR, y), gappy)
    assert [column.gaps for column in model.columns] == [False] * 3
    with pytest.raises(InputError, match="column 'b' is empty"):
        model(gappy.iloc[1:2])


def test_columns_of_pandas_categories_stay_such(tmp_path: Path) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows = FOUR.assign(town=pd.Categorical(["Ulm", "Bonn", "Kiel"] * 40), floor=pd.Categorical([1, 2] * 60))
    y = (rows["town"] == "Ulm") ^ (rows["a"] > 0)
    estimator = HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype").fit(rows, y)
    model = explained(estimator, rows)
    assert [column.dtype for column in model.columns] == ["float64"] * 3 + ["category"] * 2
    np.testing.assert_array_equal(model(rows), estimator.predict_proba(rows))
    rows.to_csv(tmp_path / "rows.csv", index=False)
    town = rows.drop(columns="floor")
    estimator = HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype").fit(town, y)
    model = explained(estimator, str(tmp_path / "rows.csv"))  # where a category is text
    np.testing.assert_allclose(model(town), estimator.predict_proba(town))


def test_a_forest_is_said_to_be_certain() -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    assert explained(RandomForestClassifier(3, random_state=0).fit(FOUR, FOUR["a"] > 0)).certain
    assert not explained(LogisticRegression().fit(FOUR, FOUR["a"] > 0)).certain
