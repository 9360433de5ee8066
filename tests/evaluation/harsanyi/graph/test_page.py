"""The interactive page: what is written, and how it behaves in a real browser."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from browser import Browser, Visit, open_browser
from conceptry.evaluation.harsanyi.graph.page import page, write_page
from conceptry.evaluation.harsanyi.marks import signed
from conceptry.models.harsanyi.graph import AndOrGraph, Pattern, build_graph

HOSTILE = (
    "</script><script>window.ran = 1</script>",
    "<!-- <script>",
    "<img src=x onerror='window.ran = 1'>",
    '{{title}} & "quotes" \' \u2028 \u202e \\u003c',
)
WINE = ("alcohol", "malic_acid", "hue", "proline", "magnesium")


def wine() -> AndOrGraph:
    patterns = (
        Pattern((0, 2, 3), (0,), -1.25),
        Pattern((0, 2), (0,), 0.53),
        Pattern((1, 2), (), -0.4, "or"),
        Pattern((0, 1, 2), (0,), 0.2),
        Pattern((1,), (), 0.1),
    )
    return AndOrGraph(WINE, ((0, 2),), patterns, 0.18, 1.0, "class_1")


def hostile() -> AndOrGraph:
    return AndOrGraph(HOSTILE, ((0, 1),), (Pattern((0, 1, 2), (0,), 1.0), Pattern((0, 1, 3), (0,), 0.5)), 2.0, 0.5, "y")


def crowded(m: int, n: int) -> AndOrGraph:
    rng = np.random.default_rng(m * n)
    masks = np.unique(rng.random((4 * m, n)) < 0.4, axis=0)
    masks = masks[masks.any(axis=1)][:m]
    kinds = np.where(rng.random(len(masks)) < 0.2, "or", "and").tolist()
    names = [f"a rather long name of player {i}" for i in range(n)]
    return build_graph(names, masks, rng.laplace(size=len(masks)), kinds, 1.0, 0.0, "class_1")


def embedded(text: str) -> AndOrGraph:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return AndOrGraph.from_json(data)


@pytest.mark.parametrize("graph", [wine(), hostile(), crowded(80, 20)], ids=["wine", "hostile", "crowded"])
def test_the_page_holds_the_graph(graph: AndOrGraph):
    assert embedded(page(graph)) == graph


def test_names_cannot_leave_their_element():
    text = page(hostile(), title="</title><script>window.ran = 1</script>")
    assert text.count("<script") == text.count("</script") == 2  # the data and the code, as in the template
    assert "<!-- " not in text
    assert "<img" not in text
    assert "\u2028" not in text
    assert "&lt;/title&gt;&lt;script&gt;" in text


def test_the_page_names_no_address():
    text = page(wine()).replace("http://www.w3.org/2000/svg", "")  # the name of a namespace, not fetched
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert "default-src 'none'" in text


def test_the_file_is_the_page(tmp_path: Path):
    write_page(wine(), tmp_path / "graph.html", title="A title")
    assert (tmp_path / "graph.html").read_bytes() == page(wine(), title="A title").encode()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with open_browser("how the interactive page of a graph behaves") as browser:
        yield browser


@pytest.fixture
def visit(chromium: Browser, tmp_path: Path) -> Iterator[Visit]:
    """The page of `wine()`; afterwards nothing was fetched and nothing went wrong."""
    write_page(wine(), tmp_path / "graph.html")
    with chromium.visit(tmp_path / "graph.html") as opened:
        yield opened
        assert opened.requests == []
        assert opened.messages == []


def lit(opened: Visit, kind: str) -> set[int]:
    """The nodes of one kind that are highlighted."""
    found = opened.page.locator(f".node.{kind}.on").evaluate_all(f"nodes => nodes.map(node => +node.dataset.{kind})")
    return set(found)


def details(opened: Visit) -> str:
    return hyphens(opened.page.locator("#details").inner_text())


def hyphens(text: str) -> str:
    """`text` with the true minus signs of the page as hyphens."""
    return text.replace("\N{MINUS SIGN}", "-")


def lit_edges(opened: Visit) -> int:
    return opened.page.locator(".edge.on").count()


def focused(opened: Visit) -> str:
    return opened.page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.id")


def test_hovering_a_pattern_highlights_its_coalitions_and_players(visit: Visit):
    assert not visit.page.locator(".on").count()
    visit.page.hover("[data-pattern='0']")
    assert (lit(visit, "pattern"), lit(visit, "coalition"), lit(visit, "player")) == ({0}, {0}, {0, 2, 3})
    assert lit_edges(visit) == 5  # root, coalition, proline, and the coalition's two
    sum_so_far = "sum so far, the baseline and the strongest: -0.250 of 0.180"
    assert details(visit) == f"alcohol AND hue AND proline: -1.25 · {sum_so_far}"
    visit.page.hover("[data-pattern='2']")
    assert (lit(visit, "pattern"), lit(visit, "coalition"), lit(visit, "player")) == ({2}, set(), {1, 2})
    assert details(visit).startswith("malic_acid OR hue: -0.400")
    visit.page.hover("h1")
    assert not visit.page.locator(".on").count()


def test_a_page_opens_with_its_highlight_and_without_rewards(chromium: Browser, tmp_path: Path):
    graph = wine()
    alone = AndOrGraph(graph.players, graph.coalitions, graph.patterns, None, None, "class_1")
    write_page(alone, tmp_path / "graph.html", highlight="top 40%")
    with chromium.visit(tmp_path / "graph.html") as opened:
        assert lit(opened, "pattern") == {0, 1}
        assert details(opened) == "top 40%: 2 patterns, together -0.720 · in all -0.720"
        assert hyphens(opened.page.locator("#sums").inner_text()) == "5 patterns, together -0.820"
        opened.page.keyboard.press("Escape")
        assert not lit(opened, "pattern")
        opened.page.hover("[data-pattern='0']")
        assert details(opened) == "alcohol AND hue AND proline: -1.25 · sum so far, the strongest: -1.25"
        assert opened.messages == []


def test_hovering_a_player_highlights_every_pattern_that_holds_it(visit: Visit):
    visit.page.hover("[data-player='2']")
    assert (lit(visit, "pattern"), lit(visit, "coalition"), lit(visit, "player")) == ({0, 1, 2, 3}, {0}, {2})
    assert details(visit) == "hue: in 4 patterns, together -0.920"
    visit.page.hover("[data-player='3']")
    assert (lit(visit, "pattern"), lit(visit, "coalition"), lit(visit, "player")) == ({0}, set(), {3})
    visit.page.hover("[data-coalition='0']")
    assert (lit(visit, "pattern"), lit(visit, "coalition"), lit(visit, "player")) == ({0, 1, 3}, {0}, {0, 2})


def test_click_pins_and_escape_unpins(visit: Visit):
    node = visit.page.locator("[data-pattern='1']")
    node.click()
    visit.page.hover("[data-pattern='2']")
    assert lit(visit, "pattern") == {1}
    assert details(visit).startswith("alcohol AND hue: +0.530")
    assert node.get_attribute("aria-pressed") == "true"
    visit.page.keyboard.press("Escape")
    assert node.get_attribute("aria-pressed") == "false"
    assert not visit.page.locator(".on").count()
    node.click()
    node.click()
    visit.page.hover("h1")
    visit.page.evaluate("document.activeElement.blur()")
    assert not visit.page.locator(".on").count()


def test_buttons_highlight_the_largest_the_top_fifth_and_a_rank(visit: Visit):
    visit.page.click("#largest")
    assert lit(visit, "pattern") == {0}
    assert details(visit).startswith("Largest: 1 pattern, together -1.25 · with the baseline -0.250 of 0.180")
    visit.page.click("#top")
    assert lit(visit, "pattern") == {0}  # a fifth of five
    assert visit.page.get_attribute("#top", "aria-pressed") == "true"
    assert visit.page.get_attribute("#largest", "aria-pressed") == "false"
    visit.page.fill("#number", "4")
    visit.page.click("#rank")
    assert lit(visit, "pattern") == {3}
    assert lit(visit, "player") == {0, 1, 2}
    visit.page.fill("#number", "99")
    visit.page.keyboard.press("Enter")
    assert lit(visit, "pattern") == {4}
    assert visit.page.input_value("#number") == "5"
    visit.page.click("#clear")
    visit.page.hover("h1")
    assert not visit.page.locator(".on").count()


def test_the_list_is_sorted_and_highlights(visit: Visit):
    rows = visit.page.locator("#list li")
    assert [hyphens(text) for text in rows.locator(".effect").all_inner_texts()] == [
        "-1.25",
        "+0.530",
        "-0.400",
        "+0.200",
        "+0.100",
    ]
    sums = ["Σ -0.250", "Σ 0.280", "Σ -0.120", "Σ 0.0800", "Σ 0.180"]
    assert [hyphens(text) for text in rows.locator(".sum").all_inner_texts()] == sums
    widths = rows.locator(".bar i").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().width)")
    np.testing.assert_allclose(np.array(widths) / widths[0], [1, 0.424, 0.32, 0.16, 0.08], atol=0.01)
    rows.nth(3).locator("button").hover()
    assert lit(visit, "pattern") == {3}
    rows.nth(3).locator("button").click()
    visit.page.hover("h1")
    assert lit(visit, "player") == {0, 1, 2}


def test_the_filter_keeps_patterns_that_hold_every_word(visit: Visit):
    visit.page.fill("#filter", "HUE alc")
    rows = visit.page.locator("#list li:visible button")
    assert rows.evaluate_all("rows => rows.map(row => +row.dataset.row)") == [0, 1, 3]
    assert visit.page.inner_text("#count") == "3 of 5"
    assert visit.page.locator(".pattern.out").count() == 2
    visit.page.fill("#filter", "nothing")
    assert visit.page.inner_text("#count") == "0 of 5"
    visit.page.click("#clear")
    assert visit.page.locator("#list li:visible").count() == 5


def test_everything_is_reached_by_keys(visit: Visit):
    press = visit.page.keyboard.press
    stops = []
    for _ in range(11):
        press("Tab")
        stops.append(focused(visit))
    assert stops[:6] == ["largest", "top", "rank", "Which rank", "clear", stops[5]]
    assert [stop.split(" ")[0] for stop in stops[6:9]] == ["Pattern", "Coalition", "Player"]
    press("Shift+Tab")
    press("Shift+Tab")
    visit.page.locator("[data-pattern='0']").focus()
    seen = [focused(visit)]
    for _ in range(4):
        press("ArrowRight")
        seen.append(focused(visit))
    assert [name.split(":")[0] for name in seen] == [f"Pattern {k} of 5" for k in range(1, 6)]
    assert seen[1] == "Pattern 2 of 5: alcohol AND hue, effect +0.530"
    assert lit(visit, "pattern") == {4}  # focus highlights
    press("Home")
    press("Enter")
    assert lit(visit, "pattern") == {0}
    press("ArrowDown")
    assert focused(visit) == "Coalition alcohol AND hue"
    press("ArrowDown")
    assert focused(visit).startswith("Player ")
    press("Home")
    players = [focused(visit)]
    for _ in range(3):
        press("ArrowRight")
        players.append(focused(visit))
    assert players == [f"Player {name}" for name in WINE[:4]]  # magnesium is in no pattern
    assert lit(visit, "pattern") == {0}  # still pinned
    press("Escape")
    visit.page.locator("[data-row='0']").focus()
    press("ArrowDown")
    assert lit(visit, "pattern") == {1}
    press("Enter")
    visit.page.evaluate("document.activeElement.blur()")
    assert lit(visit, "pattern") == {1}


def test_focus_is_seen(visit: Visit):
    visit.page.locator("#clear").focus()
    for _ in range(2):
        visit.page.keyboard.press("Tab")
    ring = "getComputedStyle(document.activeElement.querySelector('.halo'))"
    assert visit.page.evaluate(f"{ring}.strokeWidth") == "2px"
    assert visit.page.evaluate(f"{ring}.stroke") not in ("none", "rgb(255, 255, 255)")


def test_a_script_in_a_name_does_not_run(chromium: Browser, tmp_path: Path):
    write_page(hostile(), tmp_path / "graph.html", title="<script>window.ran = 1</script>")
    with chromium.visit(tmp_path / "graph.html") as opened:
        opened.page.hover("[data-pattern='0']")
        opened.page.click("[data-player='2']")
        assert opened.page.evaluate("window.ran") is None
        assert opened.page.locator("img").count() == 0
        assert opened.page.locator("h1").inner_text() == "<script>window.ran = 1</script>"
        assert opened.page.locator("#list .name").first.inner_text().startswith("</script><script>window.ran")
        assert opened.messages == []
        assert opened.requests == []


def test_the_policy_stops_scripts_and_requests(chromium: Browser, tmp_path: Path):
    write_page(wine(), tmp_path / "graph.html")
    with chromium.visit(tmp_path / "graph.html") as opened:
        markup = "<img src=x onerror='window.ran = 1'><img src='http://127.0.0.1:9/x.png'>"
        opened.page.evaluate(f"document.body.insertAdjacentHTML('beforeend', {json.dumps(markup)})")
        opened.page.wait_for_function("document.querySelectorAll('img').length === 2")
        opened.page.wait_for_timeout(100)
        assert opened.page.evaluate("window.ran") is None
        assert all("Content Security Policy" in message for message in opened.messages)
        assert len(opened.messages) >= 2


@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 2), (4, 20), (80, 7), (80, 20)])
def test_nothing_overlaps_or_is_cut_off(chromium: Browser, tmp_path: Path, m: int, n: int):
    graph = crowded(m, n)
    write_page(graph, tmp_path / "graph.html")
    measure = """nodes => nodes.map(node => {
        const { left, top, right, bottom } = node.querySelector('.ground, circle').getBoundingClientRect();
        const text = node.querySelector('text').getBoundingClientRect();
        return [left, top, right, bottom, text.left, text.right];
    })"""
    with chromium.visit(tmp_path / "graph.html", color_scheme="dark" if n == 7 else "light") as opened:
        for width in (1400, 700, 360):
            opened.page.set_viewport_size({"width": width, "height": 900})
            opened.page.wait_for_function(
                "graph => graph.viewBox.baseVal.width === graph.parentElement.clientWidth",
                arg=opened.page.query_selector("#graph"),
            )
            boxes = np.array(opened.page.locator(".node").evaluate_all(measure))
            assert len(boxes) == graph.n_nodes
            assert boxes[:, 0].min() >= 0
            assert boxes[:, 2].max() <= width
            assert (boxes[:, 4] >= boxes[:, 0]).all()  # text stays inside its box
            assert (boxes[:, 5] <= boxes[:, 2]).all()
            assert overlaps(boxes) == 0
            assert hidden_edges(opened) == []
            assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert opened.messages == []


def hidden_edges(opened: Visit) -> list[str]:
    """The edges that pass behind a coalition or player which is not an end of theirs, by points along each."""
    order = "const all = [...nodes.coalition, ...nodes.player].filter(Boolean);"
    ends = "edges.map(({ upper, lower, path }) => [all.indexOf(upper), all.indexOf(lower), path.getAttribute('d')])"
    edges = opened.page.evaluate(f"() => {{ {order} return {ends}; }}")
    rows = opened.page.evaluate(f"() => {{ {order} return all.map(b => [b.x, b.y, b.width / 2, b.height / 2]); }}")
    boxes = np.array(rows).reshape(-1, 4)
    t = np.linspace(0, 1, 15)[:, None]
    found = []
    for upper, lower, path in edges:
        points = np.array(re.findall(r"-?[\d.]+(?:e-?\d+)?", path), dtype=float).reshape(-1, 2)
        curves = [points[k : k + 4] for k in range(0, len(points) - 1, 3)]
        weights = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]
        along = np.concatenate([sum(w * point for w, point in zip(weights, c, strict=True)) for c in curves])
        inside = (np.abs(along[:, None] - boxes[:, :2]) < boxes[:, 2:] - 1).all(axis=2).any(axis=0)
        if set(np.flatnonzero(inside).tolist()) - {upper, lower}:
            found.append(path)
    return found


def overlaps(boxes: np.ndarray) -> int:
    """How many pairs of boxes (left, top, right, bottom, ...) have a point in common."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:4], boxes[None, :, 2:4])
    return int(np.triu((high > low).all(axis=2), 1).sum())


def test_what_is_no_text_is_written_as_marks(tmp_path: Path):
    graph = AndOrGraph(("\ud800", "b"), (), (Pattern((0, 1), (), 1.0),), 1.0, 0.0, "y")
    write_page(graph, tmp_path / "graph.html", title="\udcff\u202efdp.csv")
    text = (tmp_path / "graph.html").read_text("utf-8")
    assert embedded(text).players == ("?", "b")
    assert r"<title>\udcff\u202efdp.csv</title>" in text


def test_numbers_are_those_of_the_pictures(chromium: Browser, tmp_path: Path):
    patterns = tuple(Pattern((k,), (), effect) for k, effect in enumerate((-12345.6, 999.7, 123.4, 0.25)))
    write_page(AndOrGraph(WINE, (), patterns, 2.0, 0.0, "y"), tmp_path / "graph.html")
    with chromium.visit(tmp_path / "graph.html") as opened:
        shown = opened.page.locator("#list .effect").all_inner_texts()
        assert (
            shown
            == [signed(pattern.effect) for pattern in patterns]
            == ["\N{MINUS SIGN}12,346", "+1,000", "+123", "+0.250"]
        )


def test_no_pattern_at_all(chromium: Browser, tmp_path: Path):
    write_page(AndOrGraph(WINE, (), (), 1.0, 1.0, "class_1"), tmp_path / "graph.html")
    with chromium.visit(tmp_path / "graph.html") as opened:
        assert details(opened).startswith("No pattern")
        assert opened.page.locator("#largest").is_disabled()
        assert opened.messages == []
