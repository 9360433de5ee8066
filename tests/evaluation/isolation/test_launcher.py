import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conceptry.evaluation.isolation import launcher
from conceptry.evaluation.isolation.client import VersionProcess
from conceptry.models.errors import ConceptryError
from support import environment, is_running

linux = pytest.mark.skipif(sys.platform != "linux", reason="versions are forked on Linux only")
SCRIPT = """
import os, sys
from conceptry.evaluation.isolation import launcher as launch
from conceptry.evaluation.isolation.client import VersionProcess
process = VersionProcess(sys.argv[1], "cpu").__enter__()
print(launch._started.process.pid, process._child.pid, flush=True)
os._exit(0)
"""
AHEAD = """
import time
from conceptry.evaluation.isolation import launcher as launch
launch.ahead()
pid = launch._started.process.pid
def has_torch():
    with open(f"/proc/{pid}/maps") as stream:
        return "libtorch" in stream.read()
until = time.monotonic() + 60
while not has_torch() and time.monotonic() < until:
    time.sleep(0.05)
print(pid, has_torch())
"""


@linux
def test_a_version_starts_where_the_process_that_forks_was_killed(tiny_version) -> None:
    with VersionProcess(tiny_version.uri, "cpu"):
        first = launcher._forks()
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    with VersionProcess(tiny_version.uri, "cpu") as predict:
        assert predict.device_in_use == "cpu"
    assert launcher._forks() is not first


@linux
def test_the_environment_is_that_of_the_moment(tiny_version, monkeypatch: pytest.MonkeyPatch) -> None:
    with VersionProcess(tiny_version.uri, "cpu"):
        pass
    monkeypatch.setenv("CONCEPTRY_DEVICE", "cuda:77")
    with pytest.raises(Exception, match="cuda:77"), VersionProcess(tiny_version.uri, "cpu"):
        pass


@linux
def test_what_cannot_be_imported_beforehand_is_left_to_the_version(tiny_version, monkeypatch, tmp_path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(Path(launcher.worker.__file__).read_text("utf-8").replace('"pandas"', '"no_such_library"'))
    monkeypatch.setattr(launcher.worker, "__file__", str(script))
    monkeypatch.setattr(launcher, "_started", None)
    with VersionProcess(tiny_version.uri, "cpu") as predict:
        assert predict.device_in_use == "cpu"


@linux
def test_what_one_version_needed_is_imported_for_the_next(tiny_version, monkeypatch) -> None:
    monkeypatch.setattr(launcher, "_started", None)
    maps: list[str] = []
    for _ in range(2):
        with VersionProcess(tiny_version.uri, "cpu"):
            maps.append(Path(f"/proc/{launcher._forks().process.pid}/maps").read_text("utf-8"))
    first, second = maps
    assert "torchvision" not in first
    assert "torchvision" in second
    assert "sklearn" not in second  # which skops would have brought


@linux
def test_why_nothing_can_be_forked_is_told(tiny_version, monkeypatch, tmp_path) -> None:
    script = tmp_path / "worker.py"
    script.write_text("raise SystemExit('no room for libraries')")
    monkeypatch.setattr(launcher.worker, "__file__", str(script))
    monkeypatch.setattr(launcher, "_started", None)
    with pytest.raises(ConceptryError, match=r"ended with code .*: no room for libraries"):
        VersionProcess(tiny_version.uri, "cpu").__enter__()


@linux
def test_libraries_are_imported_before_a_version_is_asked_for() -> None:
    command = [sys.executable, "-c", AHEAD]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=True)
    pid, torch_there = done.stdout.split()
    assert torch_there == "True"
    assert not is_running(int(pid))  # it ended with the process that started it


def test_closing_ends_the_process_of_the_version(tiny_version) -> None:
    with VersionProcess(tiny_version.uri, "cpu") as predict:
        assert is_running(predict._child.pid)
    assert predict._child.wait() == 0
    assert not is_running(predict._child.pid)


@linux
def test_nothing_outlives_the_process_that_asked(tiny_version, store: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tiny_version.uri],
        env=environment(MLFLOW_TRACKING_URI=store),
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    for _ in range(100):
        if not any(map(is_running, pids)):
            return
        time.sleep(0.1)
    raise AssertionError(f"still running: {[pid for pid in pids if is_running(pid)]}")
