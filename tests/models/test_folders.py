"""What is being made bears the mark of its process, and is told to be left behind when that is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conceptry.models.folders import is_alive, left_folders, new_folder, new_temporary_folder, process_mark
from conceptry.models.manifest import replace_atomically


@pytest.fixture(scope="module")
def dead() -> str:
    """The mark of a process that has ended."""
    code = "from conceptry.models.folders import process_mark; print(process_mark())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_marks_say_whether_their_process_goes_on(dead: str) -> None:
    machine, pid, started = process_mark().split("-")
    assert is_alive(process_mark()) is True
    assert is_alive(dead) is False
    assert is_alive(f"{machine}-{pid}-{int(started) + 1}") is False  # the number has been given to another process
    assert is_alive(f"{machine}-{os.getppid()}-0") is True  # when it started is not known
    assert is_alive(f"00000000-{pid}-{started}") is None


def test_only_what_was_left_is_found(tmp_path: Path, dead: str) -> None:
    (tmp_path / f"conceptry-package-{dead}-abc_1").mkdir()
    (tmp_path / f".results.{dead}.partial").mkdir()
    (tmp_path / f".table.csv.{dead}-0a1b2c3d.part").touch()
    for other in ("conceptry-tests-abcd", ".results.partial", f"mine-{dead}", ".rsync.part"):
        (tmp_path / other).mkdir()
    (tmp_path / f"conceptry-link-{dead}-x").symlink_to(tmp_path / "mine")
    elsewhere = tmp_path / "conceptry-package-00000000-1-1-x"
    elsewhere.mkdir()
    with new_folder(tmp_path / "new") as partial:
        partial.mkdir()
        new_temporary_folder("package", tmp_path)
        found = dict(left_folders(tmp_path))
    assert found == {
        tmp_path / f"conceptry-package-{dead}-abc_1": False,
        tmp_path / f".results.{dead}.partial": False,
        tmp_path / f".table.csv.{dead}-0a1b2c3d.part": False,
        elsewhere: None,
    }


def test_a_folder_that_a_child_still_uses_is_left_out(tmp_path: Path, dead: str) -> None:
    folder = tmp_path / f"conceptry-process-{dead}-x"
    folder.mkdir()
    with subprocess.Popen(["sleep", "60"], env={"TMPDIR": str(folder), "PATH": os.environ["PATH"]}) as child:
        try:
            assert list(left_folders(tmp_path)) == []
        finally:
            child.kill()
    assert list(left_folders(tmp_path)) == [(folder, False)]


def test_writing_a_file_removes_what_killed_writers_left_of_it(tmp_path: Path, dead: str) -> None:
    for name in ("table.csv", "other.csv"):
        (tmp_path / f".{name}.{dead}-0a1b2c3d.part").touch()
    replace_atomically(tmp_path / "table.csv", b"1\n")
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", f".other.csv.{dead}-0a1b2c3d.part"}
