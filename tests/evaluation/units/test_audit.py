"""Audits: units found by words, counted per layer and beside another network."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from browser import Browser, open_browser
from conceptry.evaluation.drawing import html
from conceptry.evaluation.isolation.client import Answer
from conceptry.evaluation.units.audit import Audit, audit_folder, audit_version, unknown_words, write_matches
from conceptry.evaluation.units.describe import describe_network
from conceptry.evaluation.units.html.audit import audit_page, title_of
from conceptry.evaluation.units.plots import draw_audit
from conceptry.models.errors import InputError
from conceptry.models.images import png_bytes
from described import TEXTS, made_source


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("nets") / "net"
    describe_network(made_source(), output)
    return output


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "other.csv"
    path.write_text("layer,unit,description\nlayer1,0,red dogs\nlayer1,1,a predator\nlayer9,4,<b>red</b>\n")
    return path


@pytest.fixture(scope="module")
def audit(folder: Path) -> Audit:
    return audit_folder(folder, ["red", "cat"])


def test_matches_are_counted(audit: Audit):
    assert [(match.unit.layer, match.unit.unit, match.words) for match in audit.matches[:5]] == [
        ("layer1", 0, ("red",)),
        ("layer1", 2, ("cat",)),
        ("layer1", 3, ("red",)),
        ("layer1", 5, ("cat",)),
        ("layer1", 6, ("red",)),
    ]
    assert dict(audit.units) == {"layer1": 7, "layer2": 7}
    assert (audit.count(), audit.count("layer1"), audit.count(word="cat"), audit.count("layer2", "red")) == (
        10,
        5,
        4,
        3,
    )
    assert (audit.share(), audit.share("layer1"), audit.share("layer9")) == (5 / 7, 5 / 7, 0.0)


def test_exemplars_come_from_the_folder(audit: Audit):
    for match in audit.matches:
        strip = match.unit.strip
        assert strip is not None
        assert (strip.k, strip.width, strip.height) == (3, 16, 16)
        assert strip.overlay is not None
    without = audit_folder(Path(audit.about), ["red"], exemplars=False)
    assert all(match.unit.strip is None for match in without.matches)


def test_tables_are_audited(table: Path):
    found = audit_folder(table, ["red"])
    assert [match.unit.unit for match in found.matches] == [0, 4]  # not the predator
    assert (found.title, dict(found.units)) == ("other.csv", {"layer1": 2, "layer9": 1})
    with pytest.raises(InputError, match=r"nowhere: expected a folder with descriptions\.csv in it, or such a table"):
        audit_folder(Path("nowhere"), ["red"])


def test_words_that_nothing_holds(audit: Audit):
    audits = [audit_folder(Path(audit.about), ["red", "strped", "xylophone"])]
    assert unknown_words(audits, ["red", "strped", "xylophone"]) == {"strped": ["striped", "red"], "xylophone": []}


class Asked:
    """A version with the made-up texts; keeps which units it was asked for with exemplars."""

    def __init__(self) -> None:
        self.with_exemplars: list[int] = []

    def __call__(self, rows: pd.DataFrame, params: Any = None) -> Answer:
        pictures = params["exemplars"]
        self.with_exemplars += rows["unit"].tolist() if pictures else []
        png = png_bytes(Image.new("RGB", (8, 8)))
        texts = [TEXTS[unit] for unit in rows["unit"]]
        answers = [
            {
                "layer": layer, "unit": unit, "active": bool(text), "description": text, "score": -1.0,
                "log_likelihood": -2.0, "pmi": 1.0, "alternatives": [], "ids": [1, 2], "activations": [2.0, 1.0],
                "images": [png] * 2 * pictures, "masks": [png] * 2 * pictures,
            }
            for layer, unit, text in zip(rows["layer"], rows["unit"], texts, strict=True)
        ]  # fmt: skip
        return Answer(pd.DataFrame(answers), 0.1)


def test_a_version_is_asked_for_the_exemplars_of_matches_alone():
    params = {"units": '{"layer1": [[0, 6]]}', "model": "zoo:net"}
    version: Any = SimpleNamespace(method="milan", uri="models:/milan/1", params=params)
    predict = Asked()
    found = audit_version(predict, version, ["red"], {})
    assert predict.with_exemplars == [0, 3, 6]
    assert (found.title, found.about, dict(found.units)) == ("milan/1", "zoo:net", {"layer1": 7})
    assert all(match.unit.strip is not None and match.unit.strip.k == 2 for match in found.matches)
    audit_version(predict, version, ["red"], {}, exemplars=False)
    assert predict.with_exemplars == [0, 3, 6]


def test_the_table_of_matches(audit: Audit, table: Path, tmp_path: Path):
    write_matches([audit, audit_folder(table, ["red", "cat"])], tmp_path / "matches.csv")
    rows = pd.read_csv(tmp_path / "matches.csv")
    assert list(rows.columns) == ["audited", "layer", "unit", "description", "score", "pmi", "words"]
    assert len(rows) == 12
    assert rows.iloc[0].tolist() == ["net", "layer1", 0, "dogs on red backgrounds", -0.5, 2.5, "red"]
    assert rows.iloc[-1]["description"] == "<b>red</b>"


def test_the_picture(audit: Audit, table: Path, tmp_path: Path):
    other = audit_folder(table, ["red", "cat"])
    for name, audits in (("one", [audit]), ("two", [audit, other]), ("none", [other])):
        draw_audit(audits, ["red", "cat"]).savefig(tmp_path / f"{name}.png")
        pixels = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_titles():
    assert title_of(["red"]) == "Units whose description holds red"
    assert title_of(["red", "blue", "cat"]) == "Units whose description holds red, blue or cat"
    assert title_of(list("abcd"), 2) == "Units whose description holds a, b or 2 others"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with open_browser("how the page of an audit behaves") as browser:
        yield browser


def test_the_page(chromium: Browser, audit: Audit, table: Path, tmp_path: Path):
    other = audit_folder(table, ["red", "cat"])
    text = audit_page([audit, other], ["red", "cat"])
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    html.write(text, tmp_path / "audit.html")
    with chromium.visit(tmp_path / "audit.html") as opened:
        page = opened.page
        assert page.inner_text("h1") == "Units whose description holds red or cat"
        assert page.locator(".layers").nth(0).locator("tbody tr").count() == 4  # layers of both, and all
        assert page.locator(".layers .total .count").all_inner_texts() == ["10 of 14", "71.4%", "2 of 3", "66.7%"]
        assert page.locator(".layers").nth(1).locator("tbody tr").all_inner_texts() == ["red\t6\t2", "cat\t4\t0"]
        assert page.locator("h2").all_inner_texts()[0] == "net, layer1 5 of 7 units"
        assert page.locator(".unit").count() == 12
        assert page.locator("mark").all_inner_texts()[:2] == ["red", "cat"]
        assert page.locator(".unit .text").last.text_content() == "<b>red</b>"
        widths = page.locator(".bar i").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().width)")
        np.testing.assert_allclose(np.array(widths) / 150, [0.714, 0.5, 0.714, 1, 0.714, 0.667], atol=0.01)
        page.locator(".open").nth(0).click()
        page.locator("canvas").nth(2).wait_for()
        page.click("#masks")
        assert not page.locator(".overlay").nth(0).is_visible()
        page.set_viewport_size({"width": 360, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert opened.messages == []


def test_the_command(command_line, folder: Path, table: Path, tmp_path: Path):
    words = tmp_path / "words.txt"
    words.write_text("red\ncat\n")
    output = tmp_path / "audit.html"
    both = (str(folder), "--beside", str(table))
    code, out, err = command_line("audit", *both, "--words-file", str(words), "--output", str(output))
    assert (code, f"saved {output}" in err) == (0, True)
    assert re.search(r"layer1 +5 of 7 +71\.4% +1 of 2 +50\.0%", out)
    assert "<title>Units whose description holds red or cat</title>" in output.read_text("utf-8")
    code, out, _ = command_line("audit", str(folder), "--words", "strped")
    assert "no description contains strped; similar: striped" in out
    code, out, _ = command_line("audit", str(folder), "--words", "red", "--json")
    (record,) = json.loads(out)
    assert record["layers"]["layer1"] == {"units": 7, "matches": 3}
    assert record["words"] == {"red": 6}
    assert record["matches"][0]["description"] == "dogs on red backgrounds"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("x.csv",), "expected either --words such as red,blue, or --words-file"),
        (("x.csv", "--words", " ,"), "expected words separated by commas such as red,blue, got ' ,'"),
        (("x.csv", "--words", "red", "--output", "x.txt"), "--output must end in .html, .csv, .png, .svg or .pdf"),
        (("x", "--words", "red"), "x: no such folder or table of descriptions; a version is NAME/NUMBER"),
    ],
)
def test_misuse_is_refused(command_line, arguments: tuple[str, ...], sentence: str):
    code, _, err = command_line("audit", *arguments)
    assert code == 2
    assert sentence in err
