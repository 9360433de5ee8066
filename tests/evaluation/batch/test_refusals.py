"""Which rows a version refuses, and what the others get, of a version that is a function."""

from typing import Any

import pandas as pd
import pytest

from conceptry.evaluation.batch.refusals import ParameterError, ask, without_names
from conceptry.evaluation.isolation.client import Answer, ProcessEndedError
from conceptry.models.errors import ConceptryError


class Version:
    """Doubles `x`; refuses texts, by the number of the row if `naming`."""

    def __init__(self, naming: bool = True) -> None:
        self.naming, self.asked = naming, 0

    def __call__(self, rows: pd.DataFrame, params: Any = None) -> Answer:
        self.asked += 1
        for number, value in enumerate(rows["x"]):
            if value == "end":
                raise ProcessEndedError("the process of models:/a/1 ended with code -9: ")
            if isinstance(value, str):
                where = f"row {number}, column 'x': " if self.naming else ""
                raise ConceptryError(f"models:/a/1: {where}{value!r} is not a number")
        if (params or {}).get("top_k") == 0:
            raise ConceptryError("models:/a/1: top_k must be at least 1, got 0")
        return Answer(pd.DataFrame({"y": rows["x"] * 2}), 0.0)

    def redrawn(self, share: float, seed: int = 0) -> Any: ...


@pytest.mark.parametrize("naming", [True, False])
@pytest.mark.parametrize("bad", [(), (3,), (0, 31), tuple(range(32)), tuple(range(1, 32, 2))])
def test_each_refused_row_gets_its_sentence_and_the_others_their_answers(naming: bool, bad: tuple) -> None:
    values = [f"b{i}" if i in bad else i for i in range(32)]
    version = Version(naming)
    answers, errors = ask(version, pd.DataFrame({"x": pd.Series(values, dtype=object)}), {})
    where = "column 'x': " if naming else ""
    assert errors == [f"{where}'b{i}' is not a number" if i in bad else None for i in range(32)]
    assert [answer and answer["y"] for answer in answers] == [None if i in bad else 2 * i for i in range(32)]
    assert version.asked <= {0: 1, 1: 11, 2: 20}.get(len(bad), 70)


def test_parameters_that_are_refused_are_no_fault_of_the_rows() -> None:
    with pytest.raises(ParameterError, match=r"^top_k must be at least 1, got 0$"):
        ask(Version(), pd.DataFrame({"x": [1, 2, 3]}), {"top_k": 0})
    rows = pd.DataFrame({"x": pd.Series(["a", "a"], dtype=object)})
    assert ask(Version(), rows, {"top_k": 1})[1] == ["column 'x': 'a' is not a number"] * 2


def test_an_ended_process_is_no_refusal() -> None:
    with pytest.raises(ProcessEndedError):
        ask(Version(), pd.DataFrame({"x": pd.Series([1, "end"], dtype=object)}), {})


def test_sentences_that_differ_in_values_count_as_one() -> None:
    texts = ["column 'x': 'a' is not a number", "column 'x': 'b' is not a number", "at most 50,000 of 3.5"]
    assert without_names(texts) == [*["column '...': '...' is not a number"] * 2, "at most # of #"]
