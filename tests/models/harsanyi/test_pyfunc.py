"""The table that goes in, the table that comes out, and a sentence for each thing that is wrong with a request."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.graph import AndOrGraph
from conceptry.models.harsanyi.interactions.moebius import inverse_moebius, moebius
from conceptry.registry import load, register


@pytest.fixture(scope="module")
def model(harsanyi_version):
    return load(harsanyi_version.uri)


def test_an_answer_says_what_it_promises(model, tiny_rows) -> None:
    answers = model.predict(pd.DataFrame(tiny_rows), params={"details": True})
    assert len(answers) == 3
    for row in answers.to_dict("records"):
        v, i = np.array(row["rewards"]), np.array(row["interactions"])
        np.testing.assert_allclose(moebius(v), i)
        np.testing.assert_allclose(inverse_moebius(i), v)
        assert list(row["players"]) == ["age", "height", "weight", "dose", "kind"]
        assert (row["v_empty"], row["v_full"]) == pytest.approx((v[0], v[-1]))
        assert row["model_calls"] == 32
        assert row["l1"] == row["l1_start"] == pytest.approx(np.abs(i).sum())
        strength = np.abs(i[1:])
        assert row["n_salient"] == (strength > 0.05 * strength.max()).sum()
        effects = [p["effect"] for p in row["patterns"]]
        assert effects == sorted(effects, key=abs, reverse=True)
        assert row["residual"] < 1e-12
        assert sum(s["value"] for s in row["shapley"]) == pytest.approx(v[-1] - v[0])
        graph = AndOrGraph.from_json(row["graph"])
        assert [p.effect for p in graph.patterns] == effects
        assert json.loads(row["sample"])["sample"]["kind"] in "abc"
    outputs = {"target", "patterns", "v_full", "v_empty", "explain_ratio", "square_error", "residual", "gap"}
    plain = model.predict(pd.DataFrame(tiny_rows[:1]))
    outputs |= {"n_salient", "n_kept", "l1", "l1_start", "shapley", "graph", "model_calls", "engine"}
    assert set(plain.columns) == outputs | {"r2", "r2_low", "r2_high", "believable"}


def test_params(model, tiny_rows) -> None:
    frame = pd.DataFrame(tiny_rows[:1])
    (everything,) = model.predict(frame, params={"denoise": False}).to_dict("records")
    (kept,) = model.predict(frame).to_dict("records")
    (few,) = model.predict(frame, params={"top_k": 2}).to_dict("records")
    assert len(everything["patterns"]) == 31
    assert kept["n_kept"] == few["n_kept"] < 31
    assert [p["effect"] for p in few["patterns"]] == [p["effect"] for p in everything["patterns"][:2]]
    assert len(AndOrGraph.from_json(few["graph"]).patterns) == 2
    for target in ("low", "mid", "high"):
        assert model.predict(frame, params={"target": target})["target"][0] == target
    assert model.predict(frame, params={"target": "0"})["target"][0] == "low"
    with pytest.raises(MlflowException, match=r"no output 'hihg'; expected predicted, .* a name: high"):
        model.predict(frame, params={"target": "hihg"})
    with pytest.raises(MlflowException, match="top_k must be at least 1, got 0"):
        model.predict(frame, params={"top_k": 0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"age": None}, r"row 1: column 'age' is empty; expected a value in every column"),
        ({"age": float("nan")}, r"row 1: column 'age' is empty"),
        ({"age": float("inf")}, r"row 1: column 'age'.*(infinite|finite)"),
        ({"age": "old"}, r"row 1: column 'age'.*number"),
        ({"kind": "d"}, r"row 1: column 'kind': unknown category 'd'; the background rows have 'a', 'b', 'c'"),
        ({"kind": None}, r"row 1: column 'kind'"),
    ],
)
def test_a_wrong_cell_is_named(model, tiny_rows, change: dict, message: str) -> None:
    frame = pd.DataFrame([tiny_rows[0], tiny_rows[1] | change], dtype=object)
    with pytest.raises(MlflowException, match=message):
        model.predict(frame)


def test_a_missing_column_is_named(model, tiny_rows) -> None:
    with pytest.raises(MlflowException, match=r"row 0: column 'dose'"):
        model.predict(pd.DataFrame(tiny_rows).drop(columns="dose"))


@pytest.mark.usefixtures("store")
def test_options_are_checked_before_anything_is_stored(tiny_classifier, tmp_path) -> None:
    model = f"classifier:{tiny_classifier}"

    def refused(message: str, **options) -> None:
        with pytest.raises(InputError, match=message):
            register("harsanyi", {"model": model} | options, name="never")

    refused("reward must be one of log_odds", reward="odds")
    refused("no output 'tall'", target="tall")
    refused("a table model has no baseline 'delete'", baseline="delete")
    refused("no such file; expected a JSON object", players=str(tmp_path / "absent.json"))
    (tmp_path / "groups.json").write_text(json.dumps({"body": ["height", "wieght"]}))
    refused("wieght", players=str(tmp_path / "groups.json"))
    (tmp_path / "list.json").write_text("[1]")
    refused("expected a JSON object", players=str(tmp_path / "list.json"))
    refused("baseline row needs a file", baseline="row")
    (tmp_path / "row.csv").write_text("age,height\n1,2\n")
    refused("weight", baseline=f"row:{tmp_path / 'row.csv'}")
    refused("^background: there is no column 'ages'", background="ages")
    refused("^background: there is no column 'nothing'", background="age,nothing")
    with pytest.raises(InputError, match="classifier"):
        register("harsanyi", {"model": f"classifier:{tmp_path / 'nowhere'}"}, name="never")
    with pytest.raises(InputError, match="unknown model 'wine'; expected one of zoo:NAME"):
        register("harsanyi", {"model": "wine"}, name="never")


@pytest.mark.usefixtures("store")
def test_groups_row_baseline_and_learning_round_trip(tiny_classifier, tiny_rows, tmp_path) -> None:
    groups = tmp_path / "groups.json"
    groups.write_text(json.dumps({"body": ["height", "weight"], "age": ["age"], "drug": ["dose", "kind"]}))
    row = tmp_path / "row.csv"
    pd.DataFrame([tiny_rows[2]]).to_csv(row, index=False)
    options = {"model": f"classifier:{tiny_classifier}", "players": str(groups), "baseline": f"row:{row}"}
    version = register("harsanyi", options, name="grouped").version
    assert (version.params["players"], version.params["baseline"]) == ("groups", "row")
    answer = load(version.uri).predict(pd.DataFrame(tiny_rows), params={"details": True})
    assert [list(p) for p in answer["players"]] == [["age", "body", "drug"]] * 3  # by their first column
    assert answer["rewards"][2] == pytest.approx([answer["v_full"][2]] * 8)  # the baseline row itself
    learned = register("harsanyi", {"model": f"classifier:{tiny_classifier}", "baseline": "learned"}, name="grouped")
    answer = load(learned.version.uri).predict(pd.DataFrame(tiny_rows), params={"details": True})
    assert (answer["l1"] <= answer["l1_start"] + 1e-9).all()
    assert [len(steps) for steps in answer["learning"]] == [51] * 3


@pytest.mark.usefixtures("store")
def test_clouds_of_points() -> None:
    import mlflow
    from mlflow.pytorch import log_model

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(48, 2))
    with mlflow.start_run():
        example = np.zeros((2, 12, 3), np.float32)
        uri = log_model(network.eval(), name="points", input_example=example, pip_requirements=["torch"]).model_uri
    options = {"model": uri, "outputs": "logits", "players": "clusters:4", "baseline": "learned", "learning_steps": 5}
    points = load(register("harsanyi", options, name="points").version.uri)
    cloud = np.random.default_rng(0).normal(size=(12, 3)).tolist()
    (answer,) = points.predict(pd.DataFrame({"points": [cloud]})).to_dict("records")
    assert [share["player"] for share in answer["shapley"]] == [f"cluster {k}" for k in range(1, 5)]
    assert (answer["model_calls"], answer["l1"] < answer["l1_start"]) == (6 * 16, True)
    for bad, sentence in (
        ([[1.0, 2.0]], r"row 1, column 'points': expected a list of .x, y, z., got shape"),
        ([[1.0, 2.0, None]] * 12, "row 1, column 'points': expected finite coordinates"),
        (None, "row 1, column 'points': is not given"),
        (cloud[:3], "row 1: 3 different points cannot make 4 clusters"),
        (cloud[:6], "row 1: .* takes clouds of 12 points"),
    ):
        with pytest.raises(MlflowException, match=sentence):
            points.predict(pd.DataFrame({"points": [cloud, bad]}))


def test_all_patterns_of_many_players_are_not_listed(model, tiny_rows, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = model.unwrap_python_model()
    package = type(inner.harsanyi).__module__.removesuffix(".model")  # of the code that the version carries
    monkeypatch.setattr(sys.modules[f"{package}.interactions.record"], "MAX_LISTED", 16)
    frame = pd.DataFrame(tiny_rows)
    with pytest.raises(MlflowException, match=r"row 0: denoise is false, and 5 players have 31 patterns; at most 16"):
        model.predict(frame, params={"denoise": False})
    assert len(model.predict(frame, params={"denoise": False, "top_k": 20})["patterns"][0]) == 20


@pytest.mark.parametrize(
    "subsets", ["[", "[" * 100_000, "[]", "[1]", '[["a"]]', "[[true]]", "[[0.5]]", "[[" + "9" * 5000 + "]]", "{}"]
)
def test_what_is_no_list_of_subsets_is_refused_in_a_sentence(model, tiny_rows, subsets: str) -> None:
    with pytest.raises(MlflowException, match="subsets: expected a JSON list of lists of players by number, got"):
        model.predict(pd.DataFrame(tiny_rows), params={"subsets": subsets})


@pytest.mark.parametrize("subset", [[5], [-1], [0, 99]])
def test_players_that_are_not_there_are_refused(model, tiny_rows, subset: list[int]) -> None:
    with pytest.raises(MlflowException, match=r"subset 1 has players .*; expected numbers from 0 to 4"):
        model.predict(pd.DataFrame(tiny_rows), params={"subsets": json.dumps([[], subset])})


def test_subsets_are_answered_with_their_rewards(model, tiny_rows) -> None:
    answer = model.predict(pd.DataFrame(tiny_rows), params={"subsets": "[[], [0, 2], [0, 1, 2, 3, 4]]"})
    whole = model.predict(pd.DataFrame(tiny_rows), params={"details": True})
    for asked, known in zip(answer["rewards"], whole["rewards"], strict=True):
        assert asked == pytest.approx([known[0], known[0b10100], known[-1]])
