"""Folders whose every byte is accounted for: a manifest of SHA-256 digests, written once and checked at each load.

A package folder holds safetensors, ONNX, JSON and text files only. `write_manifest` seals it; the digest of the
manifest itself travels outside the folder (in the MLmodel file and as a tag), so no file can change unnoticed.
"""

import hashlib
import json
import os
import re
import uuid
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conceptry.models.errors import InputError, IntegrityError, VocabularyWarning
from conceptry.models.folders import left_folders, process_mark, remove

if TYPE_CHECKING:  # slow to import
    from torch import Tensor

MANIFEST = "manifest.json"
PACKAGE = "package"  # the name of the package folder among the artifacts of a version
MLFLOW_META = "registered_model_meta"  # MLflow writes it beside files that it fetches by a registered name


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits; reads in blocks, so any size will do."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_in(directory: Path) -> list[Path]:
    """All files below `directory`, sorted by their relative POSIX path."""
    return sorted((p for p in directory.rglob("*") if p.is_file()), key=lambda p: p.relative_to(directory).as_posix())


def digest_of_files(directory: Path, files: Iterable[Path]) -> str:
    """A SHA-256 over the names, relative to `directory`, and the contents of `files`, in their order."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(directory).as_posix()} {sha256_file(path)}\n".encode())
    return digest.hexdigest()


def write_manifest(directory: Path) -> str:
    """Write `manifest.json` with the digest and size of every other file; return the manifest's own digest."""
    files = {
        path.relative_to(directory).as_posix(): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in files_in(directory)
        if path.name != MANIFEST
    }
    write_json(directory / MANIFEST, {"files": files})
    return sha256_file(directory / MANIFEST)


def verify(directory: Path, manifest_sha256: str) -> None:
    """Check a folder against the digest of its manifest.

    Raises IntegrityError naming the first file that is missing, unexpected or changed.
    """
    manifest = directory / MANIFEST
    if not manifest.is_file():
        raise IntegrityError(f"{MANIFEST}: missing from the package; delete the version, and register it again")
    if sha256_file(manifest) != manifest_sha256:
        raise IntegrityError(f"{MANIFEST}: does not have the SHA-256 recorded at registration ({manifest_sha256})")
    recorded = read_json(manifest)["files"]
    present = {path.relative_to(directory).as_posix() for path in files_in(directory)} - {MANIFEST}
    if missing := sorted(recorded.keys() - present):
        raise IntegrityError(f"{missing[0]}: missing from the package; delete the version, and register it again")
    if extra := sorted(present - recorded.keys()):
        raise IntegrityError(f"{extra[0]}: not part of the package as it was registered")
    for name, entry in recorded.items():
        if sha256_file(directory / name) != entry["sha256"]:
            raise IntegrityError(f"{name}: does not have the SHA-256 recorded at registration ({entry['sha256']})")


def read_json(path: Path) -> Any:
    """Parse a UTF-8 JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_text(path: Path) -> str:
    """A text file in UTF-8, with a byte-order mark or without. Raises InputError naming one that is not."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text, byte {error.start} is not; save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


def read_entries(path: Path) -> list[str]:
    """The entries of a text file, one a line, each once, in their order.

    Blank and repeated lines are dropped with one VocabularyWarning that counts them and names the first. Raises
    InputError for a file that cannot be read, and for one without entries.
    """
    kept: dict[str, None] = {}
    blank: list[int] = []
    repeated: list[int] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        word = line.strip()
        if not word:
            blank.append(number)
        elif word in kept:
            repeated.append(number)
        else:
            kept[word] = None
    if not kept:
        raise InputError(f"{path}: holds no words; expected one entry a line")
    if blank or repeated:
        warnings.warn(
            f"{path.name}: dropped {len(blank)} blank and {len(repeated)} repeated lines, "
            f"the first at line {min(blank + repeated)}",
            VocabularyWarning,
            stacklevel=3,
        )
    return list(kept)


def read_tensors(path: Path) -> "dict[str, Tensor]":
    """The tensors of a safetensors file by name, on the CPU. Raises InputError where it cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as safetensors ({error})") from None


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys and a final newline, so that equal values give equal bytes; as a whole or not."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    replace_atomically(path, text.encode("utf-8"))


def write_lines(path: Path, lines: list[str]) -> None:
    """Write one entry a line (UTF-8, line feeds on every platform)."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def replace_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old content or the new, never a part."""
    with replacing(path) as partial:
        partial.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; what is there at the end of the block takes the place of `path` as a whole.

    What killed processes have left of theirs is removed.
    """
    for left, alive in left_folders(path.parent):
        if alive is False and re.fullmatch(rf"\.{re.escape(path.name)}\.[0-9a-f-]+\.part", left.name):
            remove(left)
    partial = path.with_name(f".{path.name}.{process_mark()}-{uuid.uuid4().hex[:8]}.part")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
