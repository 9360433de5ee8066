"""Nothing of a version runs once a file of it has changed: neither package nor code, entry file or requirements."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conceptry.evaluation.isolation.client import VersionProcess
from conceptry.models.errors import IntegrityError
from conceptry.registry import find_version, load, register, verify
from conceptry.registry.integrity import fetched


@pytest.fixture(scope="module")
def version(store: str, tiny_classifier: Path):
    return register("harsanyi", {"model": f"classifier:{tiny_classifier}", "n_greedy": 7}, name="guarded").version


@pytest.fixture(scope="module")
def folder(version) -> Path:
    return fetched(version.model_id)


@pytest.fixture
def kept(folder: Path) -> Iterator[Path]:
    """The folder, whose files are as they were after the test."""
    contents = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield folder
    for path in folder.rglob("*"):
        if path.is_symlink() or (path.is_file() and path not in contents):
            path.unlink()
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_an_untouched_version_passes(version, folder: Path) -> None:
    assert verify(version) == sum(path.is_file() for path in folder.rglob("*"))
    assert verify(find_version("guarded/1")) > 100


def test_a_flip_in_any_file_is_refused(version, kept: Path) -> None:
    files = [path for path in kept.rglob("*") if path.is_file() and path.stat().st_size]
    files.remove(kept / "registered_model_meta")  # MLflow writes it whenever it fetches a version
    assert {path.relative_to(kept).parts[0] for path in files} > {"MLmodel", "code", "artifacts", "requirements.txt"}
    sentence = r"since the version was registered; do not run it|does not have the SHA-256 recorded at registration"
    for path in files:
        before = path.read_bytes()
        flipped(path)
        with pytest.raises(IntegrityError, match=sentence):
            verify(version)
        path.write_bytes(before)
    assert verify(version)


def test_links_additions_and_gaps_are_named(version, kept: Path) -> None:
    (kept / "sitecustomize.py").write_text("raise SystemExit\n")
    with pytest.raises(IntegrityError, match=r"sitecustomize\.py is not part of the version as it was registered"):
        verify(version)
    (kept / "sitecustomize.py").unlink()
    (kept / "requirements.txt").unlink()
    with pytest.raises(IntegrityError, match=r"requirements\.txt is missing"):
        verify(version)
    (kept / "requirements.txt").symlink_to(kept / "MLmodel")
    with pytest.raises(IntegrityError, match=r"requirements\.txt is a link, and a version holds files alone"):
        verify(version)


def test_changed_code_does_not_run(version, kept: Path, tmp_path: Path) -> None:
    source = kept / "code" / "conceptry" / "models" / "harsanyi" / "pyfunc.py"
    ran = tmp_path / "ran"
    source.write_text(source.read_text("utf-8") + f"\nopen({str(ran)!r}, 'w').close()\n", encoding="utf-8")
    sentence = "a file in code has changed, is missing or was added since the version was registered"
    with pytest.raises(IntegrityError, match=sentence), VersionProcess(version.uri, "cpu"):
        pass
    with pytest.raises(IntegrityError, match=sentence):
        load(version.uri)
    assert not ran.exists()


def test_the_command_names_what_must_not_be_run(version, kept: Path, command_line) -> None:
    code, out, err = command_line("verify", "guarded/1")
    assert (code, err) == (0, "")
    assert "models:/guarded/1: all " in out
    flipped(kept / "MLmodel")
    code, out, err = command_line("verify")
    assert code == 1
    assert "models:/guarded/1: MLmodel has changed since the version was registered" in out
    assert "of " in err
    assert "must not be run" in err
