"""The real `mlflow models serve`, over HTTP: good requests, and every bad one a 400 with one sentence."""

import base64
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from conceptry.evaluation.benchmarks.servers import served
from conceptry.models.images import png_bytes
from conceptry.registry import load
from serving import Server, check_refused

D = 64


@pytest.fixture(scope="module")
def server(tiny_version) -> Iterator[Server]:
    with served(tiny_version.uri, MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false") as client:
        yield Server(client.port)


@pytest.fixture(scope="module")
def base64_picture(picture: Image.Image) -> str:
    return base64.b64encode(png_bytes(picture)).decode()


def test_an_answer_equals_that_of_predict_in_process(server, tiny_version, picture, base64_picture) -> None:
    status, (served,) = server.rows({"image": base64_picture})
    assert status == 200
    local = load(tiny_version.uri).predict(pd.DataFrame({"image": [png_bytes(picture)]})).to_dict("records")[0]
    assert served["l0"] == local["l0"] == len(served["concepts"])
    assert served["cosine"] == pytest.approx(local["cosine"])
    weights = [entry["weight"] for entry in served["concepts"]]
    assert weights == sorted(weights, reverse=True)
    assert [e["concept"] for e in served["concepts"]] == [e["concept"] for e in local["concepts"]]
    assert set(served) == {"concepts", "l0", "cosine", "gap"}


def test_rows_may_mix_the_three_ways_to_ask(server, base64_picture) -> None:
    records = ({"text": "a dog"}, {"image": base64_picture}, {"embedding": [1.0] * D})
    status, together = server.rows(*records)
    assert status == 200
    for record, row in zip(records, together, strict=True):
        (alone,) = server.rows(record)[1]
        assert [c["concept"] for c in alone["concepts"]] == [c["concept"] for c in row["concepts"]]
    status, split = server.post({"dataframe_split": {"columns": ["image"], "data": [[base64_picture]]}})
    assert (status, split[0]["concepts"]) == (200, server.rows(records[1])[1][0]["concepts"])


def test_parameters_of_a_request(server, base64_picture) -> None:
    plain = server.rows({"image": base64_picture}, l1_penalty=0.05)[1][0]
    assert plain["l0"] > server.rows({"image": base64_picture}, l1_penalty=0.3)[1][0]["l0"]
    assert len(server.rows({"image": base64_picture}, l1_penalty=0.05, top_k=2)[1][0]["concepts"]) == 2
    strongest = plain["concepts"][0]["concept"]
    without = server.rows({"image": base64_picture}, l1_penalty=0.05, suppress=[strongest])[1][0]
    assert [c["concept"] for c in without["concepts"]] == [c["concept"] for c in plain["concepts"][1:]]
    embedding = server.rows({"image": base64_picture}, return_embedding=True)[1][0]
    assert len(embedding["embedding"]) == len(embedding["recomposed"]) == D
    assert sum(x * x for x in embedding["recomposed"]) == pytest.approx(1, abs=1e-4)
    assert server.rows({"image": base64_picture}, l1_penalty=9.0)[1][0]["l0"] == 0


def test_parquet_holds_pictures_as_bytes(server, picture, base64_picture) -> None:
    table = pd.DataFrame(
        {
            "image": [png_bytes(picture), None, None],
            "text": [None, "a dog", None],
            "embedding": [None, None, [1.0] * D],
        }
    )
    status, answers = server.parquet(table)
    assert status == 200, answers
    records = ({"image": base64_picture}, {"text": "a dog"}, {"embedding": [1.0] * D})
    for answer, same in zip(answers, server.rows(*records)[1], strict=True):
        assert [c["concept"] for c in answer["concepts"]] == [c["concept"] for c in same["concepts"]]
    check_refused(
        server.parquet(pd.DataFrame({"image": [png_bytes(picture), b"hello"]})), "row 1, column 'image': not a picture"
    )


def encoded(image: Image.Image, format: str, **options: Any) -> str:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return base64.b64encode(stream.getvalue()).decode()


@pytest.mark.parametrize(
    ("mode", "format"), [("RGBA", "PNG"), ("I;16", "PNG"), ("CMYK", "JPEG"), ("P", "GIF"), ("1", "PNG"), ("LA", "PNG")]
)
def test_unusual_pictures_are_converted(server, mode: str, format: str) -> None:
    options = {"save_all": True, "append_images": [Image.new("P", (40, 30), 5)]} if format == "GIF" else {}
    assert server.rows({"image": encoded(Image.new(mode, (40, 30)), format, **options)})[0] == 200


GOOD = {"embedding": [1.0] * D}
TRUNCATED = base64.b64encode(png_bytes(Image.linear_gradient("L").convert("RGB"))[:300]).decode()
BOMB = encoded(Image.new("1", (9000, 9000)), "PNG")


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        ([GOOD, {"image": "!!!???"}], "row 1, column 'image': not a picture: expected PNG, JPEG"),
        ([GOOD, {"image": base64.b64encode(b"hello").decode()}], "row 1, column 'image': not a picture"),
        ([{"image": TRUNCATED}], "row 0, column 'image': the picture cannot be decoded: it is cut off or damaged"),
        ([{"image": BOMB}], "row 0, column 'image': the picture has 9000 x 9000 pixels; at most 50,000,000"),
        ([{"image": 5}], "row 0, column 'image': expected the bytes of a picture or their base64 text"),
        ([GOOD, {"embedding": [1.0] * 3}], "row 1, column 'embedding': expected 64 numbers, got shape (3,)"),
        ([{"embedding": "abc"}], "row 0, column 'embedding': expected 64 numbers"),
        ([{"embedding": [None] * D}], "row 0, column 'embedding': expected 64 finite numbers, got NaN"),
        ([{"embedding": [0.0] * D}], "row 0, column 'embedding': the zero vector has no direction"),
        ([GOOD, {"text": " "}], "row 1, column 'text': expected a text that is not blank"),
        (
            [{"image": TRUNCATED, "text": "dog"}],
            "row 0: columns 'image' and 'text' are both given; expected exactly one",
        ),
        ([{"image": None}], "row 0: none of the columns 'image', 'text' and 'embedding' is given"),
        ([], "the request holds no rows with any of the columns 'image', 'text', 'embedding'"),
        ([{"picture": "x"}], "the request holds no rows with any of the columns"),
    ],
)
def test_bad_rows_are_named(server, records: list[dict], sentence: str) -> None:
    check_refused(server.rows(*records), sentence)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"l1_penalty": -1.0}, "l1_penalty must be a finite number above 0, got -1.0"),
        ({"l1_penalty": "x"}, "l1_penalty"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"suppress": ["dgo"]}, "'dgo' is not one of the 19 words of the vocabulary; near words: dog"),
    ],
)
def test_bad_parameters_are_named(server, params: dict, sentence: str) -> None:
    check_refused(server.rows(GOOD, **params), sentence)


@pytest.mark.parametrize("raw", [b"", b"{nope", b"[]", b'{"dataframe_records": 5}', b"\xff\xfe"])
def test_bodies_that_are_no_request(server, raw: bytes) -> None:
    status, body = server.post(raw)
    assert status in (400, 422)
    assert "Traceback" not in body
    assert server.rows(GOOD)[0] == 200  # and the server goes on


def test_many_threads_get_their_own_answers(server, base64_picture) -> None:
    requests = [{"embedding": [float(i == j) + 0.1 for j in range(D)]} for i in range(12)] + [{"image": base64_picture}]
    alone = [server.rows(request)[1][0]["concepts"] for request in requests]
    barrier = threading.Barrier(4)

    def ask(worker: int) -> bool:
        barrier.wait()
        return all(
            [c["concept"] for c in server.rows(requests[i])[1][0]["concepts"]] == [c["concept"] for c in alone[i]]
            for i in range(worker, len(requests), 2)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(4)))


def test_too_much_work_is_refused(server) -> None:
    """A penalty a hundredth of the registered one finds more words by far, and a server is shared."""
    check_refused(server.rows({"text": "a dog"}, l1_penalty=1e-12), "is too much work for a server")
    assert server.rows({"text": "a dog"}, l1_penalty=0.01)[0] == 200
