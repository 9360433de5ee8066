"""The harness of milan against restatements from the answers, on units whose colour is known, and its commands."""

import json
from pathlib import Path
from unittest.mock import Mock

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from PIL import Image
from rich.console import Console

import colours
from conceptry.evaluation.harness import evaluation_of
from conceptry.evaluation.isolation.client import InProcess
from conceptry.evaluation.milan import metrics as m
from conceptry.evaluation.milan.client import (
    ANNOTATED,
    COLOURS,
    PLANTED,
    CaseDescription,
    UnitCase,
    describe_cases,
    own_case,
)
from conceptry.evaluation.milan.data import UnitData
from conceptry.evaluation.milan.metrics import clip_scores, emoji_caption, mean_embeddings
from conceptry.evaluation.mlflow_plugin import _params_of
from conceptry.evaluation.presenter import presenter_of
from conceptry.evaluation.reports import evaluation_records
from conceptry.evaluation.units.parts_of_speech import TAGGER_THERE
from conceptry.models.encoders.load import load_encoder
from conceptry.models.encoders.protocol import encode_images, encode_texts
from conceptry.models.errors import ConceptryError, InputError
from conceptry.registry import load, register
from conceptry.registry.versions import find_version

EVALUATION, PRESENTER = evaluation_of("milan"), presenter_of("milan")
ASKED = {"first": [0, 1, 2, 3], "7": [2, 5, 11]}


def quiet(what: str, share: float) -> None:
    assert 0 <= share <= 1


def case(group: str, key: str, colour: str, truth: str | None, k: int = 4) -> UnitCase:
    """A unit that responds to a colour; where `truth` is another one, no description of the colour is right."""
    drawn = [colours.scene(colour, seed) for seed in range(k)]
    images, masks = np.stack([image for image, _ in drawn]), np.stack([mask for _, mask in drawn])
    pixels = tuple({colour: mask[0] != 0, "cat": mask[0] == 0} for mask in masks)
    words = frozenset(truth.split()) if truth else None
    references = (f"{truth} areas", f"the colour {truth}") if group == ANNOTATED else ()
    return UnitCase(group, key, images=images, masks=masks, references=references, truth=words, segmentations=pixels)


@pytest.fixture(scope="module")
def predict(milan_version) -> InProcess:
    return InProcess(load(milan_version.uri))


@pytest.fixture(scope="module")
def data() -> UnitData:
    cases = [
        case(ANNOTATED, "a", "red", "red"),
        case(ANNOTATED, "b", "green", "green"),
        case(ANNOTATED, "c", "blue", "blue dog"),
        case(PLANTED, "d", "red", "red"),
        case(PLANTED, "e", "blue", "blue"),
        case(PLANTED, "f", "green", "cat"),
        case(COLOURS, "g", "green", "green"),
    ]
    controls = [case(PLANTED, f"random {key}", "red", truth) for key, truth in (("d", "red"), ("e", "blue"))]
    return UnitData("made", "0" * 64, cases, controls)


@pytest.fixture(scope="module")
def report(predict, data):
    return EVALUATION.evaluate(predict, data, quiet)


def test_every_metric_is_what_the_answers_say(report, data) -> None:
    said = report.tables["descriptions"]
    assert said["description"].tolist() == ["Red", "Green", "Blue", "Red", "Blue", "Green", "Green"]
    assert said["right"].tolist() == [True, True, False, True, True, False, True]
    found = report.metrics
    assert (found["property_set"], found["property_set_single"]) == (0, 1)
    assert found["planted"] == pytest.approx(2 / 3)
    assert found["planted_random"] == 0.5
    assert found["colour_units"] == 1
    assert (found["vocabulary"], found["length"], found["inactive"]) == (3, 1, 0)
    assert found["units_per_second"] > 0
    # Two of three descriptions are a word of their references, which is half of the best one's two words.
    assert found["rouge1"] == pytest.approx(np.mean([2 / 3, 2 / 3, 0.5]), abs=0.01)
    assert (found["net_dissect_property_set"], found["net_dissect_property_set_single"]) == (0, 1)
    assert found["net_dissect_planted"] == pytest.approx(2 / 3)
    assert said["net_dissect"].tolist() == ["red", "green", "blue", "red", "blue", "green", "green"]
    assert set(found) - {"bertscore"} <= set(EVALUATION.metrics)
    assert set(EVALUATION.headline) <= set(EVALUATION.metrics)


def test_chance_is_that_of_other_units_truths(report, predict, data) -> None:
    texts = {"d": "red", "e": "blue", "f": "green"}
    truths = {"d": "red", "e": "blue", "f": "cat"}
    # A derangement of three units gives each another one's truth: none of them names it.
    assert all(texts[a] != truths[b] for a in texts for b in truths if a != b)
    assert report.metrics["planted_shuffled"] == 0
    assert m.controls(describe_cases(predict, data.cases[3:4]), []) == {}


def test_the_clip_score_is_the_mean_cosine_with_masked_exemplars(report, data) -> None:
    encoder = load_encoder("zoo:emoji-clip", "cpu")
    scores = []
    for c, word in zip(data.cases, ("red", "green", "blue", "red", "blue", "green", "green"), strict=True):
        text = encode_texts(encoder, [f"a {word} background"])[0].double()
        cosines = []
        for image, mask in zip(c.images, c.masks, strict=True):
            seen = np.where(mask[0][..., None] != 0, image.transpose(1, 2, 0), 0).astype(np.uint8)
            v = encode_images(encoder, [Image.fromarray(seen)])[0].double()
            cosines.append(float(v @ text / v.norm() / text.norm()))
        scores.append(np.mean(cosines))
    assert report.metrics["clip_score"] == pytest.approx(np.mean(scores), abs=1e-5)
    means = mean_embeddings("zoo:emoji-clip", [(c.images, c.masks) for c in data.cases[:2]])
    assert clip_scores("zoo:emoji-clip", ["", "nothing known"], means) == [0, 0]


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("Dogs or cats", "a cat and a dog"),
        ("Striped red areas", "a red striped background"),
        ("an apple on orange backgrounds", "an apple on an orange background"),
        ("Nothing in particular", ""),
    ],
)
def test_descriptions_are_put_in_words_that_the_emoji_encoder_reads(text: str, caption: str) -> None:
    assert emoji_caption(text) == caption


def test_figures_and_notes_of_a_report(report) -> None:
    assert set(report.figures) == {"scores", "units"}
    drawn = " ".join(text.get_text() for text in report.figures["units"].texts)
    assert "Orange: not what the unit is known to be." in drawn
    assert "a: red" in drawn
    bars = [text.get_text() for text in report.figures["scores"].texts]
    assert bars.count("this version") == 4
    assert "0.67" in bars
    assert any("bertscore is left out" in note for note in report.notes)


def test_own_units_are_measured_without_truth(predict, milan_version) -> None:
    own = EVALUATION.load_data("units:own", milan_version.params, None, 0)
    assert {(c.layer, c.unit) for c in own.cases} == {(layer, unit) for layer in ASKED for unit in ASKED[layer]}
    assert own.encoder == milan_version.params["clip_encoder"]  # an untrained one, whose score says nothing
    own = UnitData(own.name, own.digest, own.cases, (), "zoo:emoji-clip", own.title)
    report = EVALUATION.evaluate(predict, own, quiet)
    assert report.metrics["inactive"] == pytest.approx(1 / 7)
    assert report.metrics["vocabulary"] == 3
    assert report.metrics["clip_score"] > 0
    assert not {"bleu", "planted", "net_dissect_planted"} & set(report.metrics)
    assert set(report.figures) == {"units"}
    assert any(note.startswith("activations is left out: no network of the units of") for note in report.notes)
    assert set(report.tables["descriptions"]["unit"]) == {0, 1, 2, 3, 5, 11}


def test_units_of_a_version_without_a_dual_encoder_get_no_clip_score(predict, milan_version) -> None:
    params = {name: value for name, value in milan_version.params.items() if name != "clip_encoder"}
    report = EVALUATION.evaluate(predict, EVALUATION.load_data("units:own", params, 2, 0), quiet)
    assert "clip_score" not in report.metrics
    assert "clip_score is left out: the version has no clip_encoder, or it is not known here" in report.notes


def test_records_come_with_exemplars_and_the_clearest_where_many_are_asked(predict, monkeypatch) -> None:
    asked = PRESENTER.check_request([], ["first:0-2", "7:5"], json_params())
    records = PRESENTER.records(predict, asked, {})
    assert [(r["layer"], r["unit"], r["description"]) for r in records] == [
        ("first", 0, "Red"), ("first", 1, "Green"), ("first", 2, "Blue"), ("7", 5, "Red")
    ]  # fmt: skip
    assert all(len(r["images"]) == len(r["masks"]) == colours.K for r in records)
    json.dumps(records)
    monkeypatch.setattr("conceptry.evaluation.milan.presenter.SHOWN", 3)
    all_units = PRESENTER.check_request([], [], json_params())
    assert all_units.targets == ["first:0-3", "7:2-2", "7:5-5", "7:11-11"]
    clear = PRESENTER.records(predict, all_units, {})
    assert sorted(r["description"] for r in clear) == ["Blue", "Green", "Red"]  # no description twice, no inactive unit
    assert {r["layer"] for r in clear} == {"first", "7"}


def json_params() -> dict[str, str]:
    return {"units": json.dumps({"first": [[0, 3]], "7": [[2, 2], [5, 5], [11, 11]]})}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "frist:0",
            "there is no layer 'frist' in this version; expected LAYER or LAYER:UNIT with a layer such as first",
        ),
        ("first:4", "layer first has no unit 4 in this version; expected 0 to 3"),
        ("first:2-5", "layer first has no unit 4 in this version; expected 0 to 3"),
        ("7:2-3", "layer 7 has no unit 3 in this version; expected 2, 5, 11"),
        ("first:2-1", "--target first:2-1: expected LAYER:FIRST-LAST in ascending order"),
        ("first:x", "there is no layer 'first:x' in this version"),
    ],
)
def test_targets_that_the_version_does_not_have(target: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        PRESENTER.check_request([], [target], json_params())
    assert message in str(refused.value)


def test_tables_of_units(predict, tmp_path: Path) -> None:
    table = tmp_path / "units.csv"
    table.write_text("layer,unit,note\n7,11,x\nfirst,3,y\n")
    asked = PRESENTER.check_request([table], [], json_params())
    assert asked.targets == []
    records = PRESENTER.records(predict, asked, {})
    assert [(r["layer"], r["unit"], r["description"], r["active"]) for r in records] == [
        ("7", 11, "Blue", True), ("first", 3, "", False)
    ]  # fmt: skip
    for content, message in (
        ("layer\nfirst\n", "has no column unit; it has layer"),
        ("layer,unit\n", "holds no rows"),
        ("layer,unit\nfirst,one\n", "line 2: expected the number of a unit, got 'one'"),
        ("layer,unit\nfirst,9\n", "line 2: layer first has no unit 9 in this version"),
    ):
        table.write_text(content)
        with pytest.raises(InputError, match=message):
            PRESENTER.check_request([table], [], json_params())
    with pytest.raises(InputError, match=r"expected a table \(.csv\) of layer and unit, or --target"):
        PRESENTER.check_request([tmp_path / "cat.png"], [], json_params())


def test_the_row_that_a_version_refuses_is_the_one_among_all_units(predict) -> None:
    cases = [own_case("first", unit) for unit in (0, 1, 99)]
    with pytest.raises(ConceptryError, match=r"row 2, column 'unit'.*no unit 99"):
        describe_cases(predict, cases, rows=2)


def test_a_summary_counts_the_units_of_each_word_by_layer(predict, milan_version) -> None:
    own = EVALUATION.load_data("units:own", milan_version.params, None, 0)
    record = EVALUATION.summarise(predict, own, None, quiet)
    assert record["data"] == f"units of {milan_version.params['model']}"
    assert (record["count"], record["inactive"], record["descriptions"]) == (7, 1, 3)
    words = {entry["concept"]: entry for entry in record["concepts"]}
    assert {word: entry["units"] for word, entry in words.items()} == {"red": 2, "green": 2, "blue": 2}
    assert words["red"]["layers"] == {"first": 1, "7": 1}
    assert words["red"]["share"] == pytest.approx(2 / 6)
    by_layer = {row["layer"]: row for row in record["wording"]}
    assert [(row["units"], row["words"], row["lengths"]) for row in by_layer.values()] == [
        (3, 1, {"1": 3}), (3, 1, {"1": 3})
    ]  # fmt: skip
    assert all(bool(row["parts"]) == TAGGER_THERE for row in record["wording"])
    one = EVALUATION.summarise(predict, own, "7", quiet)
    assert (one["count"], one["label"]) == (3, "7")
    assert EVALUATION.draw_summary(one).axes[0].texts[0].get_text() == "1   33% of the units"
    assert EVALUATION.draw_summary(record).legends
    assert not EVALUATION.draw_summary(one).legends
    with pytest.raises(InputError, match="'8' is not one of the 2 labels of units:own; near: "):
        EVALUATION.summarise(predict, own, "8", quiet)


def test_a_summary_says_how_units_are_described_by_layer(predict, monkeypatch) -> None:
    texts = {"a": "Red", "b": "dogs on red backgrounds", "c": "two red dogs that are near one of many trees"}
    cases = [UnitCase(key, key, "x", 0) for key in texts]
    said = [CaseDescription("x", 0, texts[case.key], case=case, seconds=0.1) for case in cases]
    monkeypatch.setattr("conceptry.evaluation.milan.summary.describe_cases", lambda *_, **__: said)
    record = EVALUATION.summarise(predict, UnitData("made", "0" * 64, cases), None, quiet)
    assert [row["words"] for row in record["wording"]] == [1, 4, 10]
    console = Console(width=200, record=True)
    console.print(EVALUATION.describe_summary(record))
    shown = console.export_text()
    assert "6 or more" in shown
    assert ("pip install 'conceptry[language]'" in shown) != TAGGER_THERE
    if TAGGER_THERE:
        assert record["wording"][1]["parts"] == {"adjectives": 1, "nouns": 1, "verbs": 0, "prepositions": 1}
        assert record["wording"][2]["parts"]["verbs"] == 1


def test_data_from_tables_of_mlflow(predict) -> None:
    table = pd.DataFrame({"layer": ["first", "first"], "unit": [0, 1], "reference": ["red", None]})
    found = EVALUATION.table_data(table, None, "frame", {})
    assert [c.references for c in found.cases] == [("red",), ()]
    report = EVALUATION.evaluate(predict, found, quiet)
    assert report.metrics["rouge1"] == 1
    assert "clip_score is left out: the version has no clip_encoder, or it is not known here" in report.notes
    labelled = EVALUATION.table_data(
        table.drop(columns="reference"), ["red", "green"], "frame", {"clip_encoder": "zoo:emoji-clip"}
    )
    assert [c.references for c in labelled.cases] == [("red",), ("green",)]
    assert labelled.encoder == "zoo:emoji-clip"
    with pytest.raises(InputError, match="expected the columns layer, unit and maybe reference, got no unit: layer"):
        EVALUATION.table_data(table[["layer"]], None, "frame", {})
    for unit in ("x", 2.5, -1, float("nan")):
        with pytest.raises(InputError, match=f"frame, row 0: expected the number of a unit, got '{unit}'"):
            EVALUATION.table_data(pd.DataFrame({"layer": ["a"], "unit": [unit]}), None, "frame", {})


def test_mlflow_evaluates_units_of_the_network(milan_version) -> None:
    table = pd.DataFrame({"layer": ["first", "7"], "unit": [0, 2], "reference": ["red", "green"]})
    with mlflow.start_run(experiment_id=MlflowClient().create_experiment("units")):
        found = mlflow.models.evaluate(milan_version.uri, table, model_type="explainer", evaluators=["conceptry"])
    assert found.metrics["rouge1"] == 1
    assert ("clip_score" in found.metrics) == ("clip_encoder" in milan_version.params)


def test_mlflow_evaluates_a_copy_that_the_store_does_not_know(milan_version, tmp_path: Path, monkeypatch) -> None:
    copy = mlflow.artifacts.download_artifacts(milan_version.uri, dst_path=str(tmp_path))
    loaded = mlflow.pyfunc.load_model(copy)
    refused = MlflowException("Logged model not found", error_code=RESOURCE_DOES_NOT_EXIST)
    monkeypatch.setattr(MlflowClient, "get_logged_model", Mock(side_effect=refused))
    assert _params_of(loaded) == {}
    monkeypatch.undo()
    assert _params_of(loaded).items() <= milan_version.params.items()
    assert _params_of(loaded)["clip_encoder"] == milan_version.params["clip_encoder"]


def test_commands_on_a_real_store(milan_version, milan_options, command_line, tmp_path: Path, monkeypatch) -> None:
    other = register("milan", milan_options | {"strategy": "greedy"}, name=milan_version.name).version
    uris = [f"{v.name}/{v.version}" for v in (milan_version, other)]
    for uri in uris:
        code, out, _ = command_line("evaluate", uri, "--data", "units:own")
        assert code == 0
        assert "7 units of units:own" in out
    records = evaluation_records(find_version(milan_version.uri))
    (record,) = (each for each in records if (each["data"], each["count"]) == ("units:own", 7))
    assert record["groups"] == ["basic", "activations"]  # the second finds nothing, and says why
    sentence = "activations is left out: what pictures of squares show is not known; give others by --data folder:"
    assert any(note.startswith(sentence) for note in record["notes"])
    code, out, _ = command_line("compare", milan_version.name)
    assert code == 0
    assert "strategy" in out
    assert "greedy" in out
    assert "units_per_second" in out
    for suffix in (".png", ".csv"):
        output = tmp_path / f"units{suffix}"
        arguments = ("--target", "first:0", "--target", "7:2", "--output", str(output), "--beside", uris[1])
        code, out, err = command_line("explain", uris[0], *arguments)
        assert (code, output.is_file()) == (0, True), err
        assert "Green" in out
    rows = pd.read_csv(tmp_path / "units.csv")
    assert rows["description"].tolist() == ["Red", "Green"] * 2
    assert rows["version"].nunique() == 2
    code, _, err = command_line("explain", uris[0], "--target", "second:0")
    assert (code, "there is no layer 'second'" in err) == (2, True)
    output = tmp_path / "words.svg"
    code, out, _ = command_line(
        "summarise", uris[0], "--data", "units:own", "--label", "first", "--output", str(output)
    )
    assert (code, output.is_file()) == (0, True)
    assert "first (units of palette): 4 units" in out
    code, _, err = command_line("summarise", uris[0], "--data", "units:mine")
    assert (code, "unknown data 'units:mine'; expected one of zoo:emoji-units" in err) == (2, True)
