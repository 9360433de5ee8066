"""Summaries side by side: what differs is in the titles, and every side has its own figures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conceptry.evaluation.comparison.summaries import Side, draw_beside, draw_histograms, sides_of, titles_of
from conceptry.models.errors import InputError


def record(sizes: dict[str, float], count: int = 10) -> dict:
    entries = [{"concept": name, "weight": size, "share": 0.2, "histogram": [1, 1, 0]} for name, size in sizes.items()]
    return {"count": count, "concepts": entries, "edges": [0.0, 0.5, 1.0, 1.5]}


def test_what_is_put_beside_is_told_from_its_form(tiny_version) -> None:
    read_before = replace(tiny_version, tags={})  # a version is the same one after others have logged to it
    first = Side(read_before, "zoo:emoji-scenes", "train")
    sides = sides_of(first, ["tent", "folder:a/1"])
    assert [(side.version.uri, side.data, side.label) for side in sides] == [
        (tiny_version.uri, "zoo:emoji-scenes", "train"),
        (tiny_version.uri, "zoo:emoji-scenes", "tent"),
        (tiny_version.uri, "folder:a/1", "train"),
    ]
    assert titles_of(sides[:2]) == ["train", "tent"]
    assert titles_of([sides[0], sides[2]]) == ["zoo:emoji-scenes", "folder:a/1"]
    for again in (tiny_version.uri, "tiny/1", "zoo:emoji-scenes", "train"):  # versions, data and a class
        with pytest.raises(InputError, match=f"--beside {again}: is there already"):
            sides_of(first, [again])
    with pytest.raises(InputError, match="at most 6 summaries fit side by side, got 7"):
        sides_of(first, ["x"] * 6)
    with pytest.raises(InputError, match="no such version"):
        sides_of(first, ["tiny/99"])


def test_figures_show_each_side() -> None:
    records = {"before": record({"red": 0.5, "sun": 0.1}), "after": record({"tent": 0.9}, 20)}
    axes = draw_beside(records, "splice", 2).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["tent", "red"]  # the largest of any side
    assert [bar.get_width() for bar in axes.patches] == [0.0, 0.5, 0.9, 0.0]
    stairs = draw_histograms(records, "red").axes[0].patches
    np.testing.assert_allclose(stairs[0].get_data().values, [0.1, 0.1, 0])
    np.testing.assert_allclose(stairs[2].get_data().values, [0, 0, 0])
    with pytest.raises(InputError, match="--concept rad: no picture is named by it; near: red"):
        draw_histograms(records, "rad")
    with pytest.raises(InputError, match="for splice versions"):
        draw_histograms({"a": {"concepts": [], "count": 1}}, "red")


def test_the_command(command_line, tiny_version, tmp_path: Path, picture: Image.Image) -> None:
    for label in ("a", "c"):
        (tmp_path / label).mkdir()
        for i in range(2):
            picture.rotate(50 * i).save(tmp_path / label / f"{i}.png")
    asked = ("summarise", tiny_version.uri, "--data", f"folder:{tmp_path}", "--label", "a", "--beside", "c")
    saved = tmp_path / "both.json"
    code, out, _ = command_line(*asked, "--device", "cpu", "--output", str(saved))
    assert code == 0
    assert out.startswith("mean weight; a: 2, c: 2\n")
    first, second = json.loads(saved.read_text())
    assert (first["label"], second["label"]) == ("a", "c")
    for entry in first["concepts"]:
        assert sum(entry["histogram"]) == round(entry["share"] * first["count"])
    word = first["concepts"][0]["concept"]
    figure = tmp_path / "word.png"
    assert command_line(*asked, "--device", "cpu", "--concept", word, "--output", str(figure))[0] == 0
    assert figure.stat().st_size > 1000
    assert command_line(*asked, "--concept", word)[0] == 2
    code, _, err = command_line("summarise", tiny_version.uri, "--data", f"folder:{tmp_path}", "--beside", "z")
    assert (code, "'z' is not one of the" in err) == (2, True)
