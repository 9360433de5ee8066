"""The examples of the pages "Coming from ..." run as they stand, each page in a namespace and a folder of its own."""

import os
import re
from pathlib import Path

import pytest

from support import ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = [path for path in sorted((ROOT / "docs" / "coming-from").glob("*.md")) if BLOCK.search(path.read_text("utf-8"))]


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    text = page.read_text("utf-8")
    namespace: dict[str, object] = {"__name__": "__main__"}
    try:
        for block in BLOCK.finditer(text):
            lines = text.count("\n", 0, block.start(1))  # so that a traceback names the line of the page
            exec(compile("\n" * lines + block[1], str(page), "exec"), namespace)
    finally:
        os.environ.clear()
        os.environ.update(before)
