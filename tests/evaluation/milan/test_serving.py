"""MILAN behind the real `mlflow models serve`, over HTTP: units by number and by pictures, and bad requests a 400."""

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import colours
from conceptry.evaluation.benchmarks.servers import served
from conceptry.models.images import png_bytes
from conceptry.registry import load
from serving import Server, check_refused

SCORES = ("score", "log_likelihood", "pmi")


@pytest.fixture(scope="module")
def server(milan_version) -> Iterator[Server]:
    environment = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "OMP_NUM_THREADS": "1"}
    with served(milan_version.uri, **environment) as client:
        yield Server(client.port)


@pytest.fixture(scope="module")
def local(milan_version):
    return load(milan_version.uri)


def text_of(pixels: np.ndarray) -> str:
    """Base64 of a PNG file of pixels (3, H, W), or of a mask (1, H, W) of 0 and 1."""
    grey = pixels[0] * np.uint8(255) if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
    return base64.b64encode(png_bytes(Image.fromarray(grey))).decode()


def pictures_of(colour: str, count: int = 3) -> dict[str, list[str]]:
    pairs = [colours.scene(colour, seed) for seed in range(count)]
    return {"images": [text_of(image) for image, _ in pairs], "masks": [text_of(mask) for _, mask in pairs]}


def check_equal(answer: dict, expected: dict) -> None:
    """Equal but for the rounding of batches of other sizes; files, which are bytes in this process, by content."""
    assert set(answer) == set(expected)
    for name in ("layer", "unit", "active", "description", "ids"):
        assert answer[name] == expected[name]
    assert answer["activations"] == pytest.approx(expected["activations"])
    assert [answer[name] for name in SCORES] == pytest.approx([expected[name] for name in SCORES], abs=1e-5)
    assert [other["text"] for other in answer["alternatives"]] == [other["text"] for other in expected["alternatives"]]
    for name in ("images", "masks"):
        assert [base64.b64decode(content) for content in answer[name]] == expected[name]


def test_answers_equal_those_of_predict_in_process(server, local) -> None:
    rows = [{"layer": layer, "unit": unit} for layer, units in colours.UNITS.items() for unit in units]
    rows += [pictures_of(colour) for colour in colours.WORDS]
    for params in ({}, {"exemplars": True}, {"strategy": "sample", "seed": 5, "alternatives": 3}, {"clip": True}):
        status, answers = server.rows(*rows, **params)
        assert status == 200
        local_rows = pd.DataFrame(rows, dtype=object)
        for answer, expected in zip(answers, local.predict(local_rows, params=params).to_dict("records"), strict=True):
            check_equal(answer, expected)
    files = [{name: [base64.b64decode(text) for text in cell] for name, cell in row.items()} for row in rows[-3:]]
    status, from_parquet = server.parquet(pd.DataFrame(files))
    assert [answer["description"] for answer in from_parquet] == ["Red", "Green", "Blue"]
    names = [answer["description"] for answer in server.rows(*rows)[1]]
    assert names == ["Red", "Green", "Blue", "", "Green", "Red", "Blue", "Red", "Green", "Blue"]


def test_other_forms_of_a_request(server) -> None:
    (expected,) = server.rows({"layer": "7", "unit": 5})[1]
    for layer, unit in ((7, 5), ("7", "5"), (7.0, 5.0), ("7", "5.0")):
        assert server.rows({"layer": layer, "unit": unit}) == (200, [expected])
    (pictures,) = server.rows(pictures_of("blue"))[1]
    split = {"columns": ["unit", "layer", "name"], "data": [[5, "7", "x"]]}
    assert server.post({"dataframe_split": split}) == (200, [expected])
    cells = pictures_of("blue")
    split = {"columns": list(cells), "data": [list(cells.values())]}
    assert server.post({"dataframe_split": split}) == (200, [pictures])
    mixed = server.rows({"layer": "7", "unit": 5}, cells)[1]
    assert [answer["description"] for answer in mixed] == ["Red", "Blue"]
    assert server.post({"inputs": [{"layer": "7", "unit": 5}]}) == (200, [expected])


def test_the_same_request_gives_the_same_bytes(server) -> None:
    rows = [{"layer": "first", "unit": i} for i in range(3)]
    for params in ({}, {"strategy": "sample", "seed": 9, "exemplars": True}):
        first, second = (server.rows(*rows, **params) for _ in range(2))
        assert first == second
        assert first[0] == 200


def test_an_answer_can_be_asked_about_again(server) -> None:
    """MLflow may write base64 in lines; a client hands it back as it came."""
    (unit,) = server.rows({"layer": "first", "unit": 2}, exemplars=True)[1]
    status, (again,) = server.rows({name: unit[name] for name in ("images", "masks")})
    assert status == 200
    assert [again[name] for name in ("description", *SCORES)] == [unit[name] for name in ("description", *SCORES)]


@pytest.mark.parametrize(
    ("row", "params", "sentence"),
    [
        ({}, {}, "row 1: none of the columns is given; expected layer and unit, or images and masks"),
        (
            {"layer": "frist", "unit": 0},
            {},
            "row 1, column 'layer': there is no layer 'frist' in this version; expected",
        ),
        ({"layer": "first", "unit": 9}, {}, "row 1, column 'unit': layer first has no unit 9; expected 0 to 3"),
        (
            {"layer": "first", "unit": "x"},
            {},
            "row 1, column 'unit': expected the number of a unit, a whole one from 0",
        ),
        ({"layer": {"a": []}, "unit": 0}, {}, "row 1, column 'layer': expected the name of a layer, got {'a': []}"),
        ({"layer": "first", "unit": None}, {}, "row 1, column 'unit': is not given; expected the number of a unit of"),
        ({"layer": "first", "unit": 0, "images": ["x"]}, {}, "row 1: columns 'layer' and 'images' are both given"),
        ({"images": ["!!!???"], "masks": ["x"]}, {}, "row 1, column 'images': picture 0: not a picture"),
        ({"images": "abc", "masks": ["x"]}, {}, "row 1, column 'images': expected a list of pictures, got str"),
        (
            {"images": [[["x"]]], "masks": ["x"]},
            {},
            "row 1, column 'images': picture 0: expected the bytes of a picture",
        ),
        ({"images": []}, {}, "row 1, column 'masks': is not given; expected a mask for each picture"),
        ({"images": ["x"] * 9999, "masks": ["x"]}, {}, "row 1, column 'images': holds 9,999 pictures; at most 100"),
        ({"layer": "first", "unit": 0}, {"strategy": "guess"}, "strategy must be one of greedy, sample, beam"),
        ({"layer": "first", "unit": 0}, {"beam_size": 2**40}, "beam_size must be from 1 to 5,000, got 1099511627776"),
        ({"layer": "first", "unit": 0}, {"length": 10**6}, "length must be from 1 to 100, got 1000000"),
        ({"layer": "first", "unit": 0}, {"temperature": "warm"}, "temperature"),
        ({"layer": "first", "unit": 0}, {"exemplars": "perhaps"}, "exemplars"),
    ],
)
def test_bad_requests_are_one_sentence(server, row: dict, params: dict, sentence: str) -> None:
    check_refused(server.rows({"layer": "first", "unit": 0}, row, **params), sentence)


def test_masks_that_do_not_fit_and_requests_without_a_row(server) -> None:
    cells = pictures_of("red")
    small = text_of(np.ones((1, 8, 8), np.uint8))
    check_refused(
        server.rows(cells | {"masks": [small] * 3}), "row 0, column 'masks': mask 0 is 8 x 8 pixels; expected"
    )
    check_refused(server.rows(cells | {"masks": [small]}), "row 0, column 'masks': holds 1 masks for 3 pictures")
    bomb = base64.b64encode(png_bytes(Image.new("1", (9000, 9000)))).decode()
    check_refused(server.rows(cells | {"images": [bomb] * 3}), "picture 0: the picture has 9000 x 9000 pixels; at most")
    for records in ([], [{"file": "x"}]):
        check_refused(server.rows(*records), "the request holds no rows with any of the columns 'layer', 'unit'")
    for body in ("", "{nope", "[]", '{"dataframe_records": 5}', b"\xff\xfe"):
        status, text = server.post(body)
        assert status in (400, 422)
        assert "Traceback" not in text
    assert server.rows({"layer": "first", "unit": 0})[0] == 200  # and the server goes on


def test_two_hundred_requests_at_once_get_their_own_answers(server) -> None:
    asked: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"layer": "first", "unit": 1}, {}),
        (pictures_of("blue"), {"strategy": "greedy"}),
        ({"layer": "7", "unit": 5}, {"exemplars": True}),
        (pictures_of("red", 2), {"strategy": "sample", "seed": 3}),
        ({"layer": "nowhere", "unit": 5}, {}),
    ]
    alone = [server.rows(row, **params) for row, params in asked]
    assert [status for status, _ in alone] == [200, 200, 200, 200, 400]
    barrier = threading.Barrier(40)

    def ask(worker: int) -> list[Any]:
        barrier.wait()
        return [server.rows(asked[(worker + i) % 5][0], **asked[(worker + i) % 5][1]) for i in range(5)]

    with ThreadPoolExecutor(40) as pool:
        for worker, answers in enumerate(pool.map(ask, range(40))):
            for i, answer in enumerate(answers):
                assert json.dumps(answer) == json.dumps(alone[(worker + i) % 5])


def test_too_much_work_is_refused(server) -> None:
    rows = [{"layer": "squares", "unit": 0}] * 40
    check_refused(server.rows(*rows, strategy="beam", beam_size=5000), "3,000,000 tokens of hypotheses")
