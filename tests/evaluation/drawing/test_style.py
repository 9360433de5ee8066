"""Names stand in figures as they are: as no formula, and as nothing that a file could act on."""

import io
import xml.dom.minidom

import pytest

from conceptry.evaluation.drawing.style import new_figure

HOSTILE = "$\\frac{ $x$ \\$ </text><script>\x1b[31m\u202e"
SHOWN = "$\\frac{ $x$ \\$ </text><script>\\x1b[31m\\u202e"


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_texts_of_a_figure_are_literal(kind: str) -> None:
    figure = new_figure(12, 8)
    axes = figure.subplots()
    axes.bar([0, 1], [1, 20])
    axes.set_xticks([0, 1], [HOSTILE, "$a$"])
    axes.set_yscale("log")
    axes.set_title(HOSTILE)
    axes.text(0, 1, HOSTILE)
    figure.suptitle("$\\frac{$")
    for _ in range(2):  # drawn again, they are the same
        stream = io.BytesIO()
        figure.savefig(stream, format=kind)
        if kind == "svg":
            written = stream.getvalue().decode()
            xml.dom.minidom.parseString(written)
            assert "<script>" not in written
        assert axes.get_title() == SHOWN
        assert [label.get_text() for label in axes.get_xticklabels()] == [SHOWN, "$a$"]
        assert not any(label.get_parse_math() for label in axes.get_xticklabels())
        assert all(label.get_parse_math() for label in axes.get_yticklabels())  # powers of ten
