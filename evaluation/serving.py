"""A version behind the real `mlflow models serve`, for as long as a context lasts; and one request to it."""

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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow

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
