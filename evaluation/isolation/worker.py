"""The process that holds one version: load it, then answer requests until the pipe closes.

Run as a script, by `conceptry.evaluation.isolation.client`. It imports libraries alone, so the version's own
code is what runs, whatever conceptry is installed beside it. Importing them takes seconds, so the script can also stay
as it is after that, and fork a process for each version that it is asked for: `worker.py fork SOCKET`. It imports what
all of them need before it is asked, while the process that started it is busy with its own imports.
"""

import gc
import importlib
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

ANSWERING, SCORING = "answering", "scoring"  # roles: of tables, and of HTTP requests
NEEDED = ("mlflow.pyfunc", "pandas", "torch")
# What takes half a second or more to import, and some versions or stores of MLflow need: imported for the next version
# once one has needed it.
SLOW = (
    *("numba", "open_clip", "skops.io", "torchvision"),
    *("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
)


def main() -> None:
    """Arguments: "fork" and a socket; or descriptor of the pipe, model URI, device, role. Stores come by variables."""
    if sys.argv[1] == "fork":
        _fork_on_request(socket.socket(fileno=int(sys.argv[2])))
        os._exit(0)  # libraries take a second or two to end in order, and nothing here needs it
    else:
        descriptor, uri, device, role = sys.argv[1:]
        serve(Connection(int(descriptor)), uri, device, role)


def serve(pipe: Connection, uri: str, device: str, role: str, loaded: Callable[[], None] = lambda: None) -> None:
    """Load the version and answer on `pipe` until it closes: tables, or as "scoring" the bodies of HTTP requests.

    loaded: is called once the version is.
    """
    import mlflow

    try:
        # MLflow would warn where other versions of libraries are installed than those of the registration, and read the
        # records of all installed files for that: seconds, for a log that nobody reads.
        model = mlflow.pyfunc.load_model(uri, suppress_warnings=True, model_config={"device": device})
    except Exception as error:
        pipe.send(("error", _sentence(error)))
        return
    loaded()
    explainer = model.unwrap_python_model()
    ready = ("ready", str(getattr(explainer, "device", "unknown")))
    if role == SCORING:
        scoring = _sibling("scoring")  # imported before it says that it is ready
        pipe.send(ready)
        scoring.serve(pipe, model)
        return
    explainer.progress = lambda what, share: pipe.send(("progress", (what, share)))
    pipe.send(ready)
    while True:
        try:
            frame, params = pipe.recv()
        except EOFError:
            return
        start = time.perf_counter()
        try:
            # Without rows: draw layers of the explained model anew, which versions of former releases cannot.
            redrawn = None if frame is not None else getattr(explainer, "redraw", lambda **_: 0)(**params)
            answer = redrawn if frame is None else model.predict(frame, params=params)
        except Exception as error:
            pipe.send(("error", _sentence(error)))
        else:
            pipe.send(("answer", (answer, time.perf_counter() - start)))


def _sibling(name: str) -> ModuleType:
    """A module of this folder, which is on no path, so that it hides none of the installed ones."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _sentence(error: Exception) -> str:
    return str(getattr(error, "message", error)).strip() or type(error).__name__


def _fork_on_request(control: socket.socket) -> None:
    """Import what versions need, then fork for every request on `control` until it closes.

    A request is JSON {uri, device, role, environ, folder} with three file descriptors: the pipe, the log, and a status
    file, to which the process that waits for the version's writes its number, and when it ended its exit code.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for those who wait
    _import(NEEDED)
    needed, needs = os.pipe()  # versions write what they needed, each with its role
    wanted: set[str] = set()
    said = b""
    while True:
        ready, _, _ = select.select([control, needed], [], [])
        if needed in ready:
            *lines, said = (said + os.read(needed, select.PIPE_BUF)).split(b"\n")
            for line in lines:
                role, *libraries = line.decode().split()
                wanted.update(libraries)
                if role == SCORING:  # whose place another one may have to take at once
                    _import(wanted)
            continue
        size = int.from_bytes(_exactly(control, 8), "big")
        if not size:
            return
        message = _exactly(control, size)
        _import(wanted)
        request = json.loads(message)
        _, descriptors, _, _ = socket.recv_fds(control, 1, 3)
        if not os.fork():
            control.close()
            os.close(needed)
            pipe, log, status = descriptors
            _wait_for_version(request, pipe, log, status, needs)
        for descriptor in descriptors:
            os.close(descriptor)


def _import(libraries: Iterable[str]) -> None:
    gc.disable()  # a quarter of the time goes to looking for garbage among what stays
    for library in libraries:
        with suppress(Exception):  # a version that needs it says so itself
            importlib.import_module(library)
    gc.freeze()  # nor do the processes that are forked have to look there, which would copy its pages
    gc.enable()


def _exactly(control: socket.socket, size: int) -> bytes:
    """`size` bytes; fewer, so that their number reads as 0, where the other side is gone."""
    parts = b""
    while len(parts) < size and (part := control.recv(size - len(parts))):
        parts += part
    return parts if len(parts) == size else b""


def _wait_for_version(request: dict, pipe: int, log: int, status: int, needs: int) -> None:
    """Fork the version's process and report on it; never returns."""

    def tell() -> None:
        libraries = [library for library in SLOW if library in sys.modules]
        os.write(needs, f"{' '.join([request['role'], *libraries])}\n".encode())
        os.close(needs)

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child:
        os.close(pipe)
        os.close(needs)
        os.write(status, f"{child}\n".encode())
        _, code = os.waitpid(child, 0)
        os.write(status, f"{os.waitstatus_to_exitcode(code)}\n".encode())
        os._exit(0)
    os.close(status)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(request["environ"])
    os.chdir(request["folder"])
    try:
        serve(Connection(pipe), request["uri"], request["device"], request["role"], tell)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
