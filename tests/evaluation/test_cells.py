"""CSV files compute nothing in a spreadsheet, and their readers give back what was written."""

import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conceptry.evaluation.cells import csv_text, inert, original, originals
from conceptry.evaluation.units.records import UnitDescription, read_descriptions, write_descriptions

FORMULA = '=HYPERLINK("http://x","y")'


@pytest.mark.parametrize("value", ["-0.5", "+3", "-inf", -2.5, "a=b", "", None, "'quoted'", 0])
def test_numbers_and_other_text_stay(value: object) -> None:
    assert inert(value) == value


@given(st.text(alphabet="'=+-@\t\r a1", max_size=6))
def test_reading_undoes_writing(text: str) -> None:
    cell = inert(text)
    assert original(cell) == text
    assert cell[:1] not in tuple("=+-@\t\r") or pd.notna(float(cell))


def test_tables_of_units_come_back(tmp_path: Path) -> None:
    units = [
        UnitDescription("@layer", 0, FORMULA, -1.5),
        UnitDescription("+l", 1, "'-ing"),
        UnitDescription("l", 2, "'a"),
    ]
    write_descriptions(units, tmp_path / "descriptions.csv")
    lines = (tmp_path / "descriptions.csv").read_text().splitlines()
    assert lines[1].startswith("'@layer,0,\"'=HYPERLINK")
    assert ",-1.5," in lines[1]
    assert read_descriptions(tmp_path / "descriptions.csv") == units


def test_frames_come_back() -> None:
    table = pd.DataFrame({"@word": ["-ing", "=1+1", "'=x"], "weight": [-1.0, 2.0, 3.0]})
    text = csv_text(table)
    assert text.splitlines() == ["'@word,weight", "'-ing,-1.0", "'=1+1,2.0", "''=x,3.0"]
    pd.testing.assert_frame_equal(originals(pd.read_csv(io.StringIO(text))), table)
