"""Real servers of a version, `mlflow models serve` or `conceptry serve`, for as long as a context lasts."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow

from conceptry.models.errors import ConceptryError

START_SECONDS = 180


JSON = {"Content-Type": "application/json"}


class Client:
    """One kept-alive connection to a scoring server on this machine. `pid`: of the server's first process."""

    def __init__(self, port: int, pid: int = 0) -> None:
        self.port, self.pid = port, pid
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def post(self, content: bytes, headers: Mapping[str, str] = JSON) -> tuple[int, str]:
        """Send a body to /invocations; return the status and the text of the answer."""
        return self.send("POST", "/invocations", content, headers)

    def send(self, verb: str, path: str, content: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
        """Send any request; return the status and the text of the answer. Raises OSError where there is none."""
        try:
            self._connection.request(verb, path, content, dict(headers))
            answer = self._connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from None

    def close(self) -> None:
        self._connection.close()


MLFLOW, CONCEPTRY = "mlflow models serve", "conceptry serve"


@contextmanager
def served(uri: str, program: str = MLFLOW, options: Sequence[str] = (), **environment: str) -> Iterator[Client]:
    """Serve the version `uri` of the store in use on a free port of 127.0.0.1 until the context ends.

    `options` go to the program, `environment` is added to the server's. Raises ConceptryError, with the last line of
    the server's log, where it does not come up.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The server looks its own programs up on the path.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    if program == MLFLOW:
        arguments = ["mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "-p", str(port), *options]
    else:
        arguments = ["conceptry.evaluation.cli.app", "serve", uri, "--port", str(port), *options]
    command = [sys.executable, "-m", *arguments]
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            command,
            env=os.environ | {"PATH": path, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()} | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        client = Client(port, child.pid)
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


def image_request(content: bytes) -> bytes:
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
