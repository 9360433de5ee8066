"""`conceptry serve`: limits, the deadline, ends of processes and of clients, over real HTTP and real processes.

The model here sleeps and ends as a request tells it, which no explainer does.
"""

import asyncio
import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
import pytest

from conceptry.evaluation.benchmarks.servers import CONCEPTRY, served
from conceptry.evaluation.server.app import Metrics
from conceptry.evaluation.server.limits import Limits
from conceptry.evaluation.server.pool import Pool
from conceptry.evaluation.server.run import http_server
from conceptry.registry import load, register
from serving import Server, check_refused
from support import is_running

LIMITS = Limits(rows=4, bytes=2000, requests=2, seconds=2.0, abandoned_seconds=0.2)
SLEEPER = """
import os, time
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Sleeper(PythonModel):
    def predict(self, context, model_input, params=None):
        for row in model_input.to_dict("records"):
            if row.get("end"):
                os._exit(3)
            if row.get("fail"):
                raise RuntimeError(f"a secret of {__file__}")
            time.sleep(row.get("seconds", 0))
        return pd.DataFrame({"pid": [os.getpid()] * len(model_input)})


set_model(Sleeper())
"""


class Sleeping:
    """A server of a model that sleeps, in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve(folder)))
        self.thread.start()
        assert self.ready.wait(120)

    async def _serve(self, folder: Path) -> None:
        metrics = Metrics()
        async with Pool(folder, "cpu", 1, metrics.restarts.inc) as pool:
            self.server = http_server(pool, LIMITS, metrics, "models:/sleeper/1")
            self.ready.set()
            await self.server.serve(sockets=[self.listener])

    def send(self, body: Any, verb: str = "POST", path: str = "/invocations", **headers: str) -> tuple[int, str, Any]:
        """Status, text and headers of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(verb, path, content, {"Content-Type": "application/json"} | headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text, answer.headers

    def rows(self, *rows: dict) -> tuple[int, str, Any]:
        return self.send({"dataframe_records": list(rows)})

    def pid(self) -> int:
        """The number of the process that answers; a new one may have to start first."""
        for _ in range(30):
            status, text, _ = self.rows({"seconds": 0})
            if status == 200:
                return json.loads(text)["predictions"][0]["pid"]
            assert status == 503, text
        raise AssertionError(text)

    def restarts(self) -> float:
        lines = self.send(b"", "GET", "/metrics")[1].splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("conceptry_restarts_total"))

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()


@pytest.fixture(scope="module")
def sleeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sleeping]:
    folder = tmp_path_factory.mktemp("sleeper")
    (folder / "sleeper.py").write_text(SLEEPER)
    model = str(folder / "sleeper.py")
    mlflow.pyfunc.save_model(str(folder / "model"), python_model=model, pip_requirements=["mlflow"])
    server = Sleeping(folder / "model")
    yield server
    server.close()


@pytest.mark.parametrize(
    ("body", "headers", "status", "sentence"),
    [
        (b'{"dataframe_records": [', {}, 400, "the body is not JSON"),
        (b'{"\xff"}', {}, 400, "the body is not UTF-8 text"),
        (b"[" * 1999, {}, 400, "nested too deeply"),
        (b'{"dataframe_records": [{"seconds": ' + b"1" * 1900 + b"}]}", {}, 400, "the rows do not fit"),
        ([1], {}, 400, "Received a list"),
        ({"dataframe_records": 3}, {}, 400, "must be a list of records"),
        ({"inputs": [1], "instances": [1]}, {}, 400, "exactly one of the input fields"),
        ({"dataframe_records": [{"seconds": 0}] * 5}, {}, 413, "the request holds 5 rows; this server takes 4"),
        (b"x" * 2001, {}, 413, "longer than 2,000 bytes"),
        (b"{}", {"Content-Type": ""}, 415, "content types"),
        (b"{}", {"Content-Type": "text/xml"}, 415, "content types"),
        (b"{}", {"Content-Encoding": "gzip"}, 415, "must not be compressed"),
        (b"PAR1", {"Content-Type": "application/vnd.apache.parquet"}, 400, "cannot be read as rows"),
        ({"dataframe_records": [{"fail": 1}]}, {}, 400, "the rows do not fit"),
    ],
)
def test_what_is_wrong_is_one_sentence(sleeping: Sleeping, body, headers, status: int, sentence: str) -> None:
    got, text, _ = sleeping.send(body, **headers)
    assert (got, list(json.loads(text))) == (status, ["error_code", "message"])
    assert sentence in json.loads(text)["message"]
    for forbidden in ("Traceback", ".py", "/tmp", "site-packages", "secret"):
        assert forbidden not in text


def test_a_body_in_pieces_is_counted(sleeping: Sleeping) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", sleeping.port, timeout=60)
    connection.request("POST", "/invocations", iter([b"x" * 900] * 4), {"Content-Type": "application/json"})
    assert connection.getresponse().status == 413
    connection.close()


def test_a_parquet_file_is_counted_before_it_is_read(sleeping: Sleeping) -> None:
    import io

    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"seconds": [0] * 300_000}), stream)
    assert len(stream.getvalue()) < LIMITS.bytes
    status, text, _ = sleeping.send(stream.getvalue(), **{"Content-Type": "application/vnd.apache.parquet"})
    assert (status, "300,000 rows" in text) == (413, True)


def test_addresses(sleeping: Sleeping) -> None:
    for path in ("/ping", "/health", "/ready", "/version"):
        assert sleeping.send(b"", "GET", path)[0] == 200
    assert json.loads(sleeping.send(b"", "GET", "/ready")[1]) == {"version": "models:/sleeper/1", "processes": 1}
    assert sleeping.send(b"", "GET", "/invocations")[0] == 405
    assert sleeping.send(b"", "GET", "/nowhere")[0] == 404
    metrics = sleeping.send(b"", "GET", "/metrics")[1]
    assert 'conceptry_errors_total{kind="too_large"}' in metrics
    assert "conceptry_requests_in_flight 0.0" in metrics
    assert "conceptry_request_seconds_bucket" in metrics


def test_after_the_deadline_the_work_has_stopped(sleeping: Sleeping) -> None:
    before = sleeping.pid()
    start = time.monotonic()
    status, text, headers = sleeping.rows({"seconds": 600})
    assert (status, "no answer within 2 s" in text, headers["Retry-After"]) == (503, True, "1")
    assert time.monotonic() - start < 30
    assert sleeping.pid() != before
    assert not is_running(before)


def test_a_process_that_ends_costs_its_own_request_alone(sleeping: Sleeping) -> None:
    before = sleeping.pid()
    status, text, _ = sleeping.rows({"end": 1})
    assert (status, "has ended" in text) == (503, True)
    os.kill(sleeping.pid(), signal.SIGKILL)  # while nobody asks anything
    assert sleeping.rows({"seconds": 0})[0] in (200, 503)
    assert sleeping.pid() != before


def test_the_work_of_a_client_that_has_gone_stops(sleeping: Sleeping) -> None:
    before, restarts = sleeping.pid(), sleeping.restarts()
    connection = http.client.HTTPConnection("127.0.0.1", sleeping.port, timeout=60)
    content = json.dumps({"dataframe_records": [{"seconds": 1.9}]})
    connection.request("POST", "/invocations", content, {"Content-Type": "application/json"})
    time.sleep(0.2)
    connection.close()
    until = time.monotonic() + 60
    while sleeping.restarts() == restarts and time.monotonic() < until:
        time.sleep(0.05)
    assert sleeping.pid() != before


def test_more_requests_than_it_takes_are_told_to_come_again(sleeping: Sleeping) -> None:
    answers: list[tuple[int, str, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(sleeping.rows({"seconds": 0.5}))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for status, _, _ in answers) == [200] * 2 + [429] * 4
    assert {headers["Retry-After"] for status, _, headers in answers if status == 429} == {"1"}


def test_a_version_is_served_and_told_to_end(harsanyi_version, tiny_classifier, tiny_rows) -> None:
    """The command itself, over a version with a limit of its own: 3 rows of 5 columns are 96 masked inputs."""
    options = {"model": f"classifier:{tiny_classifier}"}
    version = register("harsanyi", options, name="tiny-harsanyi", max_work=100).version
    assert version.version != harsanyi_version.version
    assert version.params["max_work"] == "100"
    with served(version.uri, CONCEPTRY) as client:
        server = Server(client.port)
        status, answers = server.rows(*tiny_rows)
        assert status == 200
        expected = load(version.uri).predict(pd.DataFrame(tiny_rows)).to_dict("records")
        assert [answer["v_full"] for answer in answers] == pytest.approx([row["v_full"] for row in expected])
        check_refused(
            server.rows(*tiny_rows, tiny_rows[0]),
            "128 masked inputs, 2^players a row or the budget of a sampled one, and it takes 100",
        )
        check_refused(server.rows({**tiny_rows[0], "age": 1e39}), "beyond what the network's float32 holds")
        check_refused(server.rows(tiny_rows[0], target="\u00b2"), "has no output")
        check_refused(server.rows(tiny_rows[0], target="1" * 5000), "has no output")
        os.kill(client.pid, signal.SIGTERM)
        until = time.monotonic() + 30
        with suppress(ChildProcessError):
            while os.waitpid(client.pid, os.WNOHANG) == (0, 0):
                assert time.monotonic() < until
                time.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nowhere/1",), "no registered model 'nowhere'"),
        (("nowhere/1", "--timeout", "0"), "--timeout must be above 0 seconds"),
        (("nowhere/1", "--host", "203.0.113.1"), "nothing can listen there"),
    ],
)
def test_what_cannot_be_served(command_line, arguments, sentence: str) -> None:
    code, _, said = command_line("serve", "--port", "0", *arguments)
    assert (code, sentence in said) == (2, True), said
