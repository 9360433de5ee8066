"""Versions are evaluated in processes of their own, and what is found lands where the UI shows it."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import load_dict
from mlflow.exceptions import MlflowException
from PIL import Image

from conceptry.evaluation.harness import evaluate, evaluation_of, is_evaluated
from conceptry.evaluation.isolation.client import InProcess, VersionProcess
from conceptry.evaluation.reports import Report, evaluation_records, log_report, log_table, report_table
from conceptry.evaluation.splice.data import load_images, without
from conceptry.evaluation.splice.harness import EVALUATION
from conceptry.models.errors import ConceptryError
from conceptry.models.images import png_bytes
from conceptry.registry import find_version, load, register
from conceptry.registry.descriptions import describe_measured

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(scope="module")
def data():
    return load_images("zoo:emoji-scenes", size=24)


@pytest.fixture(scope="module")
def evaluated(store, tiny_options, data):
    """Report on a version of its own, which no other test evaluates."""
    return evaluate(register("splice", tiny_options, name="evaluated").version.uri, data)


def test_metrics_land_on_the_run_and_on_the_logged_model(evaluated, data) -> None:
    client, version = MlflowClient(), evaluated.version
    run = client.get_run(version.run_id)
    found = evaluated.report.metrics
    assert {"l0", "l0_std", "cosine", "cosine_std", "gap", "gap_std", "gap_max", "encode_ms", "solve_ms"} <= set(found)
    assert {"zero_shot", "retrieval", "recall_objects_all", "recall_colour", "concept_precision"} <= set(found)
    assert {k: run.data.metrics[k] for k in found} == pytest.approx(found)
    on_model = client.get_logged_model(version.model_id).metrics
    assert {metric.key: metric.value for metric in on_model} == pytest.approx(found)
    assert {metric.dataset_digest for metric in on_model} == {data.digest[:32]}
    assert [d.dataset.digest for d in run.inputs.dataset_inputs] == [data.digest[:32]]
    [folder] = client.list_artifacts(version.run_id, "evaluation")
    assert folder.path == f"evaluation/zoo-emoji-scenes-{data.digest[:8]}"
    files = {a.path.removeprefix(f"{folder.path}/") for a in client.list_artifacts(version.run_id, folder.path)}
    assert files == {"frontier.json", "frontier.png", "record.json", "samples.json"}
    assert list(run.data.metrics)[:2] == ["l0", "cosine"]  # in the order in which the page lists them
    assert is_evaluated(version, data)
    assert not is_evaluated(version, load_images("zoo:emoji-scenes", size=26))


def test_the_harness_reports_what_the_answers_say(evaluated, tiny_version, data) -> None:
    """The headline metrics, restated from the answers of the model in this process."""
    model = load(tiny_version.uri)
    rows = model.predict(pd.DataFrame({"image": [p.content() for p in data.images]}))
    metrics = evaluated.report.metrics
    assert metrics["l0"] == pytest.approx(rows["l0"].mean())
    assert metrics["cosine"] == pytest.approx(rows["cosine"].mean(), abs=1e-5)
    named = [{c["concept"] for c in concepts} for concepts in rows["concepts"]]
    hits = [p.concepts["colour"][0] in words for p, words in zip(data.images, named, strict=True)]
    assert metrics["recall_colour"] == pytest.approx(sum(hits) / len(hits))


def test_the_frontier_trades_words_for_fidelity(evaluated) -> None:
    frontier = evaluated.report.tables["frontier"]
    assert frontier["l1_penalty"].is_monotonic_increasing
    assert frontier["l0"].is_monotonic_decreasing
    assert frontier["cosine"].iloc[0] > frontier["cosine"].iloc[-1]
    assert frontier["gap_max"].max() <= 1e-6


def test_every_headline_metric_is_described() -> None:
    harness = evaluation_of("splice")
    for name in harness.headline:
        assert harness.metric(name).meaning
    assert harness.metric("recall_animals_all").better == "higher"
    assert harness.metric("nothing") is None


def test_a_version_runs_its_own_code(tiny_version, picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs is the code in the artifact: change it there, unnoticed, and the answer of the child changes."""
    monkeypatch.setattr("conceptry.registry.verify", lambda version: 0)
    location = MlflowClient().get_logged_model(tiny_version.model_id).artifact_location.removeprefix("file://")
    source = Path(location) / "code" / "conceptry" / "models" / "splice" / "explanation.py"
    text = source.read_text()
    frame = pd.DataFrame({"image": [png_bytes(picture)]})
    try:
        source.write_text(
            text.replace('"l0": self.decomposition.l0.tolist()', '"l0": (1000 + self.decomposition.l0).tolist()')
        )
        with VersionProcess(tiny_version.uri) as predict:
            assert predict(frame).rows["l0"][0] >= 1000
    finally:
        source.write_text(text)
    assert load(tiny_version.uri).predict(frame)["l0"][0] < 1000


def test_refusals_and_deaths_of_the_process_are_one_sentence(tiny_version) -> None:
    with VersionProcess(tiny_version.uri) as predict:
        with pytest.raises(ConceptryError, match="models:/tiny/1: row 0, column 'text': expected a text"):
            predict(pd.DataFrame({"text": [" "]}))
        answer = predict(pd.DataFrame({"text": ["a dog"]}))  # a refusal does not end it
        assert len(answer.rows) == 1
        assert answer.seconds > 0
        os.kill(predict._child.pid, signal.SIGKILL)
        with pytest.raises(ConceptryError, match="the process of models:/tiny/1 ended with code -9"):
            predict(pd.DataFrame({"text": ["a dog"]}))
    with (
        pytest.raises(ConceptryError, match="models:/tiny/1: device 'cuda:99' is not there"),
        VersionProcess(tiny_version.uri, "cuda:99"),
    ):
        pass


def test_versions_in_onnx_and_torch_agree(tiny_version, tiny_options, picture: Image.Image) -> None:
    onnx = register("splice", tiny_options | {"runtime": "onnx"}, name="tiny").version
    frame = pd.DataFrame({"image": [png_bytes(picture)] * 3})
    asked = {"return_embedding": True}
    torch_rows = InProcess(load(tiny_version.uri))(frame, asked).rows
    onnx_rows = InProcess(load(onnx.uri))(frame, asked).rows
    for ours, theirs in zip(torch_rows["embedding"], onnx_rows["embedding"], strict=True):
        assert sum(a * b for a, b in zip(ours, theirs, strict=True)) >= 0.9999
    text_rows = [InProcess(load(v.uri))(pd.DataFrame({"text": ["a dog"]}), asked).rows for v in (tiny_version, onnx)]
    assert text_rows[0]["embedding"][0] @ text_rows[1]["embedding"][0] >= 0.9999


def test_the_mlflow_evaluator(tiny_version, picture: Image.Image, tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "image": [png_bytes(picture.rotate(30 * i)) for i in range(6)],
            "label": ["cat", "dog"] * 3,
            "concepts": ["cat;red", "dog", "cat", "dog", "cat", "dog;blue"],
        }
    )

    def most_words(l0, targets, metrics) -> float:
        assert len(targets) == len(l0)
        assert metrics["cosine"].aggregate_results["cosine"] > 0
        return max(l0)

    asked = {"targets": "label", "model_type": "explainer", "evaluators": ["conceptry"]}
    with mlflow.start_run(experiment_id=MlflowClient().create_experiment("plugin")) as run:
        result = mlflow.models.evaluate(
            tiny_version.uri,
            table,
            extra_metrics=[mlflow.models.make_metric(eval_fn=most_words, greater_is_better=False)],
            evaluator_config={"conceptry": {"groups": "all"}},
            **asked,
        )
        for config, sentence in (
            ({"groups": ["x"]}, "'x' is no group of metrics here; expected one of basic"),
            ({"pos_label": 1}, "evaluator_config has 'pos_label'; the conceptry evaluator takes groups"),
        ):
            with pytest.raises(MlflowException, match=sentence):
                mlflow.models.evaluate(tiny_version.uri, table, evaluator_config={"conceptry": config}, **asked)
    assert 0 <= result.metrics["zero_shot"] <= 1
    assert "recall_concepts" in result.metrics
    logged = MlflowClient().get_run(run.info.run_id).data.metrics
    assert logged["cosine"] == pytest.approx(result.metrics["cosine"])
    assert logged["most_words"] == result.metrics["most_words"] == result.artifacts["samples"].content["l0"].max()
    assert set(result.artifacts) == {"frontier", "frontier.png", "samples"}
    assert result.artifacts["frontier.png"].content.size[0] > 300
    result.save(tmp_path)
    assert {path.name for path in (tmp_path / "artifacts").iterdir()} == {"frontier.csv", "frontier.png", "samples.csv"}
    version = find_version(tiny_version.uri)
    assert version.latest
    assert version.latest.metrics["most_words"] == result.metrics["most_words"]
    assert report_table(version, version.latest.data, version.latest.digest, "samples")["l0"].count() == 6


def test_the_evaluator_leaves_other_models_alone() -> None:
    """MLflow asks every installed evaluator where none is named; ours must not break that."""
    from sklearn.linear_model import LogisticRegression

    x = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
    y = [0, 0, 1, 1]
    with mlflow.start_run(experiment_id=MlflowClient().create_experiment("foreign")):
        logged = mlflow.sklearn.log_model(
            LogisticRegression().fit(x, y), name="foreign", pip_requirements=["scikit-learn"]
        )
        result = mlflow.models.evaluate(
            logged.model_uri, x.assign(y=y), targets="y", model_type="classifier", evaluators=["conceptry"]
        )
    assert result.metrics == {}


def test_data_that_says_nothing_of_a_method_logs_nothing(tiny_version, tmp_path: Path) -> None:
    before = find_version(tiny_version.uri).tags
    with pytest.raises(ConceptryError, match="no such folder"):
        evaluate(tiny_version.uri, f"folder:{tmp_path / 'absent'}")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    with pytest.raises(ConceptryError, match=r"broken/a\.png: not a picture"):
        evaluate(tiny_version.uri, f"folder:{tmp_path / 'broken'}")
    assert find_version(tiny_version.uri).tags == before


def test_the_record_of_an_evaluation(evaluated, data) -> None:
    (record,) = evaluation_records(evaluated.version)
    assert record["data"] == "zoo:emoji-scenes"
    assert (record["count"], record["unit"]) == (24, "pictures")
    assert record["digest"] == data.digest


def test_what_was_measured_stands_first_in_the_descriptions(evaluated, data) -> None:
    client, version = MlflowClient(), evaluated.version
    described = client.get_model_version(version.name, str(version.version)).description
    head, _, rest = described.partition("\n\n")
    l0, cosine = (evaluated.report.metrics[name] for name in ("l0", "cosine"))
    assert head.startswith(f"l0 {l0:.2f} ↓, cosine {cosine:.3f} ↑, gap_max ")
    assert head.endswith(" measured on 24 pictures of zoo:emoji-scenes (↑ higher, ↓ lower is better)")
    assert "`conceptry explain evaluated/1 picture.png`" in rest
    describe_measured(client, version, "l0 1.00 ↓", "other data")
    again = client.get_model_version(version.name, str(version.version)).description
    assert again == f"l0 1.00 ↓ measured on other data (↑ higher, ↓ lower is better)\n\n{rest}"
    assert client.get_run(version.run_id).data.tags["mlflow.note.content"] == again
    assert client.get_logged_model(version.model_id).tags["mlflow.note.content"] == again


def test_names_of_data_may_be_longer_than_mlflow_takes(evaluated, data) -> None:
    long = replace(data, name=without(data.name, [f"word{k}" for k in range(100)]), digest="f" * 64)
    assert len(long.name) > 500 >= len(long.logged_name)
    assert long.logged_name != replace(long, name=f"{long.name},more").logged_name
    report = Report()
    report.add_samples(["a", "b"], {"cosine_mean": [0.25, 0.75]})
    log_report(evaluated.version, long, report, ("basic",), revision=EVALUATION.revision, headlines={})
    version = find_version(evaluated.version.uri)
    assert is_evaluated(version, long, ("basic",))
    (record,) = (each for each in evaluation_records(version) if each["digest"] == long.digest)
    assert record["data"] == long.name  # by which it can be read again
    table = report_table(version, long.logged_name, long.logged_digest, "samples")
    assert table is not None
    assert table["cosine_mean"].tolist() == [0.25, 0.75]


def test_tables_are_replaced_as_a_whole(evaluated, data) -> None:
    client, version = MlflowClient(), evaluated.version
    frontier = report_table(version, data.name, data.logged_digest, "frontier")
    pd.testing.assert_frame_equal(frontier, evaluated.report.tables["frontier"], check_dtype=False, rtol=1e-6)
    for sample in ("01", "NA"):
        log_table(client, version.run_id, pd.DataFrame({"sample": [sample]}), "tables/one.json")
    assert load_dict(f"runs:/{version.run_id}/tables/one.json") == {"columns": ["sample"], "data": [["NA"]]}
