"""Answers to many rows of which a version may refuse some: the others get theirs, and each refused one its sentence.

A version refuses a request as a whole. Its sentence mostly names the row, which is asked alone then, to be sure that it
is the one; where it names none, or there are many, the rows are halved until each bad one is alone.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from conceptry.evaluation.isolation.client import Predict, ProcessEndedError
from conceptry.models.errors import ConceptryError

NAMED = 8  # bad rows that are taken out one by one before rows are halved
_ROW = re.compile(r"\brow (\d+)(, |: )")
_INSIDE = "failed inside the model"


class ParameterError(ConceptryError):
    """A version refuses the parameters, whatever row it is asked about."""


def ask(
    predict: Predict, rows: pd.DataFrame, params: Mapping[str, Any]
) -> tuple[list[dict[str, Any] | None], list[str | None]]:
    """The answer to each row, and the sentence of each that has none.

    Raises ProcessEndedError where the version's process ends, and ParameterError where it refuses all rows for a reason
    that has nothing to do with them.
    """
    answers: list[dict[str, Any] | None] = [None] * len(rows)
    errors: list[str | None] = [None] * len(rows)
    waiting: list[list[int]] = [list(range(len(rows)))] if len(rows) else []
    named, about_rows = 0, False
    while waiting:
        group = waiting.pop()
        try:
            found = predict(rows.iloc[group].reset_index(drop=True), params).rows.to_dict("records")
        except ProcessEndedError:
            raise
        except ConceptryError as error:
            text = _reason(error)
            row = _ROW.search(text)
            about_rows = about_rows or row is not None or _INSIDE in text
            if len(group) == 1:
                errors[group[0]] = _ROW.sub("", text, count=1)
            elif row and int(row[1]) < len(group) and named < NAMED:
                named += 1
                waiting += [[*group[: int(row[1])], *group[int(row[1]) + 1 :]], [group[int(row[1])]]]
            else:
                waiting += [group[len(group) // 2 :], group[: len(group) // 2]]
            continue
        for position, answer in zip(group, found, strict=True):
            answers[position] = {str(name): cell for name, cell in answer.items()}
    # Of a single row nobody knows whether it is the row.
    if params and len(errors) > 1 and not about_rows and all(errors) and len(set(errors)) == 1:
        raise ParameterError(str(errors[0]))
    return answers, errors


def without_names(errors: Sequence[str]) -> list[str]:
    """Sentences as they are counted: numbers and quoted values, which differ from row to row, are left out."""
    return [re.sub(r"\d[\d,.]*", "#", re.sub(r"'[^']*'", "'...'", text)) for text in errors]


def _reason(error: ConceptryError) -> str:
    """What the version itself said: `VersionProcess` puts its name before it."""
    return re.sub(r"^models:/[^ ]+: ", "", str(error))
