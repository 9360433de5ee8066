"""Text from outside can be read, and does nothing else."""

import pytest

from conceptry.models.errors import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("invoice\u202efdp.exe", r"invoice\u202efdp.exe"),
        ("over\rwritten\x9b2J", r"over\rwritten\x9b2J"),
        ("\u2066a\u2069\u2028\udcff", r"\u2066a\u2069\u2028\udcff"),
        ("two\nlines\tand 日本 é\u00a0👩\u200d🔬 <b>", "two\nlines\tand 日本 é\u00a0👩\u200d🔬 <b>"),
    ],
)
def test_what_would_act_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown
