"""Answers of a version as columns of a table: their names and Arrow types, from the version's signature.

| column | what |
|---|---|
| `id` | of the row |
| other columns of the input | as they came |
| columns of the answer | null of a row that the version refuses |
| `error` | one sentence of such a row, null of the others |
| `version` | NAME/NUMBER |
| `fingerprint` | of the version and the parameters that it was asked with; a row is an id and a fingerprint |

Pictures in an answer are bytes. What a parameter adds to an answer is among the columns where it is asked for.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

if TYPE_CHECKING:  # the processes of Spark encode answers, and need no signatures for that
    from mlflow.models import ModelSignature

ID, ERROR, VERSION, FINGERPRINT = "id", "error", "version", "fingerprint"
_IMAGES = {"perturbation": ("image", "delta"), "milan": ("images", "masks")}  # which the signature calls text
_NUMBERS = pa.list_(pa.float64())
_ADDED: Mapping[tuple[str, str], Mapping[str, pa.DataType]] = {
    ("splice", "return_embedding"): {"embedding": _NUMBERS, "recomposed": _NUMBERS},
    ("perturbation", "details"): {"start": pa.binary(), "history": _NUMBERS, "path": pa.string()},
    ("harsanyi", "details"): {
        "players": pa.list_(pa.string()),
        **dict.fromkeys(("rewards", "interactions", "or_interactions", "learning"), _NUMBERS),
        **dict.fromkeys(("terms", "sample"), pa.string()),
    },
    ("harsanyi", "subsets"): {"rewards": _NUMBERS},
}
_PLAIN = {  # by MLflow's names
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "datetime": pa.timestamp("us"),
}


def answer_columns(method: str, signature: "ModelSignature", params: Mapping[str, Any]) -> dict[str, pa.DataType]:
    """Columns of the answers of a version that is asked with `params`, without `id`, `error` and the like."""
    assert signature.outputs is not None
    columns = {
        str(name): _arrow(kind, str(name), method)
        for name, kind in zip(signature.outputs.input_names(), signature.outputs.input_types(), strict=True)
    }
    for (owner, param), added in _ADDED.items():
        if owner == method and params.get(param):
            columns |= added
    return columns


def asked_fingerprint(fingerprint: str, params: Mapping[str, Any]) -> str:
    """The fingerprint of a version's answers to `params`; without any that of the version."""
    if not params:
        return fingerprint
    return hashlib.sha256(f"{fingerprint} {json.dumps(params, sort_keys=True)}".encode()).hexdigest()


def answer_arrays(
    columns: Mapping[str, pa.DataType], answers: Sequence[Mapping[str, Any] | None]
) -> dict[str, pa.Array]:
    """The columns of answers, null where there is none."""
    return {
        name: pa.array([_cell(answer.get(name), kind) if answer else None for answer in answers], kind)
        for name, kind in columns.items()
    }


def _arrow(kind: Any, name: str, method: str) -> pa.DataType:
    from mlflow.types.schema import Array, Object

    if isinstance(kind, Array):
        return pa.list_(_arrow(kind.dtype, name, method))
    if isinstance(kind, Object):
        fields = {each.name: _arrow(each.dtype, each.name, method) for each in kind.properties}
        if method == "harsanyi" and name == "patterns":
            fields["spread"] = pa.float64()  # of answers by a baseline of several rows; null of others
        return pa.struct(fields)
    return pa.binary() if name in _IMAGES.get(method, ()) else _PLAIN[kind.name]


def _cell(value: Any, kind: pa.DataType) -> Any:
    """A value as Arrow takes it; what has no columns of its own is JSON text."""
    if value is None or value is pd.NA:
        return None
    if kind == pa.string() and not isinstance(value, str):
        return None if value != value else json.dumps(value, default=_listed)
    return value


def _listed(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
