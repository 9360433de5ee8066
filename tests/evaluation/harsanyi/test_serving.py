"""Harsanyi behind the real `mlflow models serve`, over HTTP: answers, and each bad request a 400 with one sentence."""

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from conceptry.evaluation.benchmarks.servers import served
from conceptry.models.images import png_bytes
from conceptry.registry import load, register
from serving import Server, check_refused

GOOD = {"age": 3.0, "height": -1.0, "weight": 2.5, "dose": 0.0, "kind": "a"}
NUMBERS = ("v_full", "v_empty", "explain_ratio", "square_error", "l1", "l1_start")


@pytest.fixture(scope="module")
def server(harsanyi_version) -> Iterator[Server]:
    with served(harsanyi_version.uri, MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false") as client:
        yield Server(client.port)


@pytest.fixture(scope="module")
def local(harsanyi_version):
    return load(harsanyi_version.uri)


def check_equal(answer: dict, expected: dict) -> None:
    """The same columns and patterns, and numbers as near as batches of other sizes leave them."""
    assert set(answer) == set(expected)
    assert [answer[name] for name in NUMBERS] == pytest.approx([expected[name] for name in NUMBERS], abs=1e-5)
    assert answer["target"] == expected["target"]
    assert (answer["n_kept"], answer["model_calls"]) == (expected["n_kept"], expected["model_calls"])
    for given, wanted in zip(answer["patterns"], expected["patterns"], strict=True):
        assert (given["players"], given["kind"]) == (list(wanted["players"]), wanted["kind"])
        assert given["effect"] == pytest.approx(wanted["effect"], abs=1e-5)
    assert json.loads(answer["graph"])["players"] == json.loads(expected["graph"])["players"]


def test_answers_equal_those_of_predict_in_process(server, local, tiny_rows) -> None:
    expected = local.predict(pd.DataFrame(tiny_rows)).to_dict("records")
    status, answers = server.rows(*tiny_rows)
    assert status == 200
    split = pd.DataFrame(tiny_rows).to_dict("split", index=False)
    status, by_columns = server.post({"dataframe_split": split})
    assert status == 200
    for answer, same, wanted in zip(answers, by_columns, expected, strict=True):
        check_equal(answer, wanted)
        check_equal(same, wanted)
    status, from_parquet = server.parquet(pd.DataFrame(tiny_rows))
    assert status == 200, from_parquet
    for answer, wanted in zip(from_parquet, expected, strict=True):
        check_equal(answer, wanted)


def test_parameters_of_a_request(server, local) -> None:
    for params in ({"target": "low"}, {"target": "2"}, {"top_k": 2}, {"denoise": False}):
        (answer,) = server.rows(GOOD, **params)[1]
        check_equal(answer, local.predict(pd.DataFrame([GOOD]), params=params).to_dict("records")[0])
    (details,) = server.rows(GOOD, details=True)[1]
    assert len(details["rewards"]) == len(details["interactions"]) == 32
    assert details["players"] == list(GOOD)
    assert sum(details["interactions"]) == pytest.approx(details["v_full"])


def test_columns_in_another_order_and_columns_of_others_change_nothing(server) -> None:
    (answer,) = server.rows(GOOD)[1]
    (shuffled,) = server.rows({"name": "Ada", **dict(reversed(GOOD.items()))})[1]
    assert shuffled == answer


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"age": None}, "row 1: column 'age' is empty; expected a value in every column"),
        ({"age": float("nan")}, "row 1: column 'age' is empty"),
        ({"age": "12"}, "row 1: column 'age': '12' is not a number"),
        ({"age": "old"}, "row 1: column 'age': 'old' is not a number"),
        ({"age": [1.0]}, "row 1: column 'age': [1.0] is not a number"),
        ({"age": {"years": 3}}, "row 1: column 'age': {'years': 3} is not a number"),
        ({"age": float("inf")}, "row 1: column 'age': inf is not finite"),
        ({"age": 1e308}, "row 1: column 'age': 1e+308 is beyond what the network's float32 holds"),
        ({"age": True}, "row 1: column 'age': True is not a number"),
        ({"age": 10**400}, "row 1: column 'age': inf is not finite"),
        ({"kind": "d"}, "row 1: column 'kind': unknown category 'd'; the background rows have 'a', 'b', 'c'"),
        ({"kind": None}, "row 1: column 'kind' is empty"),
        ({"kind": True}, "row 1: column 'kind': unknown category True"),
        ({"kind": ["a"]}, "row 1: column 'kind': unknown category ['a']"),
    ],
)
def test_bad_cells_are_named(server, change: dict, sentence: str) -> None:
    check_refused(server.rows(GOOD, GOOD | change), sentence)


def test_a_missing_column_is_named(server) -> None:
    without = {name: value for name, value in GOOD.items() if name != "dose"}
    check_refused(server.rows(without), "row 0: column 'dose' is missing; expected the columns age, height")
    check_refused(server.rows(GOOD, without), "row 1: column 'dose' is empty")


@pytest.mark.parametrize("records", [[], [{"picture": "x"}]])
def test_requests_without_a_row_are_refused(server, records: list[dict]) -> None:
    check_refused(server.rows(*records), "the request holds no rows with any of the columns 'age', 'height'")


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"target": "hihg"}, "row 0: classifier:"),
        ({"target": "3"}, "has no output '3'; expected predicted, an index below 3, or a name"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_k": "many"}, "top_k"),
        ({"denoise": "perhaps"}, "denoise"),
        ({"target": 5}, "target"),
    ],
)
def test_bad_parameters_are_named(server, params: dict, sentence: str) -> None:
    check_refused(server.rows(GOOD, **params), sentence)


@pytest.mark.parametrize("body", ["", "{nope", "[]", '{"dataframe_records": 5}', '{"inputs": 3}'])
def test_bodies_that_are_no_request(server, body: str) -> None:
    status, text = server.post(body)
    assert status in (400, 422)
    assert "Traceback" not in text
    assert server.rows(GOOD)[0] == 200  # and the server goes on


def test_many_threads_get_their_own_answers(server) -> None:
    rows = [GOOD | {"age": 0.5 * k, "kind": "abc"[k % 3]} for k in range(20)]
    alone = [server.rows(row)[1][0] for row in rows]
    barrier = threading.Barrier(20)

    def ask(k: int) -> dict:
        barrier.wait()
        return server.rows(rows[k])[1][0]

    with ThreadPoolExecutor(20) as pool:
        for answer, expected in zip(pool.map(ask, range(20)), alone, strict=True):
            assert answer == expected


@pytest.mark.usefixtures("store")
def test_pictures_and_texts_of_shipped_models() -> None:
    digits = load(register("harsanyi", {"model": "zoo:digits", "players": "grid:2x2"}, name="digits").version.uri)
    picture = np.kron(np.eye(8, dtype=np.uint8) * 255, np.ones((4, 4), np.uint8))
    content = png_bytes(Image.fromarray(picture))
    text = base64.b64encode(content).decode()
    answer, same = digits.predict(pd.DataFrame({"image": [content, text]})).to_dict("records")
    check_equal(same, answer)
    assert [share["player"] for share in answer["shapley"]] == [f"cell ({r}, {c})" for r in (1, 2) for c in (1, 2)]
    for bad in ("!!!???", 5, None):
        with pytest.raises(MlflowException, match="row 0, column 'image': "):
            digits.predict(pd.DataFrame({"image": [bad]}))

    options = {"model": "zoo:movie-reviews", "baseline": "learned", "learning_steps": 5, "max_players": 6}
    reviews = load(register("harsanyi", options, name="reviews").version.uri)
    (answer,) = reviews.predict(pd.DataFrame({"text": ["It 's not bad!"]})).to_dict("records")
    assert [share["player"] for share in answer["shapley"]] == ["It", "'s", "not", "bad", "!"]
    assert answer["l1"] < answer["l1_start"]
    for bad, sentence in (
        (" ", "row 0, column 'text': expected a text that is not blank"),
        (None, "row 0, column 'text': is not given"),
        ("a b c d e f g", "row 0: 7 players, and at most 6 are accepted; group words by players words:6"),
    ):
        with pytest.raises(MlflowException, match=sentence):
            reviews.predict(pd.DataFrame({"text": [bad]}, dtype=object))
