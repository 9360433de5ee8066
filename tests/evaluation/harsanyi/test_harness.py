"""The harness of Harsanyi interactions against literal restatements, and its commands on a real store."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from conceptry.evaluation.harness import agreement, evaluate, evaluation_of
from conceptry.evaluation.harsanyi import metrics as m
from conceptry.evaluation.harsanyi.data import load_samples, table_samples
from conceptry.evaluation.isolation.client import InProcess
from conceptry.evaluation.presenter import presenter_of
from conceptry.evaluation.reports import report_table
from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.harsanyi.interactions.and_or import inverse_or
from conceptry.models.harsanyi.interactions.moebius import inverse_moebius, moebius, subset_sizes
from conceptry.registry import compare, load, register
from conceptry.registry.descriptions import describe_compared

TABLE = {"model": "classifier:x", "modality": "table"}


@pytest.fixture(scope="module")
def rows_file(tiny_rows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    pd.DataFrame(tiny_rows).assign(label=["x", "y", "x"]).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def evaluated(harsanyi_version, tiny_classifier, rows_file):
    versions = [harsanyi_version]
    for options in ({"baseline": "median"}, {"interactions": "and-or"}, {"engine": "sampled"}):
        options = options | {"model": f"classifier:{tiny_classifier}"}
        versions.append(register("harsanyi", options, name="tiny-harsanyi").version)
    return [evaluate(version.uri, f"csv:{rows_file}") for version in versions]


def test_every_metric_is_described_and_the_headline_is_measured(evaluated) -> None:
    harness = evaluation_of("harsanyi")
    for done in evaluated:
        assert set(done.report.metrics) <= set(harness.metrics)
        assert set(harness.headline) - set(done.report.metrics) <= {"l1_ratio", "sensitivity_max", "randomisation"}
        assert done.report.metrics["residual_max"] < 1e-9
        assert done.report.metrics["players"] == 5
        assert done.report.metrics["model_calls"] == 32
        orders = [v for k, v in done.report.metrics.items() if k.startswith("salient_order")]
        assert sum(orders) == pytest.approx(done.report.metrics["salient"])


def test_sparse_answers_are_measured_as_those_over_all_subsets(evaluated) -> None:
    """Five players are fewer than the budget, so what was sampled is the same game."""
    exact, *_, sampled = (done.report.metrics for done in evaluated)
    assert sampled["r2_terms"] == sampled["believable"] == 1.0
    for name in set(exact) - {"seconds"}:
        assert sampled[name] == pytest.approx(exact[name], rel=1e-6, abs=1e-9), name
    for name in ("error_curve", "orders"):
        pd.testing.assert_frame_equal(evaluated[-1].report.tables[name], evaluated[0].report.tables[name])


def test_versions_compare_and_agree(evaluated, command_line) -> None:
    comparison = compare("tiny-harsanyi")
    assert {"baseline", "interactions"} <= set(comparison.differing)
    assert comparison.comparable
    agreed = agreement(comparison)
    assert agreed is not None
    np.testing.assert_allclose(np.diag(agreed), 1.0)
    np.testing.assert_allclose(agreed, agreed.T)
    tables = [report_table(d.version, d.data.name, d.data.logged_digest, "patterns") for d in evaluated[:2]]
    assert tables[0] is not None
    assert tables[1] is not None
    shares = []
    for sample in tables[0]["sample"].unique():
        a, b = ({(r.kind, r.players) for r in t[t["sample"] == sample].itertuples()} for t in tables)
        shares.append(len(a & b) / len(a | b))
    assert agreed.loc[1, 2] == pytest.approx(np.mean(shares))
    code, out, _ = command_line("compare", "tiny-harsanyi")
    assert code == 0
    assert "agreement of the kept patterns" in out
    code, out, _ = command_line("compare", "tiny-harsanyi", "--json")
    assert json.loads(out)[0]["scores"]["kept"]["low"] is not None
    assert json.loads(out)[0]["agreement"]["2"] == pytest.approx(agreed.loc[1, 2])


def test_the_page_of_a_comparison_asks_versions_and_is_linked(evaluated, command_line, tmp_path) -> None:
    one, other = (done.version for done in evaluated[:2])
    page = tmp_path / "compare.html"
    code, _, err = command_line("compare", one.uri, other.uri, "--output", str(page), "--samples", "1")
    assert (code, f"saved {page}" in err) == (0, True), err
    text = page.read_text(encoding="utf-8")
    assert text.count('<article class="sample"') == 1
    assert text.count("at the baseline") >= 2  # said by each of the versions
    client = MlflowClient()
    (folder,) = client.list_artifacts(other.run_id, "evaluation")
    file = f"{folder.path}/compare.html"
    assert file in {entry.path for entry in client.list_artifacts(other.run_id, folder.path)}
    described = client.get_model_version(other.name, str(other.version)).description
    address = f"runs/{other.run_id}/artifacts/{file}"
    assert address in described.splitlines()[2]
    assert described.splitlines()[0].endswith("(↑ higher, ↓ lower is better)")
    assert address in client.get_registered_model(other.name).description
    before = described
    describe_compared(client, [one, other], file)
    assert client.get_model_version(other.name, str(other.version)).description == before
    code, _, err = command_line("compare", one.uri, "--output", str(tmp_path / "x.png"))
    assert (code, err.strip()) == (2, f"conceptry: --output must end in .html, got {tmp_path / 'x.png'}")


@pytest.mark.parametrize("both", [False, True])
def test_the_error_curve_is_that_of_the_strongest_patterns(both: bool) -> None:
    rng = np.random.default_rng(0)
    v = rng.normal(size=16)
    a = moebius(v)
    i, o = a, None
    if both:
        o = rng.normal(size=16)
        o[0] = 0.0
        i = np.concatenate([moebius(v - inverse_or(o)), o])
    errors, ratios = m.error_curve(v, i, 40)
    strength = np.abs(i)
    strength[0] = 0
    order = np.argsort(-strength, kind="stable")
    for count in (0, 1, 5, 15):
        kept = np.zeros_like(i)
        kept[order[:count]] = i[order[:count]]
        kept[0] = i[0]
        recomposed = inverse_moebius(kept[:16]) + (inverse_or(kept[16:]) if both else 0.0)
        assert errors[count] == pytest.approx(((v - recomposed) ** 2).sum() / (v**2).sum())
        rest = i[order[count:]]
        rest = abs(rest.sum() - (i[0] if 0 in order[count:] else 0.0))
        assert ratios[count] == pytest.approx(strength[order[:count]].sum() / (strength[order[:count]].sum() + rest))
    assert errors[-1] == pytest.approx(0.0, abs=1e-12)
    assert ratios[-1] == pytest.approx(1.0)


def test_pure_metrics() -> None:
    i = np.array([50.0, 1.0, -0.04, 0.06, 0.0, 0.0, 0.0, -0.5])
    np.testing.assert_array_equal(m.salient(i), [1, 3, 7])
    sizes = subset_sizes(3)
    np.testing.assert_array_equal(m.salient_by_order(i, sizes, 3), [0, 1, 1, 1])
    both, twice = np.concatenate([i, [0.0, *i[1:]]]), np.concatenate([sizes, sizes])
    np.testing.assert_array_equal(m.salient_by_order(both, twice, 3), [0, 2, 2, 2])
    assert m.residual(np.array([0.0, 1.0, 1.0, 4.0]), np.array([0.0, 1.0, 1.0, 1.0])) == pytest.approx(0.25)
    assert m.residual(np.array([0.0, 1.0, 1.5, 4.0]), moebius(np.array([0.0, 1.0, 1.5, 4.0]))) < 1e-15
    assert m.jaccard({1, 2}, {2, 3}) == pytest.approx(1 / 3)
    assert m.jaccard((), ()) == 1.0


def test_data(rows_file, tmp_path, tiny_rows) -> None:
    data = load_samples(f"csv:{rows_file}", TABLE, None, 0)
    assert (len(data), data.samples[1].label, data.unit) == (3, "y", "samples")
    assert dict(data.samples[0].values) == tiny_rows[0]
    assert data.digest == load_samples(f"csv:{rows_file}", TABLE, None, 0).digest
    assert len(load_samples(f"csv:{rows_file}", TABLE, 2, 0)) == 2
    assert table_samples(pd.DataFrame(tiny_rows), ["x", "y", "x"], "t").digest == data.digest
    with pytest.raises(InputError, match=r"rows.csv holds samples of the kind table; classifier:x takes text"):
        load_samples(f"csv:{rows_file}", TABLE | {"modality": "text"}, None, 0)
    with pytest.raises(InputError, match="no data is known for classifier:x; name it: zoo:NAME"):
        load_samples(None, TABLE, None, 0)
    with pytest.raises(InputError, match="unknown data 'wine'"):
        load_samples("wine", TABLE, None, 0)
    with pytest.raises(InputError, match="no such file"):
        load_samples(f"csv:{tmp_path / 'absent.csv'}", TABLE, None, 0)
    (tmp_path / "empty.csv").write_text("age\n")
    with pytest.raises(InputError, match="holds no rows"):
        load_samples(f"csv:{tmp_path / 'empty.csv'}", TABLE, None, 0)
    (tmp_path / "texts.csv").write_text('text,label\n"one\nfilm",good\nanother,\n')
    texts = load_samples(f"csv:{tmp_path / 'texts.csv'}", {"model": "zoo:movie-reviews", "modality": "text"}, None, 0)
    assert [(s.values, s.label) for s in texts.samples] == [
        ({"text": "one\nfilm"}, "good"),
        ({"text": "another"}, None),
    ]
    points = {"model": "models:/cloud/1", "modality": "points"}
    np.save(tmp_path / "clouds.npy", np.arange(18.0).reshape(2, 3, 3))
    clouds = load_samples(f"npy:{tmp_path / 'clouds.npy'}", points, None, 0)
    assert [sample.values["points"][0] for sample in clouds.samples] == [[0.0, 1.0, 2.0], [9.0, 10.0, 11.0]]
    np.save(tmp_path / "flat.npy", np.zeros(4))
    with pytest.raises(InputError, match=r"expected points \(points, 3\) or .clouds, points, 3., got float64 \(4,\)"):
        load_samples(f"npy:{tmp_path / 'flat.npy'}", points, None, 0)
    np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(InputError, match="not an array of numbers in numpy's format"):
        load_samples(f"npy:{tmp_path / 'objects.npy'}", points, None, 0)
    robust = {"model": "zoo:digits-16-robust", "modality": "image"}
    assert load_samples(None, robust, 5, 0).digest == load_samples("zoo:digits-16", robust, 5, 0).digest
    wine = load_samples("zoo:wine", {"model": "zoo:wine", "modality": "table"}, 5, 0)
    assert len(wine) == 5
    assert {sample.label for sample in wine.samples} <= {"Barolo", "Grignolino", "Barbera"}


@pytest.fixture(scope="module")
def predict(harsanyi_version) -> InProcess:
    return InProcess(load(harsanyi_version.uri))


def test_explain_prints_and_draws(harsanyi_version, rows_file, tmp_path, command_line) -> None:
    uri = harsanyi_version.uri
    code, out, err = command_line("explain", uri, str(rows_file), "--output", str(tmp_path / "graph.svg"))
    assert (code, out.count("patterns kept")) == (0, 3), err
    files = [tmp_path / f"graph-{k}.svg" for k in range(3)]
    assert all(file.read_text().startswith("<?xml") for file in files)
    code, _, err = command_line("explain", uri, str(rows_file), "--output", str(tmp_path / "x.png"), "--view", "words")
    assert (code, err) == (2, "conceptry: harsanyi has no view 'words'; expected one of graph, patterns, explanation\n")
    code, _, err = command_line("explain", uri, str(tmp_path / "absent.csv"))
    assert code == 2
    assert re.search(r"absent.csv: no such file", err)
    many = tmp_path / "many.csv"
    many.write_text("\n".join([*rows_file.read_text().splitlines(), *["1,1,1,1,a,x"] * 20]) + "\n")
    code, _, err = command_line("explain", uri, str(many))
    assert (code, err) == (2, "conceptry: the files hold 23 samples; at most 20 are explained at once\n")


def test_records_and_their_pictures(predict, rows_file, tmp_path) -> None:
    one = tmp_path / "one.csv"
    one.write_text("\n".join(rows_file.read_text().splitlines()[:2]) + "\n")
    presenter = presenter_of("harsanyi")
    records = presenter.records(predict, presenter.check_request([one], (), TABLE), {"target": "mid"})
    assert json.loads(json.dumps(records)) == records
    assert records[0]["target"] == "mid"
    assert len(records[0]["patterns"]) in (records[0]["n_kept"], records[0]["n_kept"] - 1)  # without the empty one
    for name, view in (("p.png", "patterns"), ("e.png", "explanation"), ("g.html", None)):
        assert presenter.save(records, tmp_path / name, view, {}) == [tmp_path / name]
        assert (tmp_path / name).stat().st_size > 5000


def test_styles(predict, rows_file, tmp_path) -> None:
    presenter = presenter_of("harsanyi")
    records = presenter.records(predict, presenter.check_request([rows_file], (), TABLE), {})[:1]
    style = {"title": "mine", "highlight": "rank-1", "colours": "simple", "max_patterns": 5, "rows": 2}
    presenter.save(records, tmp_path / "styled.svg", "graph", style)
    assert ">mine</text>" in (tmp_path / "styled.svg").read_text()
    with pytest.raises(InputError, match="an HTML page has no style 'rows'; expected title"):
        presenter.save(records, tmp_path / "page.html", None, {"rows": 2})
    with pytest.raises(InputError, match="the view patterns has no style 'rows'; expected none"):
        presenter.save(records, tmp_path / "x.png", "patterns", {"rows": 2})
    with pytest.raises(InputError, match="the style rows must be of type int, got '2'"):
        presenter.save(records, tmp_path / "x.png", "graph", {"rows": "2"})


def test_a_bad_sample_is_named_by_its_number(predict, rows_file, tmp_path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text(rows_file.read_text().replace("4.0,-2.0", "4.0,"))
    data = load_samples(f"csv:{bad}", TABLE, None, 0)
    with pytest.raises(ConceptryError, match="sample 1: column 'weight' is empty"):
        evaluation_of("harsanyi").evaluate(predict, data, lambda what, share: None)


def test_summarise(predict, rows_file, tmp_path) -> None:
    harness = evaluation_of("harsanyi")
    data = load_samples(f"csv:{rows_file}", TABLE, None, 0)
    record = harness.summarise(predict, data, "x", lambda what, share: None)
    assert record["count"] == 2
    weights = [entry["weight"] for entry in record["concepts"]]
    assert weights == sorted(weights, reverse=True)
    answers = [predict(pd.DataFrame([dict(data.samples[k].values)])).rows["patterns"][0] for k in (0, 2)]
    strongest = record["concepts"][0]
    patterns = [(" AND ".join(p["players"]), p["effect"]) for answer in answers for p in answer]
    effects = [effect for name, effect in patterns if name == strongest["concept"]]
    assert strongest["weight"] == pytest.approx(sum(map(abs, effects)) / 2)
    assert strongest["effect"] == pytest.approx(np.mean(effects))
    assert strongest["share"] == len(effects) / 2
    harness.draw_summary(record).savefig(tmp_path / "summary.png")
    assert (tmp_path / "summary.png").stat().st_size > 5000
    with pytest.raises(InputError, match="'z' is not one of the 2 labels"):
        harness.summarise(predict, data, "z", lambda what, share: None)
