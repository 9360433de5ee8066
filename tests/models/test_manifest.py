"""Sealed folders: any changed, missing or added byte is named."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conceptry.models.errors import IntegrityError
from conceptry.models.manifest import MANIFEST, replace_atomically, verify, write_json, write_manifest


@pytest.fixture
def package(tmp_path: Path) -> tuple[Path, str]:
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "weights.bin").write_bytes(bytes(range(200)))
    write_json(tmp_path / "config.json", {"b": 1, "a": "ä"})
    return tmp_path, write_manifest(tmp_path)


def test_an_untouched_folder_passes_and_equal_folders_have_equal_digests(package, tmp_path_factory) -> None:
    directory, digest = package
    verify(directory, digest)
    copy = tmp_path_factory.mktemp("copy")
    (copy / "encoder").mkdir()
    (copy / "encoder" / "weights.bin").write_bytes(bytes(range(200)))
    write_json(copy / "config.json", {"a": "ä", "b": 1})
    assert write_manifest(copy) == digest


@pytest.mark.parametrize("position", [0, 100, 199])
def test_one_changed_byte_is_named(package, position: int) -> None:
    directory, digest = package
    path = directory / "encoder" / "weights.bin"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"^encoder/weights\.bin: does not have the SHA-256"):
        verify(directory, digest)


def test_missing_added_and_forged_files_are_named(package) -> None:
    directory, digest = package
    (directory / "extra.txt").write_text("x")
    with pytest.raises(IntegrityError, match=r"^extra\.txt: not part of the package"):
        verify(directory, digest)
    (directory / "extra.txt").unlink()
    (directory / "config.json").unlink()
    with pytest.raises(IntegrityError, match=r"^config\.json: missing"):
        verify(directory, digest)
    write_manifest(directory)  # a manifest that fits the changed folder does not fit the recorded digest
    with pytest.raises(IntegrityError, match=r"^manifest\.json: does not have the SHA-256"):
        verify(directory, digest)
    (directory / MANIFEST).unlink()
    with pytest.raises(IntegrityError, match=r"^manifest\.json: missing"):
        verify(directory, digest)


def test_threads_that_write_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([i]) * 100_000 for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: replace_atomically(path, contents[i % 4]), range(200)))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]
