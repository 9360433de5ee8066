"""Folders of results: some appear complete or not at all, others are written by one run at a time."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from conceptry.models.errors import ConceptryError, InputError

LOCK = ".lock"


def check_new(directory: Path) -> Path:
    """`directory` as a path; raises InputError where it exists."""
    if Path(directory).exists():
        raise InputError(f"{directory}: exists already; name a new folder, or remove this one first")
    return Path(directory)


@contextmanager
def new_folder(directory: Path) -> Iterator[Path]:
    """A path beside `directory` to be made and filled, which takes its name where all went well.

    A run that is killed leaves nothing under that name. Raises InputError where it exists.
    """
    directory = check_new(directory)
    with writing(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
    partial = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed: numbers of processes come again
    try:
        yield partial
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def locked(directory: Path, what: str) -> Iterator[None]:
    """The folder, made where it is not there, for this run alone; what: it writes.

    Raises InputError where another run has it.
    """
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(
                f"{directory}: another run is writing {what} there; wait for it, or name another folder"
            ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system says against writing at `path`, as a ConceptryError that names it."""
    try:
        yield
    except OSError as error:
        raise ConceptryError(f"{path}: cannot be written: {error.strerror or error}") from None
