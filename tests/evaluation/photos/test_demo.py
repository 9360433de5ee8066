"""The demo on photographs, as far as it costs nothing: its files, and what it says where the extra is missing."""

import io
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from conceptry.evaluation.photos import demo
from conceptry.models.errors import InputError


def test_the_extra_is_named_before_anything_is_registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda package: None if package == "skimage" else package)
    with pytest.raises(InputError, match=r"need the package skimage, .*: pip install 'conceptry\[photos\]'$"):
        demo.run(tmp_path, Console(file=io.StringIO()))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(find_spec("skimage") is None, reason="the extra images is not installed")
def test_photographs_are_those_of_the_packages(tmp_path: Path) -> None:
    photographs = demo._photographs(tmp_path / "photos")
    assert list(photographs) == ["cat", "coffee", "rocket", "motorcycle", "palace", "flower"]
    with Image.open(photographs["palace"]) as palace:
        assert palace.size == (640, 427)
    crops = list(demo._crops(tmp_path / "crops", {"cat": photographs["cat"]}).iterdir())
    assert len(crops) == 1 + 9 + 25
    table = demo._targets(tmp_path, photographs).read_text().splitlines()
    assert table[1] == "photos/cat.png,tiger cat"
