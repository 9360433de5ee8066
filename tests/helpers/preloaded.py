"""Commands that start at once: forked from a process that holds torch, MLflow and other libraries already.

Importing them takes up to ten seconds of a core, and the blocks of the manual start some hundred processes. `Preloaded`
writes commands (`python`, `conceptry`, `mlflow`) into a folder for the front of PATH. Each is a small client: it sends
its arguments, variables, folder and open files to the process that holds the libraries; that forks one which runs the
program as Python would have; the client ends as it ends, by the same code or signal. What is started by
`sys.executable` starts in the same way. Nothing of conceptry is imported beforehand.

Tests of starting itself, of servers and of single commands use the real interpreter.
"""

import gc
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

VERSION = ("mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store", "pandas", "torch")  # what any version needs
COMMAND = (*VERSION, "matplotlib.figure", "open_clip", "sklearn.ensemble")  # and what most commands do
# What a process that answers for a version does without.
UNNEEDED = {"matplotlib", "networkx", "onnx", "onnxruntime", "open_clip", "skimage", "sklearn", "timm", "torchvision"}
UNNEEDED |= {"conceptry.evaluation", "conceptry.registry"}
PROGRAMS = ("python", "conceptry", "mlflow")
CLIENT = """\
#!{python} -IS
import json, os, signal, socket, sys

connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
files = [int(name) for name in os.listdir("/proc/self/fd")]
files = [file for file in files if file != connection.fileno() and os.path.exists(f"/proc/self/fd/{{file}}")]
request = {{"program": {program!r}, "arguments": sys.argv, "environ": dict(os.environ), "folder": os.getcwd()}}
message = json.dumps(request | {{"files": files}}).encode()
connection.sendall(len(message).to_bytes(8, "big") + message)
socket.send_fds(connection, [b"."], files)
child = int.from_bytes(connection.recv(8), "big")
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, frame: os.kill(child, number))
code = int.from_bytes(connection.recv(8), "big", signed=True)
if code < 0:
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Preloaded:
    """The commands, in `folder`, and the process behind them, which ends with this object or its owner.

    libraries: which it holds.
    """

    def __init__(self, folder: Path, environ: dict[str, str], libraries: Sequence[str] = COMMAND) -> None:
        self.folder, self._environ = folder, environ
        address = str(folder / "socket")
        for program in PROGRAMS:
            command = folder / program
            command.write_text(CLIENT.format(python=sys.executable, address=address, program=program))
            command.chmod(0o755)
        self._alive, theirs = socket.socketpair()
        command = [sys.executable, __file__, address, str(theirs.fileno()), *libraries]
        self._process = subprocess.Popen(command, env=environ, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        if not self._alive.recv(1):
            raise RuntimeError("the process that holds the libraries has not started")

    def imported(self, program: str, *arguments: str) -> set[str]:
        """The modules that a program has imported at its end, those that are held here among them."""
        command = [self.folder / "python", "-c", f"{program}\nimport sys\nprint(*sys.modules)", *arguments]
        done = subprocess.run(command, env=self._environ, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return set(done.stdout.splitlines()[-1].split())

    def close(self) -> None:
        self._alive.close()
        self._process.wait(timeout=60)


def main() -> None:
    address, alive = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
    gc.disable()
    for name in sys.argv[3:]:
        __import__(name)
    if hasattr(requirements_utils := sys.modules["mlflow.utils.requirements_utils"], "_init_modules_to_packages_map"):
        requirements_utils._init_modules_to_packages_map()  # MLflow reads all installed packages where a model is saved
    gc.freeze()  # what all processes share is not gone through by any of them, nor when they end
    gc.enable()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    alive.send(b".")
    serve(listener, alive, Path(address).parent)


def serve(listener: socket.socket, alive: socket.socket, commands: Path) -> None:
    """Fork a process for each client; kill it where its client is gone, and all of them where the owner is."""
    children: dict[int, tuple[int, socket.socket]] = {}  # by the descriptor that is ready once the process has ended
    while True:
        clients = {connection: pid for pid, connection in children.values()}
        ready, _, _ = select.select([listener, alive, *children, *clients], [], [])
        for one in ready:
            if one is alive:
                for pid in clients.values():
                    kill(pid)
                os._exit(0)
            elif one in clients:
                kill(clients[one])
            elif one in children:
                pid, connection = children.pop(one)
                os.close(one)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with suppress(OSError):
                    connection.send(code.to_bytes(8, "big", signed=True))
                connection.close()
        if listener in ready:
            connection, _ = listener.accept()
            try:
                request, files = received(connection)
            except (OSError, ValueError):  # it was killed while it asked
                connection.close()
                continue
            pid = os.fork()
            if pid == 0:
                for other in (listener, alive, connection, *clients):
                    other.close()
                for ended in children:
                    os.close(ended)
                become(request, files, commands)
                return
            for file in files:
                os.close(file)
            connection.send(pid.to_bytes(8, "big"))
            children[os.pidfd_open(pid)] = pid, connection


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    request = json.loads(exactly(connection, int.from_bytes(exactly(connection, 8), "big")))
    return request, socket.recv_fds(connection, 1, 250)[1]


def exactly(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        part = connection.recv(size - len(content))
        if not part:
            raise ValueError("the client has gone")
        content += part
    return content


def become(request: dict[str, Any], files: list[int], commands: Path) -> None:
    """Be what the client stands for: its files by their numbers, its folder, its variables, its program."""
    # Out of the way of all numbers first.
    high = [os.dup2(file, 1000 + k, inheritable=False) for k, file in enumerate(files)]
    for file in files:
        os.close(file)
    for file, number in zip(high, request["files"], strict=True):
        os.dup2(file, number, inheritable=True)
        os.close(file)
    os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.stdin = sys.__stdin__ = os.fdopen(0, "r", closefd=False, encoding="utf-8")
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False, encoding="utf-8")
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, closefd=False, encoding="utf-8", errors="backslashreplace")
    sys.executable = str(commands / "python")
    random.seed()
    arguments = request["arguments"]
    if request["program"] == "python":
        interpret(arguments[1:])
    else:
        sys.argv = arguments
        sys.path[0] = str(commands)
        command, *_ = entry_points(group="console_scripts", name=request["program"])
        sys.exit(command.load()())


def interpret(arguments: list[str]) -> None:
    """Run `-c CODE`, `-m MODULE` or a file; of other options those that the project uses itself."""
    given = [argument for argument in arguments[:2] if argument in ("-P", "-u") or argument.startswith("-X")]
    what, *rest = arguments[len(given) :]
    before = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if what == "-c":
        code, *rest = rest
        sys.argv, first = ["-c", *rest], ""
    elif what == "-m":
        module, *rest = rest
        sys.argv, first = ["-m", *rest], os.getcwd()
    else:
        assert not what.startswith("-"), f"{what}: an option that is not known here"
        sys.argv, first = [what, *rest], str(Path(what).resolve().parent)
    sys.path[:1] = before if "-P" in given else [first, *before]
    if what == "-c":
        module = type(sys)("__main__")
        sys.modules["__main__"] = module
        exec(compile(code, "<string>", "exec"), vars(module))
    elif what == "-m":
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(what, run_name="__main__")


if __name__ == "__main__":
    main()
