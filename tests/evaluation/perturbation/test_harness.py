"""The harness of perturbations against restatements from the answers, and its commands on a real store."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from conceptry.evaluation.cli.options import console
from conceptry.evaluation.harness import evaluation_of
from conceptry.evaluation.isolation.client import Answer, InProcess
from conceptry.evaluation.perturbation.client import PROBE, explain_cases
from conceptry.evaluation.perturbation.columns import amplified, pixels_of, probability
from conceptry.evaluation.perturbation.data import Case, grey_of, load_cases, load_reference
from conceptry.evaluation.perturbation.judges import judge
from conceptry.evaluation.perturbation.plots import draw_grid, draw_paths
from conceptry.evaluation.presenter import presenter_of
from conceptry.evaluation.splice.data import load_images
from conceptry.models.errors import ConceptryError, InputError
from conceptry.registry import load, register

DIGITS = {"model": "zoo:digits-robust", "classes": "10"}
PRESENTER = presenter_of("perturbation")


def explain(predict, files: Sequence[Path], params: Mapping[str, Any], targets: Sequence[str] = ()) -> list[dict]:
    return PRESENTER.records(predict, PRESENTER.check_request(files, targets, DIGITS), params)


def quiet(what: str, share: float) -> None:
    assert 0 <= share <= 1


@pytest.fixture(scope="module")
def predict(perturbation_version) -> InProcess:
    return InProcess(load(perturbation_version.uri))


@pytest.fixture(scope="module")
def standard(perturbation_version):
    options = {"model": "zoo:digits", "epsilon": 12.0}
    return register("perturbation", options, name=perturbation_version.name).version


@pytest.fixture(scope="module")
def data():
    return load_cases(None, DIGITS, 20, 0)


@pytest.fixture(scope="module")
def reports(predict, standard, data):
    harness = evaluation_of("perturbation")
    return [harness.evaluate(asked, data, quiet) for asked in (predict, InProcess(load(standard.uri)))]


@pytest.fixture(scope="module")
def digits(data, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("digits")
    for number, case in enumerate(data.cases[:3]):
        (folder / f"{number}.png").write_bytes(case.content or b"")
    return [folder / f"{number}.png" for number in range(3)]


def test_every_metric_is_described_and_the_headline_is_measured(reports) -> None:
    harness = evaluation_of("perturbation")
    for report in reports:
        assert set(harness.metrics) - set(report.metrics) == {"sensitivity_max", "output_change", "randomisation"}
        assert set(harness.headline) - set(report.metrics) == {"sensitivity_max", "randomisation"}
        assert set(report.figures) == {"counterfactuals", "probes"}
        assert not report.notes


def test_robust_and_standard_networks_read_at_a_glance(reports) -> None:
    robust, standard = (report.metrics for report in reports)
    assert robust["accuracy_attacked"] > standard["accuracy_attacked"] + 0.2
    assert robust["probe_knn"] > standard["probe_knn"] + 0.2
    assert robust["probe_margin"] > standard["probe_margin"]
    assert standard["accuracy"] > 0.9


def test_metrics_restated_from_the_answers(predict, reports, data) -> None:
    metrics, tables = reports[0].metrics, reports[0].tables
    cases = data.toward_others()
    rows = pd.DataFrame({"image": [c.content for c in cases], "target": [c.target for c in cases]})
    answers = predict(rows, {"mode": "counterfactual"}).rows
    for name in ("success", "changed", "l1", "l2", "loss", "steps", "gap"):
        assert metrics[name] == pytest.approx(answers[name].astype(float).mean()), name
    assert metrics["confidence"] == pytest.approx(np.exp(-answers["loss"]).mean())
    top = [after[0] for after in answers["after"]]
    assert [entry["class"] == case.target for entry, case in zip(top, cases, strict=True)] == list(answers["success"])
    before = [b[0]["class"] == case.label for b, case in zip(answers["before"], cases, strict=True)]
    assert metrics["accuracy"] == pytest.approx(np.mean(before))
    table = tables["counterfactuals"]
    assert list(table["after"]) == [entry["class"] for entry in top]
    assert list(table["sample"]) == [case.key for case in cases]
    names = [str(k % 10) for k in range(200)]
    probes = predict(pd.DataFrame({"target": names}), {"mode": "probe"}).rows
    grey = grey_of([Image.open(io.BytesIO(content)).convert("RGB") for content in probes["image"]])
    judged = judge(grey, names, load_reference("digits"))
    assert metrics["probe_knn"] == judged.knn
    assert metrics["probe_svc"] == judged.svc
    assert metrics["probe_margin"] == pytest.approx(judged.margin)
    assert metrics["probe_success"] == pytest.approx(probes["success"].mean())
    assert list(tables["probes"]["knn"]) == list(judged.knn_classes)


def test_the_attack_is_the_same_for_every_version(predict, reports, data) -> None:
    """It judges the network, so neither a budget of pixels nor early stopping of a version softens it."""
    registered = {"max_changed": 0.1, "confidence": 0.3, "optimizer": "l2_frank_wolfe", "epsilon": 1.0}

    def soft(rows: pd.DataFrame, params: Mapping[str, Any] | None = None) -> Answer:
        return predict(rows, registered | dict(params or {}))

    report = evaluation_of("perturbation").evaluate(soft, data, quiet)
    assert report.metrics["accuracy_attacked"] == reports[0].metrics["accuracy_attacked"]
    assert report.metrics["changed"] <= 0.1
    assert report.metrics["accuracy_attacked"] < report.metrics["accuracy"]


def test_what_data_does_not_tell_is_noted(predict, digits) -> None:
    harness = evaluation_of("perturbation")
    report = harness.evaluate(predict, harness.load_data(f"folder:{digits[0].parent}", DIGITS, None, 0), quiet)
    assert "accuracy" not in report.metrics
    assert report.metrics["success"] >= 0
    assert report.notes == [
        "3 counterfactuals have no target: they leave the class they are in",
        "no picture has a label: the accuracy of the network is left out",
        "the data names no class: probes are left out",
        "faithfulness is left out: no targeted counterfactual changes two pixels or more",
    ]
    rows = pd.DataFrame({"image": [digits[0].read_bytes(), digits[1].read_bytes()], "label": ["0", "1"]})
    report = harness.evaluate(predict, harness.table_data(rows, None, "mine", {}), quiet)
    assert report.metrics["probe_success"] > 0
    assert report.notes == ["mine has no pictures that judge probes: what 5-NN and SVC see is left out"]
    assert len(report.tables["probes"]) == 20


def test_refused_rows_are_named_by_their_place_among_all(predict, data) -> None:
    cases = [*data.cases[:3], Case(data.cases[0].image, target="nought")]
    with pytest.raises(ConceptryError, match="row 3, column 'target': zoo:digits-robust has no class 'nought'"):
        explain_cases(predict, cases, {"mode": "counterfactual"}, rows=2)


def test_records_of_pictures_targets_and_tables(predict, digits) -> None:
    params = {"steps": 5}
    records = explain(predict, digits[:2], params, ["8", "9"])
    assert [record["target"] for record in records] == ["8", "9", "8", "9"]
    assert [record["file"] for record in records] == [str(digits[k]) for k in (0, 0, 1, 1)]
    assert json.loads(json.dumps(records)) == records
    assert not any("mean" in record for record in records)
    start, result = pixels_of(records[0]["start"]).astype(int), pixels_of(records[0]["image"]).astype(int)
    np.testing.assert_array_equal(start, np.asarray(Image.open(digits[0]).convert("RGB")))
    assert records[0]["changed"] == pytest.approx((start != result).any(-1).mean())
    assert records[0]["l1"] == pytest.approx(abs(start - result)[..., 0].sum() / 255, abs=1e-4)

    table = digits[0].parent / "asked.csv"
    table.write_text("image,target\n,3\n0.png,7\n,4\n")
    probe, changed, other = explain(predict, [table], params)
    assert [r["probe"] for r in (probe, changed, other)] == [True, False, True]
    assert [r["target"] for r in (probe, changed, other)] == ["3", "7", "4"]
    alone = explain(predict, [], params, ["3", "4"])
    assert [r["image"] for r in alone] == [probe["image"], other["image"]]
    answers = explain_cases(predict, [Case(None, target=t) for t in "34" * 16], {**PROBE, **params})
    mean = np.rint(np.mean([np.asarray(e.image, dtype=float) for e in answers[::2]], axis=0))
    np.testing.assert_array_equal(pixels_of(alone[0]["mean"]), mean)
    assert alone[0]["mean_of"] == 16
    grey = explain(predict, [], params | {"start": "grey"}, ["3"])
    assert "mean" not in grey[0], "every probe from grey is the same"
    for records, start in ((grey, "from grey"), (alone, "from noise")):
        with console.capture() as printed:
            console.print(PRESENTER.describe(records))
        assert start in printed.get()


def test_pictures(predict, digits, tmp_path) -> None:
    params = {"steps": 5}
    probes = explain(predict, [], params)
    assert [record["target"] for record in probes] == [str(k) for k in range(10)]
    errors = explain(predict, digits[:2], params | {"mode": "explain_error"}, ["8"])
    assert [len(record["other"]) for record in errors] == [1, 1]
    both = [r | {"version": name} for name in ("robust", "standard") for r in probes + errors]
    assert PRESENTER.save(both, tmp_path / "grid.svg", None, {}) == [tmp_path / "grid.svg"]
    drawn = (tmp_path / "grid.svg").read_text()
    assert drawn.count("<image ") == 10 * 7 + 2 * 2 * 5  # start, and for each version result, change and mean
    assert "<!-- mistake -->" in drawn
    elsewhere = explain(predict, [], params | {"seed": 1}, ["3"])
    apart = [probes[3] | {"version": "one"}, elsewhere[0] | {"version": "other"}]
    PRESENTER.save(apart, tmp_path / "apart.svg", None, {})
    assert (tmp_path / "apart.svg").read_text().count("<image ") == 2 * 4  # a start of its own for each
    found = explain(predict, digits[:2], {"sparsest": True, "steps": 10}, ["8"])
    assert PRESENTER.save(found, tmp_path / "path.png", "path", {}) == [tmp_path / "path.png"]
    with Image.open(tmp_path / "path.png") as image:
        assert image.size[0] > 800
    with pytest.raises(InputError, match="there is no path: ask for the sparsest counterfactual"):
        PRESENTER.save(probes, tmp_path / "path.png", "path", {})
    files = PRESENTER.save(errors, tmp_path / "result.png", "results", {})
    assert [file.name for file in files] == ["result-0.png", "result-1.png"]
    assert files[0].read_bytes() == base64.b64decode(errors[0]["image"])
    with pytest.raises(InputError, match=r"results are written as .png, got x.svg"):
        PRESENTER.save(errors, Path("x.svg"), "results", {})


@pytest.mark.parametrize("size", [16, 224])
def test_a_change_of_few_pixels_is_drawn_where_it_is(size) -> None:
    delta = np.full((size, size, 3), 128, np.uint8)  # half of 255, rounded: no change
    delta[0, 0], delta[1, 1], delta[2, 2] = 255, 1, (255, 128, 128)
    drawn = amplified(delta)
    assert np.count_nonzero(drawn) == 3
    np.testing.assert_allclose([drawn[0, 0], drawn[1, 1], drawn[2, 2]], [1, -1, 1 / 3])
    assert not amplified(np.full((size, size, 3), 128, np.uint8)).any()


def test_the_words_below_a_narrow_grid_are_all_seen(predict) -> None:
    figure = draw_grid(explain(predict, [], {"steps": 2}, ["3"]))
    texts = [text for text in figure.texts if text.get_text()]
    assert any("noises" in text.get_text() for text in texts)
    for text in texts:
        box = text.get_window_extent()
        assert 0 <= box.x0 <= box.x1 <= figure.bbox.width
        assert 0 <= box.y0 <= box.y1 <= figure.bbox.height


def test_radii_below_a_path_do_not_overlap(predict, digits) -> None:
    (record,) = explain(predict, digits[:1], {"sparsest": True, "steps": 2}, ["8"])
    for scale, spread in ((1, 1), (600, 10)):  # of digits, and of photographs
        path = [p | {"epsilon": scale * spread ** (k % 2) * p["epsilon"]} for k, p in enumerate(record["path"])]
        figure = draw_paths([record | {"path": path, "epsilon": path[0]["epsilon"]}])
        figure.canvas.draw()
        low, high = sorted(figure.axes[0].get_xlim())
        labels = [label for label in figure.axes[0].get_xticklabels() if low <= label.get_position()[0] <= high]
        boxes = [label.get_window_extent() for label in labels]
        assert len(boxes) > 1
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_inversion_starts_from_the_picture_named_as_source(predict, digits) -> None:
    table = digits[0].parent / "invert.csv"
    table.write_text("image,source\n0.png,1.png\n")
    (record,) = explain(predict, [table], {"mode": "invert", "steps": 5})
    np.testing.assert_array_equal(pixels_of(record["start"]), np.asarray(Image.open(digits[1]).convert("RGB")))
    assert record["loss"] > 0


def test_probabilities_that_are_not_listed_have_a_bound() -> None:
    entries = [{"class": "a", "probability": 0.8}, {"class": "b", "probability": 0.15}]
    assert [probability(entries, name) for name in "abc"] == ["0.80", "0.15", "<0.15"]
    assert probability([{"class": "a", "probability": 0.001}], "c") == "<0.01"


def test_summarise(predict, data, tmp_path) -> None:
    harness = evaluation_of("perturbation")
    label = data.cases[0].label
    record = harness.summarise(predict, data, label, quiet)
    own = [case for case in data.cases if case.label == label]
    assert record["count"] == len(own)
    assert {entry["concept"] for entry in record["concepts"]} == set(data.classes) - {label}
    found = [entry["changed"] for entry in record["concepts"] if entry["changed"] is not None]
    assert found
    assert found == sorted(found)
    nearest = record["concepts"][0]
    rows = pd.DataFrame({"image": [c.content for c in own], "target": nearest["concept"]})
    answers = predict(rows, {"mode": "counterfactual", "sparsest": True}).rows
    flips = answers[answers["success"]]
    assert nearest["flipped"] == len(flips) / len(own)
    assert nearest["changed"] == pytest.approx(flips["changed"].mean())
    assert json.loads(json.dumps(record)) == record
    harness.draw_summary(record).savefig(tmp_path / "summary.png")
    assert (tmp_path / "summary.png").stat().st_size > 5000
    with pytest.raises(InputError, match="'z' is not one of the 9 labels"):
        harness.summarise(predict, data, "z", quiet)


class ThisProcess(InProcess):
    """A version without a process of its own, which takes seconds; the README's commands are run with them."""

    device_in_use = "cpu"

    def __init__(self, uri: str, device: str) -> None:
        super().__init__(load(uri))

    def __enter__(self) -> "ThisProcess":
        return self

    def __exit__(self, *_: object) -> None: ...


def test_commands(perturbation_version, standard, digits, tmp_path, command_line, monkeypatch) -> None:
    monkeypatch.setattr("conceptry.evaluation.isolation.client.VersionProcess", ThisProcess)
    uri, beside = perturbation_version.uri, standard.uri
    drawn = tmp_path / "grid.png"
    asked = ("explain", uri, str(digits[0]), "--target", "3", "--beside", beside, "--output", str(drawn))
    code, out, err = command_line(*asked)
    assert code == 0, err
    assert f"{standard.name}/{standard.version} (zoo:digits)" in out
    assert f"{standard.name}/{perturbation_version.version} (zoo:digits-robust)" in out
    with Image.open(drawn) as image:
        assert image.size[1] > image.size[0] / 2
    for arguments, sentence in (
        ((str(tmp_path / "absent.png"),), "absent.png: no such file"),
        ((str(digits[0]), "--view", "words"), "perturbation has no view 'words'; expected one of grid, path, results"),
        (tuple(["--target", "3"] * 61), "61 perturbations are asked for; at most 60 are made at once"),
        ((str(digits[0].parent / "asked.csv"), "--target", "3"), "row 0 has a target of its own; leave --target out"),
        (("--target", "3", "--beside", "absent/1"), "no registered model 'absent'"),
    ):
        code, _, err = command_line("explain", uri, *arguments)
        assert code == 2, err
        assert sentence in err


def test_the_data_of_splice_is_not_read_twice(digits) -> None:
    """Folders are those of the other harnesses, so that one folder serves all methods."""
    folder = f"folder:{digits[0].parent}"
    ours = load_cases(folder, DIGITS, None, 0)
    assert [case.content for case in ours.cases] == [p.content() for p in load_images(folder).images]
