"""The page of a comparison: what it says, in a real browser, of versions whose samples are known."""

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from comparisons import compared_versions
from PIL import Image

from browser import Browser, open_browser
from conceptry.evaluation.comparison.chart import Point, chart
from conceptry.evaluation.comparison.compared import Key
from conceptry.evaluation.comparison.page import PageParts, comparison_page
from conceptry.evaluation.comparison.samples import ComparedSample, compared_samples, disagreement
from conceptry.evaluation.comparison.verdicts import verdicts
from conceptry.evaluation.drawing import html
from conceptry.evaluation.presenter import Shown
from conceptry.models.images import png_bytes
from conceptry.registry.promotion import Promotion

HOSTILE = "</script><img src=x onerror='window.ran = 1'>{{title}} &amp; <b>bold</b>\u202egnp"


@pytest.fixture(scope="module")
def compared():
    hard = np.random.default_rng(0).normal(size=60)
    l0 = np.arange(60) % 5 + 2.0
    return compared_versions(
        cosine=[hard, hard + 0.5, hard + 0.01], l0=[l0, l0 + (np.arange(60) % 2), l0], champion=1, params=HOSTILE
    )


@pytest.fixture(scope="module")
def page(compared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    picture = base64.b64encode(png_bytes(Image.new("RGB", (40, 40), "red"))).decode()
    samples = compared_samples(compared)
    said: dict[Key, Shown] = {}
    for k in (1, 2, 3):
        said[k] = Shown(text=f"{k + 1} words", bars=(("fire", 0.5), (f"only {k} {HOSTILE}", 0.1 * k)))
    first = samples[0]
    full = ComparedSample(first.name, first.disagreement, first.metrics, HOSTILE, Shown((("", picture),)), said)
    given = Promotion("champion", 2, None, "by hand", None, "me", "2026-01-02")
    parts = PageParts([full, *samples[1:]], {"words": [given]}, {1: "http://host/#/experiments/1"}, [HOSTILE])
    path = tmp_path_factory.mktemp("page") / "compare.html"
    html.write(comparison_page(compared, parts), path)
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with open_browser("the page of a comparison") as browser:
        yield browser


def test_verdicts_hold_each_version_against_the_champion(compared) -> None:
    second, third = verdicts(compared)
    assert (second.version.version, second.reference.version) == (2, 1)
    assert second.better == (("cosine", "0.500 [0.500, 0.500]"),)
    assert [name for name, _ in second.worse] == ["l0"]
    assert (third.better, third.worse, third.same) == ((("cosine", "0.010 [0.010, 0.010]"),), (), ("l0",))


def test_disagreement_is_the_spread_in_standard_deviations() -> None:
    values = np.random.default_rng(0).normal(size=(3, 8, 2))
    values[:, :, 1] *= 100
    values[0, 3, 0] = np.nan
    values = np.concatenate([values, np.ones((3, 8, 1))], axis=2)  # a metric that says nothing
    expected = []
    for i in range(8):
        parts = [np.nanmax(values[:, i, m]) - np.nanmin(values[:, i, m]) for m in (0, 1)]
        expected.append(np.mean([part / np.nanstd(values[:, :, m]) for m, part in enumerate(parts)]))
    np.testing.assert_allclose(disagreement(values), expected)
    np.testing.assert_allclose(disagreement(np.ones((2, 3, 1))), 0)


def test_samples_come_by_disagreement(compared) -> None:
    samples = compared_samples(compared)
    assert len(samples) == 60
    assert [s.disagreement for s in samples] == sorted((s.disagreement for s in samples), reverse=True)
    assert int(samples[0].name[1:]) % 2 == 1  # where l0 differs as well
    assert samples[0].metrics[2]["cosine"] - samples[0].metrics[1]["cosine"] == pytest.approx(0.5)


def test_one_screen_answers(chromium: Browser, page: Path) -> None:
    """Which version is better on what, by how much, and where they differ: without scrolling at 1280 x 800."""
    with chromium.visit(page, 1280, 800) as opened:
        seen = opened.page
        first = seen.locator(".verdicts li").first.inner_text()
        assert first.startswith("v2 is better than v1 (champion) in cosine by 0.500 [0.500, 0.500]; worse in l0 by 0.5")
        for what in (".verdicts", ".scores", "[data-chart]:not([hidden])", ".most"):
            box = seen.locator(what).bounding_box()
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= 800, what
        assert seen.evaluate("document.documentElement.scrollWidth") <= 1280
        assert seen.locator(".scores .lead").count() == 3  # cosine of v2, l0 of v1 and v3
        assert (opened.messages, opened.requests) == ([], [])


def test_samples_are_filtered_and_nothing_from_outside_is_markup(chromium: Browser, page: Path) -> None:
    with chromium.visit(page, 1280, 800) as opened:
        seen = opened.page
        assert seen.locator(".sample .side h4").all_inner_texts() == ["v1", "v2", "v3"]
        assert seen.locator(".sample .only").count() == 3
        seen.fill("#search", "s7")
        assert seen.locator("[data-text]:visible").count() == 1
        assert seen.locator("#count").inner_text() == "1 of 60"
        seen.fill("#search", "nothing at all")
        assert seen.locator("#none").is_visible()
        seen.fill("#search", "onerror")
        assert "<b>bold</b>" in seen.locator(".sample h3").inner_text()
        seen.select_option("#metric", "l0")
        assert seen.locator("[data-chart]:visible").get_attribute("data-chart") == "l0"
        assert seen.evaluate("window.ran") is None
        assert (opened.messages, opened.requests) == ([], [])


def test_without_samples_the_page_says_what_to_do(compared) -> None:
    bare = type(compared)(compared.comparison)
    text = comparison_page(bare, PageParts())
    assert "run conceptry evaluate words/1, conceptry evaluate words/2" in text
    assert 'class="lead"' not in text


def test_a_chart_of_one_value_and_of_many() -> None:
    assert chart([Point("<v1>", "a", 0.0, None, None)], ".3f", "x").count("<circle") == 1
    many = chart([Point(f"v{k}", "a", k, k - 1, k + 1, ("▲ champion",)) for k in range(40)], ".1f", "x")
    assert (many.count("<circle"), many.count('class="name"') < 20) == (40, True)
