"""Facts about the pictures of Harsanyi interactions: what is marked where, and that nothing overlaps or crashes."""

import io
import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from conceptry.evaluation.drawing.style import new_figure
from conceptry.evaluation.harsanyi import marks
from conceptry.evaluation.harsanyi.patterns import MAX_BARS, draw_explanation, draw_patterns
from conceptry.evaluation.harsanyi.plots import (
    draw_cumulative,
    draw_error_curve,
    draw_optimisation,
    draw_orders,
    draw_strengths,
)
from conceptry.models.errors import InputError

MINUS = "\N{MINUS SIGN}"
NASTY = [f"$\\frac_{k}$ a name of {'W' * 40} <b>日本</b>\n\x00" for k in range(20)]


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]


def drawn(figure: Figure) -> list:
    """Draw for real; what is written where, in pixels. Ticks outside the axes exist but are not shown."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = (*axis.get_major_ticks(), *axis.get_minor_ticks())
            hidden |= {t.label1 for t in ticks if not (axes.axison and low <= t.get_loc() <= high)}
    return [
        (t.get_text(), t.get_window_extent(canvas.get_renderer()))
        for t in figure.findobj(Text)
        if t.get_visible() and t.get_text().strip() and t not in hidden
    ]


def check_layout(figure: Figure) -> None:
    """No two texts overlap, and none leaves the figure."""
    boxes = drawn(figure)
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    for (first, a), (second, b) in combinations(boxes, 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across < 2 or down < 2, (first, second)


def record(
    n: int = 4, count: int = 6, modality: str = "table", names: list | None = None, scale: float = 1.0, **more
) -> dict:
    """An explanation with `count` patterns over n players, as a served one would be."""
    generator = np.random.default_rng(n + count)
    players = list(names or (f"player {k}" for k in range(n)))
    picked = [np.flatnonzero(generator.random(n) < 0.5) for _ in range(count)]
    patterns = [
        {
            "players": [players[k] for k in (chosen if len(chosen) else range(n))],
            "effect": scale * float(generator.normal() * 10.0 ** generator.integers(-4, 5)),
            "kind": "or" if place % 3 == 1 else "and",
        }
        for place, chosen in enumerate(picked)
    ]
    samples = {
        "table": {name: 3.14159 * k for k, name in enumerate(players)},
        "text": {"text": " ".join(players), "words": players},
        "image": {
            "picture": Image.fromarray(generator.integers(0, 255, (6, 4 * n, 3)).astype(np.uint8)),
            "segments": np.repeat(np.arange(4 * n)[None] // 4, 6, 0).tolist(),
        },
        "points": {"clusters": list(range(n))},
    }
    values = scale * generator.normal(size=n)
    return {
        "file": "row 3",
        "modality": modality,
        "sample": samples[modality],
        "groups": {},
        "patterns": patterns,
        "v_full": 6.5 * scale,
        "v_empty": -123456.0 * scale,
        "target": "class_1",
        "explain_ratio": 0.992,
        "n_kept": count,
        "n_salient": 1234,
        "shapley": [{"player": p, "value": float(x)} for p, x in zip(players, values, strict=True)],
        "graph": json.dumps({"players": players}),
    } | more


# Plots over samples


def test_strengths_have_a_line_for_each_sample_and_count_the_salient_without_the_empty_pattern():
    rows = [np.array([99.0, 1, -2, 0.09]), np.array([99.0, 4, 3, 2, 1, 0, 0, 0])]
    figure = draw_strengths(rows)
    assert len([line for line in figure.axes[0].lines if len(line.get_xdata()) == 7]) == 3  # two samples, the median
    assert any("(3 salient)" in text for text in texts(figure))  # the median of 2 and 4
    median = figure.axes[0].lines[2].get_ydata()
    np.testing.assert_allclose(median, [1, 0.625, 0.2725, 0.125, 0, 0, 0])
    check_layout(figure)


def test_strengths_have_one_median_for_each_label_and_show_labels_as_they_are():
    figure = draw_strengths([np.arange(8.0)] * 4, ["_a", "$b$", "_a", "$b$"])
    assert {" _a (7 salient)", " $b$ (7 salient)"} <= set(texts(figure))
    assert len({str(line.get_linestyle()) for line in figure.axes[0].lines[:6]}) > 1
    drawn(figure)
    with pytest.raises(InputError, match="labels: expected one per sample, 1, got 2"):
        draw_strengths([np.arange(4.0)], ["a", "b"])


def test_cumulative_marks_the_numbers_of_patterns_that_are_needed():
    figure = draw_cumulative([np.array([5.0, -50, 25, 12, 6, 4, 2, 1])])
    assert {"70%: 2 patterns", "80%: 3 patterns", "90%: 4 patterns", "95%: 5 patterns"} <= set(texts(figure))
    points = [line.get_xydata()[0].tolist() for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert points == [[2, 0.7], [3, 0.8], [4, 0.9], [5, 0.95]]
    check_layout(figure)


@pytest.mark.parametrize("n", [1, 2, 3, 16])
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_strengths_and_shares_are_drawn_at_any_size(n: int, scale: float):
    rows = [scale * np.random.default_rng(n).normal(size=2**n)]
    for figure in (draw_strengths(rows), draw_cumulative(rows)):
        check_layout(figure)
        assert ("every interaction is zero" in texts(figure)) == (scale == 0)


def test_no_sample_is_refused():
    for draw in (draw_strengths, draw_cumulative, draw_optimisation):
        with pytest.raises(InputError, match="expected at least one sample"):
            draw([])
    with pytest.raises(InputError, match="expected at least one row"):
        draw_error_curve(pd.DataFrame({"kept": [0], "error": [1.0], "ratio": [0.0]}))


def curve(most: int = 40) -> pd.DataFrame:
    kept = np.arange(most + 1)
    return pd.DataFrame({"kept": kept, "error": np.exp(-kept / 6), "ratio": 1 - np.exp(-kept / 5)})


def test_error_curve_marks_the_registered_number_or_the_fewest_within_both_limits():
    fewest = curve().query("error < 0.1 and ratio > 0.95")["kept"].iloc[0]
    for registered, origin, place in ((None, "fewest within both limits", fewest), (20, "as registered", 20)):
        figure = draw_error_curve(curve(), registered)
        assert f"{origin}: {place} kept" in texts(figure)
        rings = [axes.collections[0].get_offsets()[0].tolist() for axes in figure.axes]
        expected = curve().iloc[place]
        np.testing.assert_allclose(rings, [[place, expected["error"]], [place, expected["ratio"]]], rtol=1e-9)
        check_layout(figure)


def test_error_curve_marks_what_was_measured_where_it_is_not_on_the_curve():
    figure = draw_error_curve(curve(), 14.5, (0.004, 0.6))
    rings = [axes.collections[0].get_offsets()[0].tolist() for axes in figure.axes]
    assert rings == [[14.5, 0.004], [14.5, 0.6]]
    for axes, level in zip(figure.axes, (0.004, 0.6), strict=True):
        low, high = axes.get_ylim()
        assert low < level < high
    check_layout(figure)


@pytest.mark.parametrize(("table", "registered"), [(curve(1), None), (curve(3), 0.0), (curve(80), 80), (curve(), 1)])
def test_error_curve_at_its_edges(table: pd.DataFrame, registered: float | None):
    check_layout(draw_error_curve(table, registered))


def test_error_curve_takes_the_median_of_several_samples():
    table = pd.concat([curve(5).assign(error=level) for level in (0.2, 0.3, 0.9)])
    np.testing.assert_allclose(draw_error_curve(table).axes[0].lines[0].get_ydata(), 0.3)


def test_optimisation_marks_the_best_iterate_of_each_sample():
    figure = draw_optimisation([np.array([10.0, 4, 5, 8]), np.array([2.0, 3, 1])])
    (best,) = (line for line in figure.axes[0].lines if "best" in str(line.get_label()))
    np.testing.assert_allclose(best.get_xydata(), [[1, 0.4], [2, 0.5]])
    assert "median 6 → 2.5\n45% of the start" in texts(figure)
    check_layout(figure)


@pytest.mark.parametrize("l1", [[0.0], [3.0], [0.0, 0.0], [356.7, 179.0, 190.0]])
def test_optimisation_of_one_sample(l1: list[float]):
    check_layout(draw_optimisation([np.array(l1)]))


def test_orders_tell_and_from_or_and_leave_out_the_empty_pattern():
    figure = draw_orders(np.array([7, 2, 1]), np.array([7, 1.5, 0.2]), np.array([7, 0, 3]), np.array([7, 0, 0.4]))
    heights = [[bar.get_height() for bar in bars] for axes in figure.axes for bars in axes.containers]
    assert heights == [[2, 1], [0, 3], [1.5, 0.2], [0, 0.4]]
    assert {"AND", "OR"} <= set(texts(figure))
    check_layout(figure)
    alone = draw_orders(np.array([7, 2, 1]), np.array([7, 1.5, 0.2]))
    assert "OR" not in texts(alone)


@pytest.mark.parametrize("n", [1, 2, 20])
def test_orders_at_any_size(n: int):
    many = np.arange(n + 1) * 11.37
    check_layout(draw_orders(many, many / 100, many * 2, many / 300))
    check_layout(draw_orders(many * 0, many * 0))


def bars(names: list[str], values: np.ndarray) -> Figure:
    figure = new_figure(6.4, 0.29 * len(values) + 0.9)
    marks.signed_bars(
        figure.subplots(), [marks.shortened(name, 160, 10) for name in names], values, np.arange(len(values)), 0.62, 250
    )
    return figure


def test_bars_have_signs_by_colour_and_mark():
    figure = bars(["b", "a", "c"], np.array([-2.0, 0.5, 0.0]))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a", "c"]
    assert [text.get_text() for text in axes.texts] == [f"{MINUS}2.00", "+0.500", "0"]
    assert len({bar.get_facecolor() for bar in axes.patches}) == 3
    check_layout(figure)


@pytest.mark.parametrize("n", [1, 20])
@pytest.mark.parametrize("scale", [0.0, -1e6, 1e-9])
def test_bars_of_any_size_and_name(n: int, scale: float):
    check_layout(bars(NASTY[:n], scale * np.linspace(-1, 2, n)))


# One explanation


@pytest.mark.parametrize(
    ("modality", "n", "count", "names"),
    [
        *(("table", n, count, names) for n, count in ((1, 1), (4, 0), (20, 80)) for names in (None, NASTY)),
        *(("text", n, count, NASTY) for n, count in ((1, 1), (20, 80))),
        *(("image", n, count, None) for n, count in ((1, 1), (4, 0), (7, 3))),
        ("image", 20, 12, NASTY),
        ("points", 5, 3, None),
    ],
)
def test_an_explanation_of_any_size_is_drawn_without_overlaps(modality: str, n: int, count: int, names: list | None):
    shown = record(n, count, modality, names and names[:n])
    check_layout(draw_patterns(shown))
    check_layout(draw_explanation(shown))


def test_effects_that_are_all_zero_have_no_sign():
    figure = draw_explanation(record(scale=0.0))
    check_layout(figure)
    assert not any(text.startswith(("+", MINUS)) for text in texts(figure))


def test_the_overview_names_the_strongest_patterns_and_sums_up_the_others():
    shown = record(5, MAX_BARS + 8)
    figure = draw_explanation(shown)
    rest = sum(sorted((p["effect"] for p in shown["patterns"]), key=abs)[:8])
    assert f"8 weaker patterns: {marks.signed(rest)} together" in texts(figure)
    bars = [bar.get_width() for bar in figure.axes[1].patches]
    np.testing.assert_allclose(bars, sorted((p["effect"] for p in shown["patterns"]), key=abs, reverse=True)[:MAX_BARS])
    assert figure.axes[1].get_xlim() == figure.axes[2].get_xlim()  # one scale
    header = " ".join(texts(figure)[:2])
    assert "class_1, row 3" in header
    assert f"{MINUS}123,456 with no player → 6.50 with all" in header


def test_patterns_of_a_text_mark_the_words():
    words = ["it", "is", "not", "very", "smart"]
    pattern = {"players": ["not", "smart"], "effect": -3.0, "kind": "and"}
    figure = draw_patterns(record(5, modality="text", names=words, patterns=[pattern]))
    framed = [
        t.get_text() for t in figure.axes[0].texts if t.get_bbox_patch() and t.get_bbox_patch().get_edgecolor()[3]
    ]
    assert framed == ["not", "smart"]
    assert {f"{MINUS}3.00", "AND: all 2", *words} <= set(texts(figure))


def test_grouped_words_are_marked_together_and_long_texts_are_shortened():
    words = [f"w{k}" for k in range(100)]
    groups = {f"g{k}": words[10 * k : 10 * k + 10] for k in range(10)}
    pattern = {"players": ["g3"], "effect": 1.0, "kind": "and"}
    shown = record(10, modality="text", names=list(groups), patterns=[pattern], groups=groups)
    figure = draw_patterns(shown | {"sample": {"text": " ".join(words), "words": words}})
    found = [text for text in texts(figure) if text in words or text == "…"]
    assert found == ["…", *words[26:44], "…"]
    check_layout(figure)


def test_patterns_of_a_table_show_values_of_columns_and_of_groups():
    patterns = [{"players": ["body", "city"], "effect": 0.5, "kind": "or"}]
    shown = record(2, names=["body", "city"], patterns=patterns, groups={"body": ["age", "bmi"], "city": ["city"]})
    figure = draw_patterns(shown | {"sample": {"age": 31, "bmi": 22.123456, "city": "Rome"}})
    assert {"body: age = 31, bmi = 22.12", "OR", "city = Rome", "+0.500", "OR: any of 2"} <= set(texts(figure))


def test_patterns_of_a_picture_keep_their_cells_and_fade_the_others():
    pixels = np.zeros((4, 6, 3), np.uint8)
    segments = np.array([[-1, 0, 0, 1, 1, 1]] * 4)
    pattern = {"players": ["b"], "effect": 2.0, "kind": "and"}
    shown = record(2, modality="image", names=["a", "b"], patterns=[pattern])
    figure = draw_patterns(shown | {"sample": {"picture": Image.fromarray(pixels), "segments": segments}})
    axes = figure.axes[-1]
    grey = np.asarray(axes.images[0].get_array())[..., 0]
    np.testing.assert_array_equal(grey == 0, segments == 1)
    assert grey[segments != 1].min() > 0.7
    (frame,) = (c for c in axes.collections if isinstance(c, LineCollection))
    assert len(frame.get_segments()) == 2 * (4 + 3)  # once around 4 x 3 pixels


def test_top_chooses_the_strongest_patterns():
    shown = record(6, 20)
    figure = draw_patterns(shown, top=3)
    strongest = sorted((p["effect"] for p in shown["patterns"]), key=abs, reverse=True)
    assert [t for t in texts(figure) if t[0] in ("+", MINUS)] == [marks.signed(effect) for effect in strongest[:3]]
    assert any("20 kept (3 shown)" in text for text in texts(figure))


def test_a_figure_can_be_written_as_svg_and_png():
    figure = draw_explanation(record(3, 4, "image"))
    for form, start in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        target = io.BytesIO()
        figure.savefig(target, format=form)
        assert target.getvalue().startswith(start)


# Names and numbers


def test_numbers_have_true_signs():
    values = (0.5, -0.25, 1234.5, -2.5e-7, 0.0, -0.0, 123.4, 1e9, 999.7)
    assert [marks.signed(x) for x in values] == [
        *("+0.500", f"{MINUS}0.250", "+1,234", f"{MINUS}2.50e{MINUS}07", "0", "0", "+123", "+1.00e+09", "+1,000")
    ]


@pytest.mark.parametrize("text", ["short", "W" * 500, "many words " * 50, "日本\x00\n", "", "$x^{$"])
def test_names_are_cut_to_the_room_there_is(text: str):
    cut = marks.shortened(text, 80, 10)
    assert marks.text_width(cut, 10) <= 80 or cut == "…"
    lines = marks.wrapped(text, 80, 10, 3).split("\n")
    assert len(lines) <= 3
    assert all(marks.text_width(line, 10) <= 80 for line in lines)
    assert all(c.isprintable() for c in cut)
