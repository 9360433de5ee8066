"""What tests of a served version share: requests to it over HTTP, and what a refusal looks like."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from conceptry.evaluation.benchmarks.batch.requests import PARQUET, parquet_body
from conceptry.evaluation.benchmarks.servers import JSON, Client


class Server:
    """Requests to a running scoring server; a connection for each one. `params` are part of every request."""

    def __init__(self, port: int, **params: Any) -> None:
        self.port, self.params = port, params

    def post(self, body: Any, headers: Mapping[str, str] = JSON) -> tuple[int, Any]:
        """The status, and the predictions or what else the server says. Text and bytes are sent as they are."""
        content = body if isinstance(body, (str, bytes)) else json.dumps(body)
        client = Client(self.port)
        status, text = client.post(content.encode() if isinstance(content, str) else content, headers)
        client.close()
        return status, json.loads(text)["predictions"] if status == 200 else text

    def rows(self, *records: dict, **params: Any) -> tuple[int, Any]:
        params = self.params | params
        return self.post({"dataframe_records": list(records)} | ({"params": params} if params else {}))

    def parquet(self, table: pd.DataFrame) -> tuple[int, Any]:
        """The same by the rows of a Parquet file, in which pictures are bytes; there are no parameters in it."""
        return self.post(parquet_body(table), PARQUET)


def check_refused(answer: tuple[int, Any], sentence: str) -> None:
    """A 400 with one sentence of ours; MLflow itself quotes the request in some of its own."""
    status, body = answer
    assert status == 400, body
    assert sentence in json.loads(body)["message"]
    for forbidden in ("Traceback", 'File "', 'File \\"', ".py", "/tmp", "site-packages", "stack_trace"):
        assert forbidden not in body
