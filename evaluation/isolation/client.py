"""Ask a version for answers, each version in a process of its own.

Two versions that differ in code cannot share a process: the second would silently run the first one's code.
"""

import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import pandas as pd

from conceptry.evaluation.isolation.launcher import has_ended, start
from conceptry.models.errors import ConceptryError
from conceptry.models.method import Progress


class Answer(NamedTuple):
    """A version's answer (a row for each row of the request) and the seconds that `predict` took."""

    rows: pd.DataFrame
    seconds: float


class Predict(Protocol):
    """Ask a version: a table of rows in, its answer out."""

    def __call__(self, rows: pd.DataFrame, params: Mapping[str, Any] | None = None) -> Answer: ...

    def redrawn(self, share: float, seed: int = 0) -> "AbstractContextManager[Predict]": ...


Case = TypeVar("Case")


def ask_in_batches(
    predict: Predict,
    cases: Sequence[Case],
    table: Callable[[Sequence[Case]], pd.DataFrame],
    params: Mapping[str, Any],
    size: int,
) -> Iterator[tuple[Case, dict[str, Any], float]]:
    """Ask about `size` cases at a time; yield each with its row of the answer and its share of the request's time.

    table: makes the rows of a request. Requests are sent as their answers are taken. Raises ConceptryError where the
    version refuses, naming the row by its number among all cases, or the file that it is.
    """
    for first in range(0, len(cases), size):
        batch = cases[first : first + size]
        with named_rows(batch, first):
            answer = predict(table(batch), dict(params))
        for case, row in zip(batch, answer.rows.to_dict("records"), strict=True):
            yield case, {str(name): cell for name, cell in row.items()}, answer.seconds / len(batch)


@contextmanager
def named_rows(cases: Sequence[Any], first: int = 0) -> Iterator[None]:
    """Have a refusal name the case that a row of the request was, by its file or by its number from `first`.

    cases: those of the request. Raises ConceptryError instead of what the version said.
    """

    from mlflow.exceptions import MlflowException  # not before it is needed: processes of Spark do without MLflow

    def name_of(found: re.Match[str]) -> str:
        number = int(found[1])
        case = cases[number] if number < len(cases) else None
        file = next((at for name in ("source", "image") if isinstance(at := getattr(case, name, None), Path)), None)
        return f"row {first + number}{found[2] or ''}" if file is None else str(file)

    try:
        yield
    except (ConceptryError, MlflowException) as error:  # of a process of its own, and of one in this process
        sentence = getattr(error, "message", str(error))
        raise ConceptryError(re.sub(r"\brow (\d+)(, column 'image')?", name_of, sentence, count=1)) from None


class InProcess:
    """`Predict` over a model that is loaded in this process already, and so cannot be changed for a test."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, rows: pd.DataFrame, params: Mapping[str, Any] | None = None) -> Answer:
        start = time.perf_counter()
        answer = self.model.predict(rows, params=dict(params or {}))
        return Answer(answer, time.perf_counter() - start)

    def redrawn(self, share: float, seed: int = 0) -> AbstractContextManager[Predict]:
        """Raise ConceptryError: the loaded model is somebody else's."""
        raise ConceptryError("a model that is loaded in this process is not changed; `conceptry evaluate` does it")


class ProcessEndedError(ConceptryError):
    """The process of a version has ended while it was asked."""


class VersionProcess:
    """`Predict` over a version in a child process; a context manager that ends the child.

    `device` is what is asked for, `device_in_use` what the version was loaded on; `on_progress` hears what a long
    answer is doing and the share done so far, from versions that say it. `copy`: a folder with a copy of the version
    whose files have been checked, which is loaded without a word to the store.

    Raises ConceptryError where the version cannot be loaded (with its reason) and where it refuses a request, and
    ProcessEndedError where the child dies.
    """

    def __init__(self, uri: str, device: str = "auto", copy: Path | None = None) -> None:
        self.uri, self.device, self.copy = uri, device, copy
        self._turn = threading.Lock()  # one pipe: an answer belongs to the request before it
        self.on_progress: Progress = lambda what, share: None

    def __enter__(self) -> "VersionProcess":
        if self.copy is None:
            from conceptry.registry import find_version, verify

            verify(find_version(self.uri))  # before any of its code runs
        self._pipe, theirs = Pipe()
        self._log = tempfile.TemporaryFile()
        self._child = start(str(self.copy or self.uri), self.device, theirs.fileno(), self._log.fileno())
        theirs.close()
        try:
            self.device_in_use = str(self._receive())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __call__(self, rows: pd.DataFrame, params: Mapping[str, Any] | None = None) -> Answer:
        with self._turn:
            with suppress(OSError):  # the child is gone; _receive says how it ended
                self._pipe.send((rows, dict(params or {})))
            return Answer(*self._receive())

    @property
    def has_ended(self) -> bool:
        """Whether the child is gone, killed for lack of memory for example."""
        return has_ended(self._child)

    @contextmanager
    def redrawn(self, share: float, seed: int = 0) -> "Iterator[VersionProcess]":
        """The version once more, in a process of its own, with the last `share` of its layers or trees drawn anew.

        Raises ConceptryError where the explained model has no parameters that can be.
        """
        with VersionProcess(self.uri, self.device, self.copy) as other:
            other._pipe.send((None, {"share": share, "seed": seed}))
            if not other._receive()[0]:
                raise ConceptryError("the explained model has no layers and no trees that could be drawn anew")
            yield other

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        try:
            self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._log.close()

    def _receive(self) -> Any:
        try:
            while (message := self._pipe.recv())[0] == "progress":
                self.on_progress(*message[1])
        except (EOFError, OSError):
            code = self._child.wait()
            self._log.seek(0)
            last = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
            raise ProcessEndedError(f"the process of {self.uri} ended with code {code}: {' '.join(last)}") from None
        kind, content = message
        if kind == "error":
            raise ConceptryError(f"{self.uri}: {content}")
        return content
