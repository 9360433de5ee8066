"""Pages of described units: the HTML, and how it behaves in a real browser."""

import base64
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser import Browser, Visit, open_browser
from conceptry.evaluation.drawing import html
from conceptry.evaluation.drawing.strips import LINE, VEIL, shaded, strip, strip_pixels
from conceptry.evaluation.units.describe import describe_network
from conceptry.evaluation.units.html.layer import layer_page
from conceptry.evaluation.units.html.unit import article, draw_strips
from conceptry.evaluation.units.records import UnitDescription
from conceptry.models.errors import InputError
from conceptry.models.milan.words import FUNCTION_WORDS, matches
from described import TEXTS, made_source, made_units

HOSTILE = "</script><img src=x onerror='window.ran = 1'>{{title}} &amp; <b>bold</b>\u202egnp"


def made_page(title: str, texts: Sequence[str] = TEXTS, about: str = "about", notes: Sequence[str] = ()) -> str:
    return layer_page(title, list(draw_strips(made_units(title, texts), len(texts))), about, notes)


def decoded(data: bytes, mode: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode))


def test_a_strip_holds_pictures_and_masks():
    images = np.zeros((2, 3, 32, 32), np.uint8)
    images[1, 0] = 250
    masks = np.zeros((2, 1, 32, 32), np.uint8)
    masks[0, 0, 8:16, 8:24] = 1
    made = strip(images, masks)
    picture, overlay = decoded(made.image, "RGB"), decoded(made.overlay or b"", "RGBA")
    assert (made.k, made.width, made.height, picture.shape, overlay.shape) == (2, 32, 32, (32, 64, 3), (64, 128, 4))
    assert picture[:, 40:, 0].min() > 200
    assert picture[:, :24].max() < 40
    assert (overlay[16:32, 16:48, 3] == 0).all()  # the mask itself stays clear
    assert (overlay[15, 16:48] == LINE).all()
    assert (overlay[0] == VEIL).all()
    assert (overlay[:, 64:] == VEIL).all()  # an empty mask
    assert strip_pixels(made, 1).shape == (64, 64, 3)


def test_large_pictures_are_made_smaller():
    images = np.zeros((2, 3, 200, 100), np.uint8)
    made = strip(images, None, 50)
    assert (made.width, made.height, made.overlay) == (25, 50, None)


def test_what_is_outside_is_in_shade():
    images = np.full((1, 3, 8, 8), 200, np.uint8)
    masks = np.zeros((1, 1, 8, 8), np.uint8)
    masks[0, 0, 3:5, 3:5] = 1
    result = shaded(images, masks)
    assert (result[0, 3:5, 3:5] == 200).all()
    assert (result[0, 2, 3:5] > 240).all()
    np.testing.assert_array_equal(result[0, 0, 0], np.rint(200 + (np.array(VEIL[:3]) - 200) * (VEIL[3] / 255)))


def test_strips_refuse_other_shapes():
    with pytest.raises(InputError, match=r"images must have shape \(k, 3, H, W\) with k of 1 or more, got \(3, 8, 8\)"):
        strip(np.zeros((3, 8, 8), np.uint8), None)
    with pytest.raises(InputError, match=r"masks must have shape \(2, 1, 8, 8\), got \(2, 1, 4, 4\)"):
        strip(np.zeros((2, 3, 8, 8), np.uint8), np.zeros((2, 1, 4, 4), np.uint8))


def test_the_page_says_all_without_scripts():
    text = made_page("layer1", about="about this", notes=["A note."])
    for said in (
        "dogs on red backgrounds",
        "never active",
        "about this",
        "A note.",
        "7 units, 6 different descriptions",
    ):
        assert said in text
    assert len(articles_of(text)) == 7
    assert text.count("data:image/webp;base64,") == text.count("data:image/png;base64,") == 6
    assert "data:image/webp" not in articles_of(text)[1]  # there is nothing to see of a unit that is never active
    picture = re.findall(r"data:image/webp;base64,([^\"]*)", articles_of(text)[0])[0]
    assert decoded(base64.b64decode(picture), "RGB").shape == (16, 48, 3)
    assert ">\N{MINUS SIGN}0.500</span>" in text.replace("score ", ">")


def articles_of(text: str) -> list[str]:
    return re.findall(r"<article.*?</article>", text, re.DOTALL)


def test_the_page_names_no_address():
    text = made_page("layer1")
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[^\"]*", "", text))
    assert "default-src 'none'" in text


def test_text_from_outside_stays_text():
    text = made_page(HOSTILE, [HOSTILE, "", HOSTILE], HOSTILE, [HOSTILE])
    assert text.count("<script") == text.count("</script") == 2  # the data and the code, as in the template
    assert "<img src=x" not in text
    assert "<b>bold" not in text
    assert "\u202e" not in text
    assert "{{title}}" in text
    assert len(articles_of(text)) == 3


def test_equal_units_give_equal_pages():
    one, other = (made_page("layer1") for _ in range(2))
    assert one == other


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with open_browser("how pages of described units behave") as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("described")
    describe_network(made_source(), output)
    return output


@pytest.fixture
def visit(chromium: Browser, folder: Path) -> Iterator[Visit]:
    """The page of layer1; afterwards nothing was fetched and nothing went wrong."""
    with chromium.visit(folder / "layer1.html") as opened:
        yield opened
        assert [request for request in opened.requests if not request.startswith("data:")] == []
        assert opened.messages == []


def shown(opened: Visit) -> list[int]:
    """The numbers of the units that are shown, from the top."""
    units = opened.page.locator(".unit:visible")
    return units.evaluate_all("units => units.map(unit => +unit.dataset.unit)")


def test_all_units_are_shown(visit: Visit):
    assert shown(visit) == list(range(7))
    assert visit.page.inner_text("#count") == "7 units"
    sizes = visit.page.locator(".strip img").evaluate_all("all => all.map(each => each.naturalWidth)")
    assert sizes == [48, 96] * 6  # every picture of every strip was decoded


SEARCHES: dict[str, list[int]] = {
    "red": [0, 3, 6],
    "RED": [0, 3, 6],
    "dog": [0, 5],
    "cats": [2, 5],
    "do": [0, 5],
    "red -dogs": [3, 6],
    "red hat": [6],
    '"colour red"': [3],
    '"do"': [],
    '"dog"': [0, 5],
    "-red": [1, 2, 4, 5],  # a unit that is never active has no word that could be missing
    "ed": [],
    "4": [4],
    "4 1 0": [0, 1, 4],
    "0 2 cat": [2],
    "<q>": [],
    "  ": list(range(7)),
}


def test_search(visit: Visit):
    for query, units in SEARCHES.items():
        visit.page.fill("#search", query)
        assert shown(visit) == units, query
        assert visit.page.locator("#none").is_visible() == (not units)


def test_search_marks_counts_and_clears(visit: Visit):
    visit.page.fill("#search", "red dog")
    assert visit.page.inner_text("#count") == "1 of 7 units"
    assert visit.page.locator("mark:visible").all_inner_texts() == ["dogs", "red"]
    visit.page.press("#search", "Escape")
    assert visit.page.inner_text("#count") == "7 units"
    assert visit.page.locator("mark").count() == 0
    assert visit.page.inner_text("#unit-0 .text") == "dogs on red backgrounds"


def test_words_of_the_layer_search(visit: Visit):
    words = visit.page.locator("button.word")
    assert words.nth(0).inner_text() == "red3"
    words.nth(0).click()
    assert visit.page.input_value("#search") == '"red"'
    assert shown(visit) == [0, 3, 6]
    assert words.nth(0).get_attribute("aria-pressed") == "true"
    visit.page.click("button.word[data-word=hats]")
    assert shown(visit) == [6]
    words.nth(0).click()
    visit.page.click("button.word[data-word=hats]")
    assert shown(visit) == list(range(7))


def test_units_are_sorted(visit: Visit):
    scores = [unit.score for unit in made_units("layer1")]
    active = [k for k, score in enumerate(scores) if score is not None]
    visit.page.select_option("#sort", "best")
    assert shown(visit) == [*sorted(active, key=lambda k: -(scores[k] or 0)), 1]
    visit.page.select_option("#sort", "worst")
    assert shown(visit) == [*sorted(active, key=lambda k: scores[k] or 0), 1]
    visit.page.select_option("#sort", "description")
    assert shown(visit) == [2, 5, 0, 6, 4, 3, 1]
    activations = [unit.activation or 0 for unit in made_units("layer1", seed=6)]
    visit.page.select_option("#sort", "activation")
    assert shown(visit) == [*sorted(active, key=lambda k: -activations[k]), 1]
    visit.page.select_option("#sort", "")
    assert shown(visit) == list(range(7))


def test_alternatives_and_large_pictures_open(visit: Visit):
    more = visit.page.locator("#unit-0-more")
    assert not more.is_visible()
    visit.page.click("#unit-0 .open")
    assert more.is_visible()
    assert more.locator("tbody td:first-child").all_inner_texts() == ["dogs on red backgrounds", "other 0"]
    more.locator("canvas").nth(2).wait_for()
    assert more.locator("canvas").count() == 3
    colours = "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, 32, 32).data).size"
    assert more.locator("canvas").nth(0).evaluate(colours) > 20  # a picture, not one colour
    assert re.fullmatch(r"[\d.]+ \u00b7 picture \d+", more.locator("figcaption").nth(0).inner_text())
    visit.page.click("#unit-0 .strip")
    assert not more.is_visible()


def test_masks_are_hidden_and_shown(visit: Visit):
    overlay = visit.page.locator("#unit-0 .overlay")
    assert overlay.is_visible()
    visit.page.click("#masks")
    assert not overlay.is_visible()
    assert visit.page.get_attribute("#masks", "aria-pressed") == "false"
    visit.page.keyboard.press("m")
    assert overlay.is_visible()


def test_everything_is_reached_by_keys(visit: Visit):
    press = visit.page.keyboard.press
    here = "document.activeElement.closest('.unit')?.dataset.unit ?? document.activeElement.id"
    press("/")
    assert visit.page.evaluate(here) == "search"
    press("r")
    press("e")
    press("ArrowDown")
    seen = [visit.page.evaluate(here)]
    for key in ("j", "ArrowDown", "ArrowDown", "k"):
        press(key)
        seen.append(visit.page.evaluate(here))
    assert seen == ["0", "3", "6", "6", "3"]
    press("Enter")
    assert visit.page.locator("#unit-3-more").is_visible()
    press("Enter")
    assert not visit.page.locator("#unit-3-more").is_visible()
    assert visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_searches_are_addresses(chromium: Browser, folder: Path):
    with chromium.visit(folder / "layer1.html") as opened:
        opened.page.fill("#search", "red -dogs")
        opened.page.select_option("#sort", "worst")
        address = opened.page.evaluate("location.href")
        assert address.endswith("#q=red+-dogs&sort=worst")
        opened.page.goto("about:blank")
        opened.page.goto(address)
        assert opened.page.input_value("#search") == "red -dogs"
        assert sorted(shown(opened)) == [3, 6]
        opened.page.goto("about:blank")
        opened.page.goto((folder / "layer1.html").as_uri() + "#unit-6")
        assert opened.page.locator("#unit-6").evaluate("unit => unit.matches(':target')")
        assert opened.messages == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(chromium: Browser, folder: Path, scheme: str):
    for page in ("layer1.html", "index.html"):
        with chromium.visit(folder / page, color_scheme=scheme) as opened:
            for width in (1400, 820, 360):
                opened.page.set_viewport_size({"width": width, "height": 800})
                assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (page, width)
            assert opened.messages == []


def test_hostile_text_is_shown(chromium: Browser, tmp_path: Path):
    page = made_page(HOSTILE, [HOSTILE, "", "a cat"], HOSTILE)
    html.write(page, tmp_path / "hostile.html")
    with chromium.visit(tmp_path / "hostile.html") as opened:
        opened.page.fill("#search", "bold")
        assert opened.page.evaluate("window.ran") is None
        assert opened.page.inner_text("#unit-0 .text").startswith("</script><img src=x onerror=")
        assert opened.page.locator("#unit-0 mark").inner_text() == "bold"
        opened.page.click("#unit-0 .open")
        assert opened.messages == []


def test_the_policy_stops_scripts_and_requests(chromium: Browser, folder: Path):
    with chromium.visit(folder / "layer1.html") as opened:
        markup = "<img src=x onerror='window.ran = 1'><img src='http://127.0.0.1:9/x.png'>"
        opened.page.evaluate(f"document.body.insertAdjacentHTML('beforeend', {json.dumps(markup)})")
        opened.page.wait_for_timeout(100)
        assert opened.page.evaluate("window.ran") is None
        assert len(opened.messages) >= 2
        assert all("Content Security Policy" in message for message in opened.messages)


def test_the_index_searches_all_layers(chromium: Browser, folder: Path):
    with chromium.visit(folder / "index.html") as opened:
        page = opened.page
        assert page.inner_text("#count") == "12 units"
        assert page.locator(".layers tbody tr").count() == 2
        assert page.locator("#overview .unit").count() == 6
        page.locator("#overview .open").nth(0).click()
        page.locator("#overview canvas").nth(2).wait_for()
        page.fill("#search", "cats -dogs")
        assert page.locator("#hits li").all_inner_texts() == ["layer1 \u00b7 2a cat", "layer2 \u00b7 2a cat"]
        assert not page.locator("#overview").is_visible()
        page.locator("#hits a").nth(1).click()
        assert page.evaluate("location.pathname + location.hash").endswith("/layer2.html#unit-2")
        page.click("nav a[rel=prev]")
        assert page.inner_text("h1") == "layer1"
        page.click("nav a[rel=up]")
        page.locator(".layers .words a").nth(0).click()
        assert page.input_value("#search") == '"red"'
        assert opened.messages == []


SPELLED = """
dog,dogs,bus,buses,shoe,shoes,tomatoes,tomato,berry,berries,toys,toy,leaf,leaves,knives,knife,mouse,mice,people,person,\
a,as,red,reds,bread,T-shirts,t-shirt,dog's,caf\u00e9s,caf\u00e9,traffic light,traffic lights,cacti,snowman,snowmen
"""


def test_the_rule_of_words_is_that_of_python(chromium: Browser, folder: Path):
    words = SPELLED.strip().split(",")
    pairs = [(text, word) for text in [*words, "a red dog", *sorted(FUNCTION_WORDS)[:3]] for word in words]
    rule = 'pairs => pairs.map(([text, word]) => found(parsed(`"${word}"`), 0, tokens(text)) !== null)'
    with chromium.visit(folder / "layer1.html") as opened:
        assert opened.page.evaluate(rule, pairs) == [matches(text, [word]) for text, word in pairs]


def test_pages_without_scripts_are_readable(chromium: Browser, folder: Path):
    with chromium.visit(folder / "layer1.html", java_script_enabled=False) as opened:
        assert opened.page.locator(".unit").count() == 7
        assert not opened.page.locator(".tools").is_visible()
        assert opened.page.locator("#unit-0-more").is_visible()


def test_few_exemplars_are_in_memory_at_once():
    taken: list[int] = []

    def units() -> Iterator[UnitDescription]:
        for unit in made_units("layer1", ["a"] * 40):
            taken.append(unit.unit)
            yield unit

    drawing = draw_strips(units(), 40)
    assert (next(drawing).exemplars, len(taken)) == (None, 16)
    assert [unit.unit for unit in drawing] == list(range(1, 40))


def test_pictures_of_many_units_are_smaller():
    (large,) = draw_strips(made_units("layer1", ["a"], size=120), 512)
    (small,) = draw_strips(made_units("layer1", ["a"], size=120), 513)
    assert (' width="336" height="112" ' in article(large), ' width="240" height="80" ' in article(small)) == (
        True,
        True,
    )
