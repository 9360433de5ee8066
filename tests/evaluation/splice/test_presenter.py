"""Presenting words: a file is read once, and its record is drawn and printed without it."""

import json
from pathlib import Path

import pytest
from PIL import Image

from conceptry.evaluation.isolation.client import InProcess
from conceptry.evaluation.presenter import presenter_of
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
