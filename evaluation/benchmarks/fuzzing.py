"""Requests to a server that are wrong in some way, mostly: made of a right one, by a seeded draw."""

import base64
import copy
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

JUNK: Sequence[Any] = (
    None, True, False, 0, -1, 3.5, 1e308, -1e308, 2**63, -(2**70), 10**400, "", " ", "\u00b2", "NaN", "\u202e", "\0",
    "a" * 5000, "\ud800", "=1+1", "<b>", "/etc/passwd", [], {}, [[]], [[[]]], [None], [0] * 3000, {"a": {"b": []}},
    "iVBORw0KGgo=", float("nan"), float("inf"), "1e999", "1" * 5000,
)  # fmt: skip
TEXTS = (b"1e400", b"NaN", b"[" * 3000, b"1" * 6000, b"\xff\xfe", b"null", b'"', b"{", b"\x00", b"1e999999999")
TYPES = (
    "", "text/csv", "application/vnd.apache.parquet", "text/xml", "application/json; charset=latin-1", ";",
    "application/json; x=y", "text/csv; charset=utf-8", "APPLICATION/JSON", "multipart/form-data", "application/json",
)  # fmt: skip
JSON_TYPE = {"Content-Type": "application/json"}
_TRACE = re.compile(r"Traceback|File \\?\"|\.py\b|site-packages|stack_trace|/tmp/|/home/|/root/|/usr/lib")


class Request(NamedTuple):
    """A request over HTTP."""

    verb: str
    path: str
    body: bytes
    headers: Mapping[str, str]


def json_rows(example: Any) -> list[dict[str, Any]]:
    """The rows of a version's example as JSON has them: pictures in base64."""
    return json.loads(example.map(_in_base64).to_json(orient="records"))


def _in_base64(cell: Any) -> Any:
    return base64.b64encode(cell).decode() if isinstance(cell, bytes) else cell


def fuzzed(example: Any, params: Sequence[str], count: int, seed: int = 0) -> Iterator[Request]:
    """`count` requests to a version, given its example (a table) and the names of its parameters."""
    rng = random.Random(seed)
    row = json_rows(example)[0]
    for _ in range(count):
        rows = [dict(row) for _ in range(rng.choice((1, 1, 1, 2, 5)))]
        content: dict[str, Any] = {"dataframe_records": rows}
        if rng.random() < 0.5:
            content["params"] = {rng.choice((*params, "unknown")): rng.choice(JUNK) for _ in range(rng.randint(1, 3))}
        yield rng.choice(MUTATIONS)(rng, content)


def has_trace(status: int, text: str) -> bool:
    """Whether a refusal shows a client a stack trace, or a path of the server."""
    return status != 200 and _TRACE.search(text) is not None


def _right(rng: random.Random, content: dict[str, Any]) -> Request:
    return _request(content)


def _node(rng: random.Random, content: dict[str, Any]) -> Request:
    """Some node of the JSON is replaced, dropped, added or wrapped."""
    place: Any = content
    while True:
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.75:
            place = place[key]
            continue
        break
    action = rng.randrange(4)
    if action == 0:
        place[key] = copy.deepcopy(rng.choice(JUNK))  # a later step may change what it has put in
    elif action == 1:
        del place[key]
    elif action == 2:
        place[key] = [place[key]]
    elif isinstance(place, dict):
        place[rng.choice(("", "x", "text", "image", "inputs", "instances", "0", "\u00b2"))] = copy.deepcopy(
            rng.choice(JUNK)
        )
    return _request(content)


def _bytes(rng: random.Random, content: dict[str, Any]) -> Request:
    """The body is cut, or some of its bytes are changed, added or doubled."""
    body = bytearray(_encoded(content))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(body) + 1)
        action = rng.randrange(4)
        if action == 0:
            del body[at:]
        elif action == 1 and at < len(body):
            body[at] = rng.randrange(256)
        elif action == 2:
            body[at:at] = rng.choice(TEXTS)
        else:
            body[at:at] = body[at : at + 50]
    return Request("POST", "/invocations", bytes(body), JSON_TYPE)


def _form(rng: random.Random, content: dict[str, Any]) -> Request:
    """The rows in another of MLflow's forms, or in none."""
    rows = content.pop("dataframe_records")
    columns = list(rows[0])
    forms: Sequence[Mapping[str, Any]] = (
        {"dataframe_split": {"columns": columns, "data": [[row[name] for name in columns] for row in rows]}},
        {"dataframe_split": {"columns": columns, "data": [[1, 2, 3]]}},
        {"dataframe_split": {"data": rows}},
        {"inputs": rows},
        {"inputs": {name: [row[name] for row in rows] for name in columns}},
        {"instances": rows},
        {"instances": [[1, 2], [3]]},
        {"messages": [{"role": "user", "content": "hello"}]},
        {"dataframe_records": rows, "inputs": rows},
        {"dataframe_records": {}},
        {},
    )
    return _request(content | rng.choice(forms))


def _type(rng: random.Random, content: dict[str, Any]) -> Request:
    """Another type of content than the body is."""
    rows = content["dataframe_records"]
    csv = "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)])
    body = rng.choice(
        (_encoded(content), csv.encode(), b"", b"PAR1" + rng.randbytes(200) + b"PAR1", rng.randbytes(300))
    )
    return Request("POST", "/invocations", body, {"Content-Type": rng.choice(TYPES)})


def _address(rng: random.Random, content: dict[str, Any]) -> Request:
    """Another address, or another verb."""
    path = rng.choice(
        ("/invocations", "/", "/ping/..", "/invocations/", "/%00", "/docs", "/metrics?x=[", "/" + "a" * 3000)
    )
    return Request(rng.choice(("GET", "PUT", "POST", "DELETE", "OPTIONS", "PATCH")), path, _encoded(content), JSON_TYPE)


def _image(rng: random.Random, content: dict[str, Any]) -> Request:
    """Texts that may be files in base64 are cut or changed below the base64."""
    for row in content["dataframe_records"]:
        for name, cell in row.items():
            if isinstance(cell, str) and len(cell) > 50:
                data = bytearray(base64.b64decode(cell))
                if rng.random() < 0.5:
                    del data[rng.randrange(len(data)) :]
                for _ in range(rng.randint(1, 20)):
                    if data:
                        data[rng.randrange(len(data))] = rng.randrange(256)
                row[name] = base64.b64encode(data).decode()
    return _request(content)


MUTATIONS: Sequence[Callable[[random.Random, dict[str, Any]], Request]] = (
    _right, _node, _node, _node, _bytes, _bytes, _form, _type, _address, _image,
)  # fmt: skip


def _encoded(content: Any) -> bytes:
    return json.dumps(content).encode()


def _request(content: Any) -> Request:
    return Request("POST", "/invocations", _encoded(content), JSON_TYPE)
