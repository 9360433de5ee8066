"""Presenting words: a file is read once, and its record is drawn and printed without it."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from PIL import Image
from rich.console import Console

from conceptry.evaluation.drawing.style import ACCENT
from conceptry.evaluation.isolation.client import InProcess
from conceptry.evaluation.presenter import presenter_of
from conceptry.evaluation.splice.plots import draw
from conceptry.models.errors import InputError
from conceptry.registry import load

PRESENTER = presenter_of("splice")


def test_records_outlive_their_files(tiny_version, picture: Image.Image, tmp_path: Path) -> None:
    file, drawn = tmp_path / "a.png", tmp_path / "words.svg"
    picture.save(file)
    request = PRESENTER.check_request([file], [], {})
    file.unlink()
    records = PRESENTER.records(InProcess(load(tiny_version.uri)), request, {})
    assert PRESENTER.save(json.loads(json.dumps(records)), drawn, None, {}) == [drawn]
    assert drawn.read_text().count("<image ") == 1
    (printed,) = json.loads(PRESENTER.to_json(records))
    assert set(printed) == {"file", "concepts", "l0", "cosine", "gap"}


def test_what_cannot_be_explained_is_refused_before_a_version_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("words")
    for files, targets, sentence in (
        ([], [], "splice explains files: name at least one"),
        ([tmp_path / "a.png"], ["cat"], "splice takes no class to explain by, got --target cat"),
        ([tmp_path / "a.png"], [], "a.png: not a picture: expected one of PNG"),
        ([tmp_path / "b.png"], [], "b.png: no such file"),
        ([tmp_path], [], "is a folder, expected a picture"),
    ):
        with pytest.raises(InputError, match=sentence):
            PRESENTER.check_request(files, targets, {})


def test_words_of_images_and_texts_go_to_files(tiny_version, picture: Image.Image, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    picture.save(file)
    predict = InProcess(load(tiny_version.uri))
    request = PRESENTER.check_request([file, Path("a photo of a dog")], [], {})
    records = PRESENTER.records(predict, request, {"l1_penalty": 0.06})
    assert [record.get("text") for record in records] == [None, "a photo of a dog"]
    (alone,) = PRESENTER.records(predict, request[1:], {"l1_penalty": 0.06})
    assert [c["concept"] for c in alone["concepts"]] == [c["concept"] for c in records[1]["concepts"]]
    for suffix in PRESENTER.suffixes:
        assert PRESENTER.save(records, tmp_path / f"words{suffix}", None, {}) == [tmp_path / f"words{suffix}"]

    text = (tmp_path / "words.txt").read_text()
    first = records[0]["concepts"][0]
    assert f"a.png: {records[0]['l0']} words, cosine {records[0]['cosine']:.3f}" in text
    assert "a photo of a dog: " in text
    assert any(line.split() == [first["concept"], f"{first['weight']:.4f}"] for line in text.splitlines())
    table = pd.read_csv(tmp_path / "words.csv")
    assert list(table.columns) == ["input", "l0", "cosine", "gap", "concept", "weight"]
    assert len(table) == sum(record["l0"] for record in records)
    for record, name in zip(records, (str(file), "a photo of a dog"), strict=True):
        rows = table[table["input"] == name]
        assert rows["concept"].tolist() == [c["concept"] for c in record["concepts"]]
        assert rows["weight"].tolist() == pytest.approx([c["weight"] for c in record["concepts"]])
    written = json.loads((tmp_path / "words.json").read_text())
    assert written == [{k: v for k, v in record.items() if k != "image"} for record in records]
    assert (tmp_path / "words.svg").read_text().count("<image ") == 1


def test_a_row_without_words_keeps_its_place_in_a_table(tmp_path: Path) -> None:
    record = {"text": "a dog", "l0": 0, "cosine": 0.1, "gap": 0.0, "concepts": []}
    PRESENTER.save([record], tmp_path / "words.csv", None, {})
    assert pd.read_csv(tmp_path / "words.csv").to_dict("records")[0]["input"] == "a dog"


def test_what_looks_like_a_file_must_be_one() -> None:
    for name in ("gone.pgn", "no/where"):
        with pytest.raises(InputError, match=f"{name}: no such file; to have it read as a text, put a space behind it"):
            PRESENTER.check_request([Path(name)], [], {})


def test_an_answer_that_is_seldom_right_says_so(picture: Image.Image) -> None:
    record = {"image": picture, "file": "a.png", "l0": 1, "cosine": 0.6, "gap": 0.0}
    record["concepts"] = [{"concept": "worm", "weight": 0.1}]
    for sure, said in ((0.19, "UNSURE 0.19"), (0.2, "sure 0.20"), (float("nan"), "cosine 0.60"), (None, "cosine 0.60")):
        axes = draw([record | {"sure": sure}]).axes[1]
        assert axes.get_title(loc="left").endswith(said)
        assert (axes.patches[0].get_facecolor() == to_rgba(ACCENT)) == (said != "UNSURE 0.19")
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(PRESENTER.describe([record | {"sure": 0.12}]))
    assert "a.png: 1 word, cosine 0.600, UNSURE 0.12" in console.export_text()
