"""What is freed stays with the process once it has asked for that, and goes back to the system before."""

import platform
import subprocess
import sys

import pytest

from support import environment

_FREED = """
import ctypes, resource, sys
from conceptry.models.memory import keep_freed_memory

def resident():
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * resource.getpagesize() / 2**20

if sys.argv[1] == "kept":
    keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
before = resident()
block = libc.malloc(2**26)
ctypes.memset(block, 1, 2**26)
libc.free(block)
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize(("what", "least", "most"), [("kept", 60, 70), ("given back", -1, 4)])
def test_freed_memory(what: str, least: float, most: float) -> None:
    command = [sys.executable, "-c", _FREED, what]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=True)
    assert least <= float(done.stdout) <= most


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    from conceptry.models.memory import keep_freed_memory

    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())  # one without mallopt
    keep_freed_memory()


_ENDS = """
import gc
from conceptry.models.memory import collect_rarely

class Cycle:
    def __del__(self):
        print("collected")

collect_rarely()
collect_rarely()
cycle = Cycle()
cycle.itself = cycle
print(gc.get_threshold()[0] > 10_000, gc.isenabled())
"""


def test_what_a_command_holds_is_not_gone_through_when_it_ends() -> None:
    command = [sys.executable, "-c", _ENDS]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True True\n"
