"""Perturbations behind the real `mlflow models serve`, over HTTP: PNG files in JSON, and bad requests a 400."""

import base64
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from conceptry.evaluation.benchmarks.servers import served
from conceptry.models.images import decode_image, png_bytes
from conceptry.registry import load
from serving import Server, check_refused

FILES = ("image", "delta")


@pytest.fixture(scope="module")
def server(perturbation_version) -> Iterator[Server]:
    # One thread of the network: several would only wait for each other beside other tests.
    environment = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "OMP_NUM_THREADS": "1"}
    with served(perturbation_version.uri, **environment) as client:
        yield Server(client.port, steps=8)


@pytest.fixture(scope="module")
def local(perturbation_version):
    return load(perturbation_version.uri)


@pytest.fixture(scope="module")
def picture() -> bytes:
    levels = np.add.outer(np.arange(8), np.arange(8)) * 16
    return png_bytes(Image.fromarray(levels.astype(np.uint8)).convert("RGB"))


def text_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def check_equal(answer: dict, expected: dict) -> None:
    """The same classes and figures, and pictures that differ by a rounding at most."""
    assert set(answer) == set(expected)
    for name in FILES:
        pixels, wanted = (
            np.asarray(decode_image(content)).astype(int)
            for content in (base64.b64decode(answer[name]), expected[name])
        )
        assert np.abs(pixels - wanted).max() <= 3
    assert [answer[name] for name in ("target", "source", "success", "clipped", "steps")] == [
        expected[name] for name in ("target", "source", "success", "clipped", "steps")
    ]
    assert answer["l1"] == pytest.approx(expected["l1"], abs=0.05)
    for one, other in zip(answer["after"], expected["after"], strict=True):
        assert one["class"] == other["class"]
        assert one["probability"] == pytest.approx(other["probability"], abs=0.01)


def test_answers_equal_those_of_predict_in_process(server, local, picture) -> None:
    row = {"image": picture, "target": "3"}
    status, (answer,) = server.rows(row | {"image": text_of(picture)})
    assert status == 200
    (expected,) = local.predict(pd.DataFrame([row]), params={"steps": 8}).to_dict("records")
    check_equal(answer, expected)
    split = {"columns": ["image", "target"], "data": [[text_of(picture), "3"]]}
    status, by_columns = server.post({"dataframe_split": split, "params": {"steps": 8}})
    assert (status, by_columns) == (200, [answer])
    status, (from_parquet,) = server.parquet(pd.DataFrame([row]))  # which asks with the parameters of the version
    assert (status, from_parquet["target"]) == (200, "3")


def test_every_mode_in_json(server, local, picture) -> None:
    image = text_of(picture)
    for mode, row in (
        ("probe", {"target": 7}),
        ("probe", {"target": "7", "image": image}),
        ("counterfactual", {"image": image}),
        ("explain_error", {"image": image, "target": 0, "source": 1}),
        ("invert", {"image": image, "source": image}),
    ):
        (answer,) = server.rows(row, mode=mode)[1]
        (expected,) = local.predict(pd.DataFrame([row]), params={"steps": 8, "mode": mode}).to_dict("records")
        other, wanted = answer.pop("other"), expected.pop("other")
        check_equal(answer, expected)
        assert len(other) == len(wanted) == (mode == "explain_error")
        for side in other:
            assert base64.b64decode(side["image"]).startswith(b"\x89PNG")
            assert (side["target"], set(side)) == ("1", set(wanted[0]))


def test_the_same_request_gives_the_same_bytes(server) -> None:
    answers = [server.rows({"target": 3}, {"target": 4}, mode="probe", seed=9, dq=0.05) for _ in range(2)]
    assert answers[0] == answers[1]
    assert answers[0][0] == 200
    assert server.rows({"target": 3}, {"target": 4}, mode="probe", seed=8, dq=0.05)[1] != answers[0][1]


def test_an_answer_can_be_asked_about_again(server, picture) -> None:
    """MLflow writes base64 in lines; a client may hand it back as it came."""
    (answer,) = server.rows({"image": text_of(picture), "target": 3})[1]
    status, (again,) = server.rows({"image": answer["image"], "target": 3}, details=True)
    assert status == 200
    start, before = (decode_image(base64.b64decode(text)) for text in (again["start"], answer["image"]))
    assert start == before
    assert again["path"] == []
    assert len(again["history"]) == 9


def test_the_sparsest_with_its_path(server, picture) -> None:
    (answer,) = server.rows({"image": text_of(picture), "target": 3}, sparsest=True, details=True)[1]
    assert answer["changed"] == min(point["changed"] for point in answer["path"] if point["success"])
    assert {point["pixels"] is None for point in answer["path"]} == {True, False}


@pytest.mark.parametrize(
    ("row", "params", "sentence"),
    [
        ({"image": None}, {}, "row 1, column 'image': is not given; counterfactual needs a picture in every row"),
        ({"image": "!!!???"}, {}, "row 1, column 'image': not a picture: expected PNG"),
        ({"image": 5}, {}, "row 1, column 'image': expected the bytes of a picture or their base64 text, got int"),
        ({"target": "tehn"}, {}, "row 1, column 'target': zoo:digits-robust has no class 'tehn'; there are '0'"),
        ({"target": {"a": 1}}, {}, "row 1, column 'target': expected the name or the index of a class"),
        ({"target": None}, {"mode": "probe"}, "row 1, column 'target': is not given; probe needs a class"),
        ({}, {"mode": "invert"}, "row 0, column 'target': is given, and invert takes image and source only"),
        ({}, {"mode": "dream"}, "mode must be one of probe, counterfactual, explain_error, invert, got 'dream'"),
        ({}, {"q": 7}, "q must be from 0 to below 1, got 7.0"),
        ({}, {"q": "much"}, "q"),
        ({}, {"steps": -1}, "steps must be 1 to 10,000, got -1"),
        ({}, {"max_changed": 0.001}, "max_changed 0.001 of 8 x 8 pixels is not one pixel, a budget that cannot be met"),
        ({}, {"mode": "probe", "sparsest": True}, "sparsest searches a counterfactual, and mode is probe"),
    ],
)
def test_bad_requests_are_one_sentence(server, picture, row: dict, params: dict, sentence: str) -> None:
    good = {"image": text_of(picture), "target": 3}
    check_refused(server.rows(good, good | row, **params), sentence)


def test_a_picture_of_another_size_and_requests_without_a_row(server, picture) -> None:
    large = text_of(png_bytes(Image.new("RGB", (32, 16))))
    check_refused(server.rows({"image": large}), "row 0, column 'image': zoo:digits-robust: the network takes pictures")
    check_refused(server.rows({"image": large}), "8 x 8 pixels, got 32 x 16")
    for records in ([], [{"file": "x"}]):
        check_refused(server.rows(*records), "the request holds no rows with any of the columns 'image', 'target'")
    assert server.rows({"image": text_of(picture)})[0] == 200  # and the server goes on


def test_many_threads_get_their_own_answers(server, picture) -> None:
    modes = ("counterfactual", "invert", "probe", "explain_error")
    rows = (
        *({"image": text_of(picture), "target": 5}, {"image": text_of(picture)}),
        *({"target": 2}, {"image": text_of(picture), "target": 6, "source": 7}),
    )
    alone = [server.rows(row, mode=mode)[1] for row, mode in zip(rows, modes, strict=True)]
    barrier = threading.Barrier(12)

    def ask(k: int) -> Any:
        barrier.wait()
        return server.rows(rows[k % 4], mode=modes[k % 4])[1]

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(12))) == alone * 3


def test_too_much_work_is_refused(server, picture) -> None:
    rows = [{"image": text_of(picture)}] * 3
    check_refused(
        server.rows(*rows, steps=10_000), "30,000 gradient steps, rows x steps x restarts, and it takes 20,000"
    )
