"""Folders and files in the making: some appear complete or not at all, others are written by one run at a time.

What is being made bears the mark of its process, so that it can be told later whether it was left behind.
"""

import atexit
import errno
import functools
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from conceptry.models.errors import ConceptryError, InputError

LOCK = ".lock"
_MARK = r"(?P<mark>[0-9a-f]{8}-\d+-\d+)"
_TEMPORARY = re.compile(rf"conceptry-[a-z]+-{_MARK}-\w+")
_PARTIAL = re.compile(rf"\..+\.{_MARK}(?:\.partial|-[0-9a-f]+\.part)", re.DOTALL)


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
    partial = directory.with_name(f".{directory.name}.{process_mark()}.partial")
    with writing(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()  # where nothing can be written, it is said before the work rather than after it
        partial.rmdir()
    try:
        yield partial
        partial.rename(directory)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise ConceptryError(f"{directory}: cannot be written: {error.strerror}; nothing of it was kept") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def locked(directory: Path, what: str) -> Iterator[None]:
    """The folder, made where it is not there, for this run alone; what: it writes.

    Raises InputError where another run has it.
    """
    from filelock import FileLock, Timeout  # not needed where a version is served

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


def new_temporary_folder(kind: str, parent: Path | None = None) -> Path:
    """Make a temporary folder that says what it is for and whose it is; the caller removes it.

    kind: a word of lower-case letters. parent: by default the system's folder for temporary files.
    """
    return Path(tempfile.mkdtemp(prefix=f"conceptry-{kind}-{process_mark()}-", dir=parent))


@contextmanager
def temporary_folder(kind: str, parent: Path | None = None) -> Iterator[Path]:
    """A temporary folder for the length of a block; see `new_temporary_folder`."""
    folder = new_temporary_folder(kind, parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_before: str | None = None  # the folder for temporary files before this process took one of its own


def take_temporary_folder() -> None:
    """Have this process and its children keep all temporary files in one folder, which goes when the process ends.

    Other libraries' are among them, such as the copy of a model that MLflow is about to log: a process that is killed
    leaves one folder that can be told to be its own. A choice for a whole process, so commands make it.
    """
    global _before
    with suppress(OSError):  # no folder can be made: whoever needs one says so
        before = tempfile.gettempdir()
        folder = new_temporary_folder("process")
        _before, tempfile.tempdir, os.environ["TMPDIR"] = before, str(folder), str(folder)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def system_temporary() -> Path:
    """The folder in which processes make their temporary folders."""
    return Path(_before or tempfile.gettempdir())


def process_mark() -> str:
    """What tells this process from all others: its machine, its number there, and when it started."""
    return f"{_machine()}-{os.getpid()}-{_started(os.getpid()) or 0}"


def is_alive(mark: str) -> bool | None:
    """Whether the process that made `mark` goes on; None where this machine cannot tell, as of one elsewhere."""
    machine, pid, started = mark.split("-")
    if machine != _machine() or sys.platform == "win32":  # where signal 0 is not a question
        return None
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's: its number is taken, and that has to do where no more can be seen
        pass
    now = _started(int(pid))
    return now is None or started in (str(now), "0")


def left_folders(directory: Path, below: bool = False) -> Iterator[tuple[Path, bool | None]]:
    """Files and folders in the making at `directory`, or anywhere below, with `is_alive` of their process.

    Those that are used are left out, and those of other users, and links.
    """
    for folder, folders, files in os.walk(directory):
        for name in (*folders, *files):
            match = _TEMPORARY.fullmatch(name) or _PARTIAL.fullmatch(name)
            path = Path(folder) / name
            alive = is_alive(match["mark"]) if match else True
            if not alive and _is_ours(path) and not (path.is_dir() and _is_used(path)):
                yield path, alive
        folders[:] = [name for name in folders if below and not _TEMPORARY.fullmatch(name)]


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it. Raises OSError where it stays."""
    with suppress(FileNotFoundError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@functools.cache
def _machine() -> str:
    """Eight digits for the machine since it was started, and for the container, whose processes have own numbers."""
    known = [socket.gethostname()]
    with suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        known.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:8]


def _started(pid: int) -> int | None:
    """A number for the moment at which a process started; 1 for one that has ended and is only not yet waited for.

    None where it cannot be seen.
    """
    try:
        if sys.platform == "linux":
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
            return 1 if fields[0] in (b"Z", b"X") else int(fields[19])
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        told = subprocess.run(command, capture_output=True, check=True, env={"LC_ALL": "C"}).stdout.strip()
        return int(hashlib.sha256(told).hexdigest()[:12], 16)
    except (OSError, subprocess.CalledProcessError):
        return None


def _is_ours(path: Path) -> bool:
    """Whether a file is there, is no link, and belongs to this user; on systems without owners, what is there does."""
    try:
        return not path.is_symlink() and (not hasattr(os, "getuid") or path.stat().st_uid == os.getuid())
    except FileNotFoundError:
        return False


def _is_used(folder: Path) -> bool:
    """Whether a process that goes on keeps its temporary files in `folder`: children may outlive who made it."""
    wanted = f"TMPDIR={folder}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environment = (process / "environ").read_bytes().split(b"\0")
            if any(entry == wanted or entry.startswith(wanted + b"/") for entry in environment):
                return True
    return False
