"""No pickle is loaded unless the user consents: unpickling runs whatever code the file holds.

MLflow has the variable MLFLOW_ALLOW_PICKLE_DESERIALIZATION, which is on by default and belongs to the process;
`pickle_setting` sets it for one load. Some of MLflow's flavours do not look at it, so `refuse_pickles` looks at the
files first. A model logged from code runs that code when it is loaded: naming it is the consent to that.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conceptry.models.errors import InputError
from conceptry.models.manifest import files_in

_VARIABLE = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"
_SUFFIXES = (".pkl", ".pickle", ".joblib", ".cloudpickle", ".pth")
_PROTOCOLS = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_LOCK = threading.RLock()


@contextmanager
def pickle_setting(allowed: bool) -> Iterator[None]:
    """MLflow's variable set for the block, one thread at a time, and as it was afterwards."""
    with _LOCK:
        before = os.environ.get(_VARIABLE)
        os.environ[_VARIABLE] = "true" if allowed else "false"
        try:
            yield
        finally:
            if before is None:
                del os.environ[_VARIABLE]
            else:
                os.environ[_VARIABLE] = before


def refuse_pickles(folder: Path, name: str) -> None:
    """Raise InputError where a file of the folder is a pickle, by its ending or by its first and last bytes."""
    for path in files_in(folder):
        if path.suffix in _SUFFIXES or _is_pickle(path):
            raise pickle_error(name, f"its file {path.relative_to(folder).as_posix()} is a pickle")


def pickle_error(name: str, reason: str) -> InputError:
    """Make the error for a model `name` that would have to be unpickled; its sentence names both ways out."""
    return InputError(
        f"{name}: {reason}, and is not loaded; log the model again in the format skops (scikit-learn), pt2 (PyTorch) "
        "or from code (pyfunc), or allow it by --allow-pickle true (allow_pickle=True in Python), which runs code from "
        "the file"
    )


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as stream:
        if not stream.read(2).startswith(_PROTOCOLS):
            return False
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"."
