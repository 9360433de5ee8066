"""Time of a request over HTTP: one image asked of the served version, beside the same `predict` in this process.

The version is behind the real `mlflow models serve`, for as long as a context lasts.
"""

import base64
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow

from conceptry.evaluation.benchmarks.measure import Record, Target
from conceptry.models.errors import ConceptryError

START_SECONDS = 180


class Client:
    """One kept-alive connection to a scoring server on this machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def post(self, content: bytes) -> tuple[int, str]:
        """Send a body to /invocations; return the status and the text of the answer."""
        self._connection.request("POST", "/invocations", content, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        return answer.status, answer.read().decode()

    def close(self) -> None:
        self._connection.close()


@contextmanager
def served(uri: str, **environment: str) -> Iterator[Client]:
    """Serve the version `uri` of the store in use on a free port of 127.0.0.1 until the context ends.

    `environment` is added to the server's. Raises ConceptryError, with the last line of the server's log, where it
    does not come up.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The server looks its own programs up on the path.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "-p", str(port)]
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            command,
            env=os.environ | {"PATH": path, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()} | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        client = Client(port)
        try:
            _wait(child, port, log, uri)
            yield client
        finally:
            client.close()
            with suppress(ProcessLookupError):  # it may have ended by itself
                os.killpg(child.pid, signal.SIGTERM)
            child.wait(timeout=60)


def _wait(child: subprocess.Popen, port: int, log: Any, uri: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        try:
            probe = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            probe.request("GET", "/ping")
            probe.getresponse()
            probe.close()
            return
        except OSError:
            time.sleep(0.25)
    log.seek(0)
    last = log.read().decode(errors="replace").strip().splitlines()[-1:]
    raise ConceptryError(f"the server of {uri} did not come up: {' '.join(last) or 'no word from it'}")


def picture_request(content: bytes) -> bytes:
    """The JSON body that sends one picture, given the bytes of its file."""
    row = {"image": base64.b64encode(content).decode()}
    return json.dumps({"dataframe_records": [row]}).encode()


@contextmanager
def own_store() -> Iterator[Path]:
    """A store of its own in a temporary folder, where new experiments keep their artifacts; yields the folder."""
    before, folder = mlflow.get_tracking_uri(), os.getcwd()
    with tempfile.TemporaryDirectory() as temporary:
        try:
            os.chdir(temporary)
            mlflow.set_tracking_uri(f"sqlite:///{Path(temporary) / 'mlflow.db'}")
            yield Path(temporary)
        finally:
            os.chdir(folder)
            mlflow.set_tracking_uri(before)


REPEATS, WARM_UP = 200, 20


def measure_serving(progress: Callable[[str], None], repeats: int = REPEATS) -> tuple[list[Record], list[Target]]:
    """Medians over `repeats` pairs of calls, taken in turn, of versions in a store of their own.

    The target is about the ONNX version, which the demo makes its champion; the torch one is shown beside it.
    """
    with own_store():
        found = {runtime: _measure(runtime, repeats, progress) for runtime in ("onnx", "torch")}
    records = [
        record
        for runtime, (inside, over_http) in found.items()
        for record in (
            Record(f"one picture, {runtime}", "predict in process", inside),
            Record(f"one picture, {runtime}", "mlflow models serve", over_http, extra={"ratio": over_http / inside}),
        )
    ]
    inside, over_http = found["onnx"]
    name = "served one-picture request, ms (1.3 times predict in process + 3 ms)"
    return records, [Target(name, over_http * 1e3, 1.3 * inside * 1e3 + 3, "max")]


def _measure(runtime: str, repeats: int, progress: Callable[[str], None]) -> tuple[float, float]:
    """Median seconds of `predict` in this process and of the same request over HTTP."""
    import pandas as pd

    from conceptry.evaluation.splice.data import load_images
    from conceptry.registry import load, register

    progress(f"serving with {runtime}: registering and starting the server")
    version = register("splice", {"runtime": runtime}).version
    picture = load_images("zoo:emoji-scenes", size=2).images[1].content()
    body, frame = picture_request(picture), pd.DataFrame({"image": [picture]})
    model = load(version.uri)
    seconds: tuple[list[float], list[float]] = ([], [])
    with served(version.uri) as client:
        progress(f"serving with {runtime}: one picture at a time")
        for _ in range(repeats + WARM_UP):
            start = time.perf_counter()
            model.predict(frame)
            between = time.perf_counter()
            status, text = client.post(body)
            end = time.perf_counter()
            assert status == 200, text
            seconds[0].append(between - start)
            seconds[1].append(end - between)
    inside, over_http = (statistics.median(values[WARM_UP:]) for values in seconds)
    return inside, over_http
