"""Where compiled kernels are kept: in the user's cache, never beside the code."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from preloaded import Preloaded

from support import environment

PROGRAM = """
import sys, numba
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import kernel
assert kernel.double(21) == 42
print(kernel.double.stats.cache_path, numba.config.CACHE_DIR or "unset")
"""
KERNEL = """
from conceptry.models.jit import compiled

@compiled
def double(x):
    return 2 * x
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "kernel.py").write_text(KERNEL)
    return tmp_path / "code"


@pytest.fixture
def run(preloaded: Preloaded) -> Callable[..., list[str]]:
    def run(code: Path, program: str = PROGRAM, **variables: str) -> list[str]:
        """What a process of its own prints: where the kernel is cached, and numba's setting afterwards."""
        finished = subprocess.run(
            [preloaded.folder / "python", "-c", program, str(code)],
            env=environment(**variables),
            capture_output=True,
            text=True,
            check=True,
        )
        return finished.stdout.split()

    return run


def test_kernels_are_cached_in_the_cache_folder(run, code: Path, tmp_path: Path) -> None:
    cached, setting = run(code, CONCEPTRY_CACHE=str(tmp_path / "cache"))
    assert Path(cached).is_relative_to(tmp_path / "cache" / "numba")
    assert list((tmp_path / "cache" / "numba").rglob("*.nbi"))
    assert setting == "unset"
    assert [path.name for path in code.iterdir()] == ["kernel.py"]


def test_a_folder_that_the_user_set_is_kept(run, code: Path, tmp_path: Path) -> None:
    own = str(tmp_path / "own")
    cached, setting = run(code, CONCEPTRY_CACHE=str(tmp_path / "cache"), NUMBA_CACHE_DIR=own)
    assert Path(cached).is_relative_to(own)
    assert setting == own


def test_without_a_writable_folder_kernels_run_uncached(run, code: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run(code, CONCEPTRY_CACHE=str(tmp_path / "file")) == ["None", "unset"]


def test_the_same_code_elsewhere_is_not_compiled_again(run, code: Path, tmp_path: Path) -> None:
    variables = {"CONCEPTRY_CACHE": str(tmp_path / "cache")}
    first, _ = run(code, **variables)
    files = {path: path.stat().st_mtime_ns for path in Path(first).iterdir()}
    assert files
    (tmp_path / "other").mkdir()
    shutil.copy(code / "kernel.py", tmp_path / "other")
    second, _ = run(tmp_path / "other", **variables)
    assert second == first
    assert {path: path.stat().st_mtime_ns for path in Path(second).iterdir()} == files
    (tmp_path / "other" / "kernel.py").write_text(KERNEL.replace("2 * x", "x + x"))
    assert run(tmp_path / "other", **variables)[0] != first


def test_a_module_that_has_moved_shares_no_cache(run, code: Path, tmp_path: Path) -> None:
    """A cached kernel imports its module by name: a version with another layout would fail to load it."""
    variables = {"CONCEPTRY_CACHE": str(tmp_path / "cache")}
    first, _ = run(code, **variables)
    moved = tmp_path / "moved" / "elsewhere"
    moved.mkdir(parents=True)
    shutil.copy(code / "kernel.py", moved)
    program = PROGRAM.replace("import kernel", "from elsewhere import kernel")
    second, _ = run(moved.parent, program, **variables)
    assert Path(second).is_relative_to(tmp_path / "cache" / "numba")
    assert second != first
