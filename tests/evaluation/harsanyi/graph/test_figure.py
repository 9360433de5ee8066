"""The picture of an And-Or graph: places, marks, highlights, and the files it is written to."""

import itertools
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from conceptry.evaluation.harsanyi.graph.figure import draw_graph, highlighted, save_graph, strongest
from conceptry.evaluation.harsanyi.graph.layout import SMALL, TEXT, Box, apart, lanes, layout, wrapped
from conceptry.evaluation.harsanyi.marks import NEGATIVE, POSITIVE, text_width
from conceptry.models.errors import InputError
from conceptry.models.harsanyi.graph import AndOrGraph, Pattern, build_graph

SETTINGS = settings(derandomize=True, deadline=None, max_examples=40)
NAMES = (
    "alcohol",
    "od280/od315_of_diluted_wines",
    "mean fractal dimension of the nucleus",
    "x",
    "Donaudampfschifffahrt",
)


def game(m: int, n: int) -> AndOrGraph:
    rng = np.random.default_rng(100 * m + n)
    masks = np.unique(rng.random((4 * m + 4, n)) < 0.45, axis=0)
    masks = masks[masks.any(axis=1)][:m]
    kinds = np.where(rng.random(len(masks)) < 0.2, "or", "and").tolist()
    names = [f"{NAMES[i % len(NAMES)]} {i}" for i in range(n)]
    return build_graph(names, masks, rng.laplace(size=len(masks)) * 10.0 ** rng.integers(-4, 5), kinds, 2.0, 0.5, "y")


def small() -> AndOrGraph:
    patterns = (
        Pattern((0, 2, 3), (0,), -1.25),
        Pattern((0, 2), (0,), 0.53),
        Pattern((1, 2), (), 0.4, "or"),
        Pattern((3,), (), 0.0),
    )
    return AndOrGraph(("alcohol", "acid", "hue", "proline"), ((0, 2),), patterns, 0.7, 1.0, "class_1")


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def edges(figure: Figure) -> tuple[list[float], list[tuple[float, ...]]]:
    """Widths and colours of all edges: the two collections below the nodes."""
    layers = [c for c in figure.axes[0].collections if isinstance(c, PatchCollection) and c.get_zorder() < 3]
    widths = [float(width) for layer in layers for width in np.atleast_1d(layer.get_linewidth())]
    return widths, [tuple(colour) for layer in layers for colour in layer.get_edgecolor()]


def outlines(figure: Figure) -> list[FancyBboxPatch]:
    """The outlines of patterns, in order (the legend's come last)."""
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    return [box for box in boxes if box.get_zorder() == 4 and box.get_facecolor()[:3] == (1.0, 1.0, 1.0)]


@pytest.mark.parametrize(
    ("m", "n", "rows"), [(0, 3, None), (1, 1, None), (3, 2, None), (4, 20, None), (80, 7, None), (80, 20, None),
                         (80, 20, 2), (12, 5, 3), (3, 4, 9)]
)  # fmt: skip
def test_nothing_overlaps_or_is_cut_off(m: int, n: int, rows: int | None):
    graph = game(m, n)
    placed = layout(graph, rows)
    boxes = [placed.root, *placed.patterns, *placed.coalitions, *placed.players.values()]
    assert len(boxes) == graph.n_nodes
    for place, box in enumerate(boxes):
        assert box.x - box.width / 2 >= 0
        assert box.x + box.width / 2 <= placed.width
        assert box.y + box.height / 2 < placed.height
        size = TEXT if box in placed.patterns else SMALL
        assert all(text_width(line, size) < box.width for line in box.lines)
        for other in boxes[:place]:
            assert not overlap(box, other)


def overlap(a: Box, b: Box) -> bool:
    return abs(a.x - b.x) < (a.width + b.width) / 2 and abs(a.y - b.y) < (a.height + b.height) / 2


def test_layers_run_downwards_and_players_keep_their_order():
    graph = game(80, 20)
    placed = layout(graph)
    assert placed.root.y < min(box.y for box in placed.patterns)
    assert max(box.bottom[1] for box in placed.patterns) < min(box.top[1] for box in placed.coalitions)
    assert max(box.bottom[1] for box in placed.coalitions) < min(box.top[1] for box in placed.players.values())
    xs = [placed.players[p].x for p in graph.used_players]
    assert xs == sorted(xs)
    assert len({box.y for box in placed.patterns}) > 1


@SETTINGS
@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(0, 5))
def test_every_player_has_a_lane_of_its_own_between_the_boxes(seed: int, n: int, m: int):
    rng = np.random.default_rng(seed)
    xs = {player: 20 + 960 * (player + 0.5) / n for player in range(n)}
    widths = rng.uniform(20, 150, size=m).tolist()
    centres = apart(sorted(rng.uniform(20, 980, size=m).tolist()), widths, 20, 980, 30)
    boxes = [(x - width / 2, x + width / 2) for x, width in zip(centres, widths, strict=True)]
    assert all(a[1] + 29.99 <= b[0] for a, b in itertools.pairwise(boxes))
    found = lanes(xs, boxes, 1000)
    assert set(found) == set(xs)
    assert len(set(found.values())) == n
    assert all(not low < x < high for x in found.values() for low, high in boxes)
    assert boxes or found == xs  # straight above the players where nothing is in the way


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_patterns_take_the_rows_that_are_asked_for(rows: int):
    assert len({box.y for box in layout(game(20, 6), rows).patterns}) == rows


def test_names_are_broken_at_joints_and_cut_at_last():
    assert wrapped("mean concave points", 45, 8, 3) == ("mean", "concave", "points")
    assert wrapped("total_phenols", 40, 8, 2) == ("total_", "phenols")
    assert wrapped("hue", 40, 8, 2) == ("hue",)
    assert wrapped("", 40, 8, 2) == ("",)
    lines = wrapped("a" * 100, 40, 8, 3)
    assert len(lines) == 3
    assert lines[2].endswith("…")
    assert all(text_width(line, 8) <= 40 for line in lines)


def test_words_of_many_players_stay_whole():
    names = [f"cell ({row}, {column})" for row in range(9) for column in range(7)]
    masks = np.eye(len(names), dtype=bool)
    graph = build_graph(names, masks, np.linspace(2.0, 1.0, len(names)), None, v_full=0.0, v_empty=0.0, target="t")
    placed = layout(graph)
    for player, name in enumerate(names):
        assert " ".join(placed.players[player].lines) == name


def test_signs_are_told_by_colour_mark_and_outline():
    figure = draw_graph(small())
    assert texts(figure)[3:8] == ["+", "\N{MINUS SIGN}1.25", "+0.530", "or +0.400", "0"]
    first, second, third, fourth = outlines(figure)[:4]
    assert [box.get_edgecolor()[:3] for box in (first, second, third)] == [
        to_rgb(NEGATIVE), to_rgb(POSITIVE), to_rgb(POSITIVE)
    ]  # fmt: skip
    assert first.get_linestyle() != "-"
    assert [box.get_linestyle() for box in (second, third, fourth)] == ["-", "-", "-"]
    roundings = [box.get_boxstyle().rounding_size for box in (second, third)]
    assert roundings == [2, 15]  # an "or" pattern has round ends


def test_the_legend_names_what_occurs_alone():
    assert {"raises the output", "lowers it", "needs any of them"} <= set(texts(draw_graph(small())))
    alone = AndOrGraph(("a",), (), (Pattern((0,), (), 1.0),), 1.0, 0.0, "y")
    assert not {"lowers it", "needs any of them", "players that patterns share"} & set(texts(draw_graph(alone)))


def test_colours_can_be_reversed_or_simple():
    assert outlines(draw_graph(small(), colours="reversed"))[0].get_edgecolor()[:3] == to_rgb(POSITIVE)
    simple = outlines(draw_graph(small(), colours="simple"))[:3]
    assert len({box.get_edgecolor()[:3] for box in simple}) == 1
    assert simple[0].get_linestyle() != "-"  # the outline still tells the sign


def test_the_heading_adds_up():
    heading, *sums = texts(draw_graph(small()))[:3]
    assert heading == "Patterns behind class_1"
    expected = "0.700 for the whole sample = 1.00 for the baseline - 0.320 by 4 patterns + 0.0200 unexplained"
    assert " ".join(sums).replace("\N{MINUS SIGN}", "-") == expected
    heading, *sums = texts(draw_graph(small(), title="A $title$", max_patterns=1))[:3]
    assert heading == "A $title$"
    assert "by 1 pattern + 0.930 by 3 weaker, not drawn + 0.0200 unexplained" in " ".join(sums)


@pytest.mark.parametrize(
    ("highlight", "expected"),
    [
        (None, None),
        ("largest", {0}),
        ("top 20%", {0}),
        ("top 50 %", {0, 1}),
        ("top 100%", {0, 1, 2, 3}),
        ("rank-3", {2}),
    ],
)
def test_highlights(highlight: str | None, expected: set[int] | None):
    assert highlighted(small(), highlight) == expected


def test_top_fifth_of_eighty():
    assert highlighted(game(80, 20), "top 20%") == set(range(16))


@pytest.mark.parametrize("highlight", ["rank-0", "rank-5", "rank--1", "top 0%", "top 101%", "Largest", "", "rank-1\n"])
def test_unknown_highlights_are_refused(highlight: str):
    with pytest.raises(
        InputError, match='"largest", "top 20%" or "rank-K" with K from 1 up to the 4 patterns there are'
    ):
        draw_graph(small(), highlight=highlight)


def test_a_highlighted_path_is_bold_and_all_else_pale():
    widths, colours = edges(draw_graph(small(), highlight="rank-2"))
    assert len(widths) == small().n_edges
    assert sum(width == 2.0 for width in widths) == 4  # root, coalition, and the coalition's two players
    assert all((width == 2.0) == (colour[3] > 0.9) for width, colour in zip(widths, colours, strict=True))
    figure = draw_graph(small(), highlight="rank-2")
    opacity = {text.get_text(): text.get_alpha() for text in figure.axes[0].texts}
    assert opacity["+0.530"] == opacity["alcohol"] == opacity["hue"] == opacity["alcohol AND hue"] == 1.0
    assert opacity["or +0.400"] == opacity["acid"] == opacity["proline"] < 0.5


def test_stronger_patterns_have_stronger_edges():
    widths, colours = edges(draw_graph(small()))
    assert len(widths) == small().n_edges
    assert widths[0] == max(widths)
    assert colours[0][3] == max(colour[3] for colour in colours)


def test_strongest_keeps_the_coalitions_in_use():
    graph = game(80, 12)
    kept = strongest(graph, 7)
    assert [(p.players, p.effect) for p in kept.patterns] == [(p.players, p.effect) for p in graph.patterns[:7]]
    assert [{kept.coalitions[c] for c in p.coalitions} for p in kept.patterns] == [
        {graph.coalitions[c] for c in p.coalitions} for p in graph.patterns[:7]
    ]
    assert strongest(graph, 99) == graph


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colours": "red"}, "colours must be one of signs, reversed, simple, got 'red'"),
        ({"rows": 0}, "rows must be at least 1, got 0"),
        ({"max_patterns": 0}, "max_patterns must be at least 1"),
        ({"max_patterns": 2, "highlight": "rank-3"}, "'rank-3' is not among the 2 patterns that are drawn"),
    ],
)
def test_bad_options_are_named(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        draw_graph(small(), **options)


def test_files(tmp_path: Path):
    before = dict(matplotlib.rcParams)
    graph = AndOrGraph(("<b> & $x^2$", "数"), (), (Pattern((0, 1), (), 0.5),), 1.0, 0.5, "</svg>")
    for ending in ("svg", "png", "pdf", "SVG"):
        save_graph(draw_graph(graph), tmp_path / f"graph.{ending}")
    assert dict(matplotlib.rcParams) == before
    svg = (tmp_path / "graph.svg").read_text(encoding="utf-8")
    assert re.search(r"<text[^>]*>&lt;b&gt; &amp; \$x\^2\$</text>", svg)  # text stays text
    assert svg.count("</svg>") == 1
    assert (tmp_path / "graph.SVG").read_text(encoding="utf-8") == svg  # equal figures, equal files
    assert (tmp_path / "graph.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(tmp_path / "graph.png") as image:
        assert image.format == "PNG"
    with pytest.raises(InputError, match=r"graph\.bmp: a picture is written as \.svg, \.png or \.pdf"):
        save_graph(draw_graph(graph), tmp_path / "graph.bmp")


@pytest.mark.parametrize(("m", "n"), [(0, 2), (1, 1), (80, 20)])
def test_extremes_are_drawn(m: int, n: int, tmp_path: Path):
    save_graph(draw_graph(game(m, n)), tmp_path / "graph.png")
    with Image.open(tmp_path / "graph.png") as image:
        assert image.convert("L").getextrema()[0] < 100  # there is ink
