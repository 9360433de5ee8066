"""Pictures of units: what is drawn of them, and that each version's descriptions stand beside the same exemplars."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from conceptry.evaluation.milan.demo import TOURS
from conceptry.evaluation.milan.metrics import METRICS
from conceptry.evaluation.milan.plots import CELL, FINE, _strip, draw, draw_scores, save_records
from conceptry.evaluation.milan.presenter import describe
from conceptry.models.images import png_bytes


def text(pixels: np.ndarray) -> str:
    return base64.b64encode(png_bytes(Image.fromarray(pixels))).decode()


def record(unit: int, said: str, side: int = 16, **known: Any) -> dict[str, Any]:
    image = np.full((side, side, 3), (200, 40, 40), np.uint8)
    mask = np.zeros((side, side), np.uint8)
    mask[: side // 2] = 255
    pictures = [text(image + np.uint8(unit + j)) for j in range(10)] if said else []
    return {
        "sample": f"layer4:{unit}", "layer": "layer4", "unit": unit, "description": said, "score": -1.5, "pmi": 3.25,
        "log_likelihood": -2.0, "active": bool(said), "images": pictures, "masks": [text(mask)] * len(pictures),
        "alternatives": [{"text": "cats"}, {"text": "a cat"}] if said else [],
    } | known  # fmt: skip


def texts_of(records: list[dict[str, Any]]) -> list[str]:
    return [drawn.get_text() for drawn in draw(records).texts]


def test_a_row_names_the_unit_and_says_what_is_known() -> None:
    drawn = texts_of([record(3, "dogs on red backgrounds"), record(4, "")])
    assert drawn[:4] == ["layer4, unit 3", "dogs on red backgrounds", "score -1.50   PMI 3.25", "or: cats; a cat"]
    assert "inactive: no exemplar drives" in " ".join(drawn)
    assert "no exemplars were delivered" in drawn
    assert "bright where it is active" in drawn[-1]
    assert "Orange" not in drawn[-1]


def test_truths_are_said_and_wrong_descriptions_stand_out() -> None:
    figure = draw([record(3, "dogs", truth=["cat", "red"], right=False)])
    first, said = figure.texts[:2]
    assert first.get_text() == "layer4, unit 3: cat, red"
    right = draw([record(3, "dogs", truth=["dog"], right=True)]).texts[1]
    assert said.get_color() != right.get_color()
    assert "Orange: not what the unit is known to be." in figure.texts[-1].get_text()


def test_versions_share_the_row_of_a_unit_where_its_exemplars_are_the_same() -> None:
    records = [record(unit, said, version=name) for name, said in (("a/1", "dogs"), ("a/2", "cats")) for unit in (3, 4)]
    assert len(draw(records).axes) == 2
    assert texts_of(records).count("layer4, unit 3") == 1
    assert "a/2   score -1.50   PMI 3.25" in texts_of(records)
    records[2]["images"] = records[2]["images"][::-1]
    assert len(draw(records).axes) == 3


def test_a_strip_shows_pictures_side_by_side_in_shade_outside_of_the_mask() -> None:
    one = record(0, "dogs")
    strip = _strip(one["images"][:3], one["masks"][:3])
    gap = round(FINE * 4 / CELL)
    assert strip.shape == (FINE, 3 * FINE + 2 * gap, 3)
    inside, outside, between = strip[10, 10], strip[-10, 10], strip[10, FINE + 1]
    assert inside.tolist() == [200, 40, 40]
    assert outside.sum() < inside.sum() / 2
    assert between.tolist() == [255, 255, 255]


def test_pictures_that_are_not_square_keep_their_shape() -> None:
    image, mask = np.full((20, 40, 3), 100, np.uint8), np.full((20, 40), 255, np.uint8)
    strip = _strip([text(image)], [text(mask)])
    assert strip.shape == (FINE, FINE, 3)
    assert strip[5, 100].tolist() == [255] * 3
    assert strip[FINE // 2, 5].tolist() == [100] * 3


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".csv"])
def test_files(tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"units{suffix}"
    assert save_records([record(3, "dogs, or $cats$"), record(4, "")], output, None, {}) == [output]
    assert output.stat().st_size > 0
    if suffix == ".csv":
        table = pd.read_csv(output, keep_default_na=False)
        assert table["description"].tolist() == ["dogs, or $cats$", ""]
        assert table["active"].tolist() == [True, False]


def test_long_descriptions_are_broken_into_lines() -> None:
    said = "dogs and cats in front of striped red and green backgrounds with other animals around them"
    lines = texts_of([record(3, said)])
    assert said not in lines
    assert " ".join(lines[1:4]).startswith("dogs and cats in front")


def test_bars_stand_for_what_was_measured() -> None:
    one = [drawn.get_text() for drawn in draw_scores({"planted": 0.9}).texts]
    assert one[:3] == ["Planted concepts: named", "this version", "0.90"]
    found = [drawn.get_text() for drawn in draw_scores(dict.fromkeys(METRICS, 0.5)).texts]
    assert found.count("this version") == 4
    assert found.count("CLIP-Dissect") == 4
    assert (found.count("truths shuffled"), found.count("random pictures")) == (1, 1)


def test_the_terminal_lists_units_a_table_a_version() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(describe([record(3, "[dogs]", version="a/1"), record(4, "", version="a/2")]))
    shown = console.export_text()
    assert "layer4, unit 3" in shown
    assert "[dogs]" in shown
    assert "inactive" in shown
    assert shown.index("a/1") < shown.index("a/2")


def test_the_tour_asks_for_a_unit_of_its_table(tmp_path: Path) -> None:
    table = tmp_path / "my units.csv"
    table.write_text("layer,unit\nlayer1,3\nlayer4,22\n")
    (tour,) = TOURS
    command = tour.request(table)
    file = tmp_path / "unit-request.json"
    assert command == f"cat '{file}'" if " " in str(file) else f"cat {file}"
    assert json.loads(file.read_text()) == {"dataframe_records": [{"layer": "layer4", "unit": 22}]}
    assert tour.rank({"property_set": 0.7}) > tour.rank({"property_set": 0.6})
    assert tour.beside({"describer": "clip-dissect"})
    assert not tour.beside({"describer": "zoo:emoji-milan", "strategy": "beam"})
