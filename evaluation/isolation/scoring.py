"""Answer the bodies of HTTP requests with MLflow's own scoring function, in the process that holds a version.

It imports libraries alone, as `worker.py` does, so that the version's own code is what runs.

MLflow's function reads the body, asks the model and writes the answer, and raises whatever the first of these raises, a
stack trace included. `score` tells the three apart: what cannot be read is the client's mistake, what the version
refuses comes with its own sentence, and what fails beyond that is the server's.
"""

import json
import logging
import os
from json import JSONDecodeError
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import mlflow.pyfunc.scoring_server as mlflow_server
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, ErrorCode

logger = logging.getLogger(__name__)
LONGEST_SENTENCE = 1000
EXAMPLE = '{"dataframe_records": [{"COLUMN": VALUE}]}'


class Answer(NamedTuple):
    """An answer over HTTP: `kind` is "ok" or the kind of error, `rows` how many were asked about, if they were read."""

    status: int
    kind: str
    rows: int
    text: str


class _Asked:
    """The model as MLflow's function sees it: notes how far a request has come, and refuses too many rows."""

    def __init__(self, model: Any, max_rows: int) -> None:
        self.metadata, self.model, self.max_rows = model.metadata, model, max_rows
        self.rows, self.step = 0, "reading"

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        self.rows = _rows_of(data)
        if self.rows > self.max_rows:
            self.step = "too many rows"
            raise ValueError(self.step)
        self.step = "asking"
        answer = self.model.predict(data, params=params)
        self.step = "writing"
        return answer


def serve(pipe: Connection, model: Any) -> None:
    """Answer on `pipe` until it closes. A request is {content_type, max_rows} as JSON, then the body as bytes."""
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"  # as MLflow's own server sets it
    while True:
        try:
            head, body = json.loads(pipe.recv_bytes()), pipe.recv_bytes()
        except EOFError:
            return
        answer = score(model, body, head["content_type"], head["max_rows"])
        pipe.send_bytes(json.dumps([answer.status, answer.kind, answer.rows]).encode())
        pipe.send_bytes(answer.text.encode())


def score(model: Any, body: bytes, content_type: str, max_rows: int) -> Answer:
    """The answer to one request. Raises nothing."""
    asked = _Asked(model, max_rows)
    try:
        _check_parquet(body, content_type, asked)
        found = mlflow_server.invocations(body, content_type, asked, model.metadata.get_input_schema())
    except (Exception, RecursionError) as error:
        return _refusal(asked, error)
    if found.status != 200:
        return Answer(found.status, "malformed", 0, found.response)
    return Answer(200, "ok", asked.rows, found.response)


def _refusal(asked: _Asked, error: Exception) -> Answer:
    if asked.step == "too many rows":
        sentence = f"the request holds {asked.rows:,} rows; this server takes {asked.max_rows:,} at once: send fewer"
        return Answer(413, "too_large", asked.rows, sentence)
    if asked.step == "reading":
        if "pandas types" in str(error):
            sentence = f"text/csv cannot hold the columns of this version; send JSON such as {EXAMPLE}"
            return Answer(415, "malformed", 0, sentence)
        return Answer(400, "malformed", 0, _what_is_malformed(error))
    if asked.step == "asking" and isinstance(error, MlflowException):
        if error.error_code == ErrorCode.Name(INTERNAL_ERROR):
            return Answer(500, "failed", asked.rows, _own_sentence(error.message))
        if "unexpected error while evaluating" in error.message:  # MLflow's own, of what it could not make of the rows
            logger.warning("a request that does not fit the schema", exc_info=error)
            return Answer(400, "malformed", asked.rows, f"the rows do not fit: expected {_columns(asked)}")
        return Answer(400, "refused", asked.rows, _own_sentence(error.message))
    logger.error("an answer could not be written", exc_info=error)
    return Answer(500, "failed", asked.rows, "the answer could not be written; the server's log has the reason")


def _what_is_malformed(error: Exception) -> str:
    cause = error.__cause__
    if isinstance(cause, UnicodeDecodeError) or isinstance(error, UnicodeDecodeError):
        return "the body is not UTF-8 text"
    if isinstance(cause, JSONDecodeError):
        return f"the body is not JSON: {cause}"
    if isinstance(error, RecursionError):
        return "the body is nested too deeply"
    if isinstance(error, MlflowException):
        return _own_sentence(error.message)
    return f"the body cannot be read as rows; expected JSON such as {EXAMPLE}"


def _own_sentence(message: str) -> str:
    """Of what MLflow says the reason alone: it quotes the request before it, or after it."""
    for quoted in ("\nInput:", mlflow_server.SCORING_PROTOCOL_CHANGE_INFO):
        message = message.partition(quoted)[0]
    sentence = " ".join(message.rpartition("Error: ")[2].split())
    return sentence if len(sentence) <= LONGEST_SENTENCE else f"{sentence[:LONGEST_SENTENCE]}..."


def _columns(asked: _Asked) -> str:
    schema = asked.metadata.get_input_schema()
    names = schema.input_names() if schema else []
    kinds = schema.input_types() if schema else []
    columns = (f"{name!r} ({getattr(kind, 'name', kind)})" for name, kind in zip(names, kinds, strict=True))
    return f"the columns {', '.join(columns)}"


def _rows_of(data: Any) -> int:
    if isinstance(data, dict):
        return max((_rows_of(column) for column in data.values()), default=0)
    return len(data) if hasattr(data, "__len__") and not isinstance(data, (str, bytes)) else 1


def _check_parquet(body: bytes, content_type: str, asked: _Asked) -> None:
    """Count the rows of a Parquet file by its footer: a few bytes can stand for billions of equal rows."""
    if content_type.partition(";")[0].strip() != mlflow_server.CONTENT_TYPE_PARQUET:
        return
    import io

    from pyarrow.parquet import ParquetFile

    with ParquetFile(io.BytesIO(body)) as file:
        asked.rows = file.metadata.num_rows
    if asked.rows > asked.max_rows:
        asked.step = "too many rows"
        raise ValueError(asked.step)
