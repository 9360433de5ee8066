"""Data to evaluate on: read as documented, refused by file and line, identified by content."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from conceptry.evaluation.splice.data import load_images, table_images
from conceptry.models.errors import InputError
from conceptry.models.images import png_bytes


@pytest.fixture
def folder(tmp_path: Path, picture: Image.Image) -> Path:
    for label, count in (("cat", 2), ("dog", 3)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(count):
            picture.rotate(10 * i).save(tmp_path / "data" / label / f"{i}.png")
    return tmp_path / "data"


def test_the_folder_of_a_picture_is_its_label(folder: Path) -> None:
    data = load_images(f"folder:{folder}")
    assert [picture.label for picture in data.images] == ["cat"] * 2 + ["dog"] * 3
    assert [p.label for p in load_images(f"folder:{folder / 'cat'}").images] == [None, None]
    assert len(load_images(f"folder:{folder}", size=3)) == 3
    assert load_images(f"folder:{folder}", size=3).digest == load_images(f"folder:{folder}", size=3).digest
    assert load_images(f"folder:{folder}", size=3, seed=1).digest != load_images(f"folder:{folder}", size=3).digest


def test_a_changed_pixel_or_word_changes_the_digest(folder: Path, picture: Image.Image) -> None:
    before = load_images(f"folder:{folder}").digest
    picture.rotate(1).save(folder / "cat" / "0.png")
    assert load_images(f"folder:{folder}").digest != before
    row = {"image": png_bytes(picture), "caption": "a dog"}
    digests = {
        table_images(pd.DataFrame([row | {"caption": c}]), None, "x").digest for c in ("a dog", "a cat", "a dog")
    }
    assert len(digests) == 2


def test_a_table_of_pictures(folder: Path) -> None:
    table = folder / "table.csv"
    table.write_text('image,caption,concepts\ncat/0.png,"a cat, red","cat; red"\ndog/1.png,,\n')
    first, second = load_images(f"csv:{table}").images
    assert (first.caption, first.concepts) == ("a cat, red", {"concepts": ("cat", "red")})
    assert (second.caption, second.label, second.concepts) == (None, None, {})
    table.write_text("image,caption\ncat/0.png,a\ncat/9.png,b\n")
    with pytest.raises(InputError, match=r"table\.csv, line 3: no picture at 'cat/9\.png'"):
        load_images(f"csv:{table}")
    table.write_text("picture\nx\n")
    with pytest.raises(InputError, match="expected the columns image and any of label, caption, concepts; got picture"):
        load_images(f"csv:{table}")


def test_scenes_carry_what_is_known_of_them() -> None:
    data = load_images("zoo:emoji-scenes", size=6)
    singles, pairs = data.images[:3], data.images[3:]
    assert all(p.label == p.concepts["objects"][0] and p.caption is None for p in singles)
    assert all(p.label is None and len(p.concepts["objects"]) == 2 and p.caption for p in pairs)
    assert load_images("zoo:emoji-scenes", size=6).digest == data.digest


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("imagenet", None, "unknown data 'imagenet'; expected one of zoo:emoji-scenes, folder:PATH, csv:PATH"),
        ("folder:/no/such", None, "no such folder"),
        ("csv:/no/such.csv", None, "no such file"),
        ("zoo:emoji-scenes", 1, "size must be at least 2"),
    ],
)
def test_unknown_data_is_refused(name: str, size: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_images(name, size)


def test_tables_in_memory_name_the_row(picture: Image.Image) -> None:
    good = png_bytes(picture)
    data = table_images(pd.DataFrame({"image": [good, good], "concepts": ["a;b", None]}), ["x", "y"], "mine")
    assert [p.label for p in data.images] == ["x", "y"]
    assert data.images[0].concepts == {"concepts": ("a", "b")}
    with pytest.raises(InputError, match="row 1, column 'image': expected bytes or the path"):
        table_images(pd.DataFrame({"image": [good, "/no/such.png"]}), None, "mine")
    with pytest.raises(InputError, match="expected a column image, got pixels"):
        table_images(pd.DataFrame({"pixels": [1]}), None, "mine")
