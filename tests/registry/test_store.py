"""What stores and file systems say against a request becomes a sentence with a way out."""

import errno
import re

import pytest
from mlflow.exceptions import MlflowException

from conceptry.registry.store import refusal


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "a.bin"),
            "a.bin: no space left on device; nothing half done",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "out"), "out: permission denied; nothing was registered"),
        (
            MlflowException("attempt to write a readonly database"),
            "sqlite:.* cannot be written: nothing was registered",
        ),
        (MlflowException("(sqlite3.OperationalError) database or disk is full"), "has no room left"),
        (MlflowException("API request to x failed with error code 401 != 200"), "MLFLOW_TRACKING_USERNAME"),
        (MlflowException("Max retries exceeded with url: /api"), "cannot be reached"),
    ],
)
def test_sentences(store, error: Exception, sentence: str) -> None:
    try:
        raise RuntimeError("outer") from error
    except RuntimeError as outer:
        shown = refusal(outer) if not isinstance(error, ValueError) else refusal(error)
    assert re.search(sentence, shown), shown


def test_no_password_is_shown(monkeypatch) -> None:
    monkeypatch.setattr("mlflow.get_tracking_uri", lambda: "https://me:secret@server/path")
    assert "https://server/path" in refusal(ConnectionError("Connection refused"))
