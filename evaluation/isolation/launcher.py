"""Start the processes that hold versions.

On Linux they are forked from a process that has imported the libraries, which takes seconds, and nothing else: none of
conceptry, whose code each version brings itself. Elsewhere forking is not safe enough, and each is started anew.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from typing import Protocol

from conceptry.evaluation.isolation import worker


class Child(Protocol):
    """A started process, as `subprocess.Popen` is one."""

    pid: int

    def wait(self, timeout: float | None = None) -> int: ...
    def kill(self) -> None: ...


def has_ended(child: Child) -> bool:
    """Whether a child is gone."""
    try:
        child.wait(timeout=0)
    except subprocess.TimeoutExpired:
        return False
    return True


def ahead() -> None:
    """Have the libraries of versions imported from now on, while this process does other things."""
    if sys.platform == "linux":
        _forks()


def start(uri: str, device: str, pipe: int, log: int, role: str = worker.ANSWERING) -> Child:
    """Start a process that loads `uri` on `device`, answers on the descriptor `pipe` and prints to `log`."""
    environ = dict(os.environ)
    if (mlflow := sys.modules.get("mlflow")) is not None:  # else nobody has chosen stores but by these variables
        # by variables, not arguments: a URI may hold a password, and arguments are seen by everybody
        environ |= {
            "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
            "MLFLOW_REGISTRY_URI": mlflow.get_registry_uri(),
        }
    if sys.platform == "linux":
        return _forks().start(uri, device, role, environ, pipe, log)
    return _run([str(pipe), uri, device, role], environ, [pipe], log)


def _run(arguments: list[str], environ: dict[str, str], descriptors: list[int], log: int) -> subprocess.Popen:
    return subprocess.Popen(
        # -P: the folder of worker.py must not come before the installed packages
        [sys.executable, "-P", worker.__file__, *arguments],
        env=environ,
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )


class _Forked:
    """The process of a version, seen through what the one that waits for it reports."""

    def __init__(self, status: int) -> None:
        self._status = os.fdopen(status, "rb")
        self._code: int | None = None
        self.pid = int(self._status.readline() or 0)

    def wait(self, timeout: float | None = None) -> int:
        if self._code is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("worker", timeout or 0)
            self._code = int(self._status.readline() or -signal.SIGKILL)
            self._status.close()
        return self._code

    def kill(self) -> None:
        if self._code is None and self.pid:
            os.kill(self.pid, signal.SIGKILL)


class _Forks:
    """The process that has imported the libraries; it ends with this one, which holds the other end of its socket."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        self._lock = threading.Lock()
        self.owner = os.getpid()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # `close` closes it
        self.process = _run(["fork", str(theirs.fileno())], dict(os.environ), [theirs.fileno()], self._said.fileno())
        theirs.close()

    def start(self, uri: str, device: str, role: str, environ: dict[str, str], pipe: int, log: int) -> _Forked:
        request = {"uri": uri, "device": device, "role": role, "environ": environ, "folder": os.getcwd()}
        message = json.dumps(request).encode()
        ours, theirs = os.pipe()
        with self._lock, suppress(OSError):  # it has just ended: the pipe, closed, says so
            self._control.sendall(len(message).to_bytes(8, "big") + message)
            socket.send_fds(self._control, [b"."], [pipe, log, theirs])
        os.close(theirs)
        child = _Forked(ours)
        if not child.pid:  # there is none, and the reason is in the words of the process that should have forked it
            self._said.seek(0)
            os.write(log, self._said.read())
        return child

    def close(self) -> None:
        self._control.close()
        if self.owner == os.getpid():
            self.process.kill()  # it may be importing still, and ends nothing that is worth waiting for
            self.process.wait()
            self._said.close()


_started: _Forks | None = None
_starting = threading.Lock()


def _forks() -> _Forks:
    """This process's own; a new one where it has ended, or belongs to the process that this one was forked from."""
    global _started
    with _starting:
        if _started is None or _started.owner != os.getpid() or _started.process.poll() is not None:
            _started = _Forks()
            atexit.register(_started.close)
        return _started
