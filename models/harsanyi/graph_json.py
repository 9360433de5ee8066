"""Reading the fields of a record that came as JSON: each by its type, or one sentence that says which is wrong."""

import json
from collections.abc import Mapping
from typing import Any

from conceptry.models.errors import InputError


def parse(text: str) -> Any:
    """The value of the JSON `text`."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"graph: not JSON ({error}).") from None


def field(record: Any, key: str, where: str) -> Any:
    if not isinstance(record, Mapping):
        raise InputError(f"graph: {where} is {_shown(record)}; expected a JSON object.")
    if key not in record:
        raise InputError(f"graph: {where} has no {key!r}.")
    return record[key]


def entries(record: Any, key: str, where: str) -> list:
    value = field(record, key, where)
    if not isinstance(value, list):
        raise InputError(f"graph: {key} of {where} is {_shown(value)}; expected a list.")
    return value


def indices(record: Any, key: str, where: str) -> tuple[int, ...]:
    return integers(entries(record, key, where), f"{key} of {where}")


def integers(value: Any, what: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(entry) is int for entry in value):  # True is no index
        raise InputError(f"graph: {what}: got {_shown(value)}; expected a list of integers.")
    return tuple(value)


def number(record: Any, key: str, where: str) -> float:
    value = field(record, key, where)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"graph: {key} of {where} is {_shown(value)}; expected a number.")
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"graph: {key} of {where} is too large a number.") from None


def text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"graph: {what}: got {_shown(value)}; expected a text.")
    return value


def _shown(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
