"""Parts of speech of descriptions, as the tagger sees them in their sentence."""

import pytest

from conceptry.evaluation.units.parts_of_speech import PARTS, TAGGER_THERE, part_counts, tag

pytestmark = pytest.mark.skipif(not TAGGER_THERE, reason="HanTa is not installed")


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("Dogs and cats on striped red backgrounds", (2, 3, 0, 1)),
        ("an orange on a green background", (1, 2, 0, 1)),
        ("Orange areas.", (1, 1, 0, 0)),
        ("people riding horses", (0, 2, 1, 0)),
        ("wheels, of cars", (0, 2, 0, 1)),
        ("", (0, 0, 0, 0)),
    ],
)
def test_words_are_counted_by_their_part_in_the_sentence(text: str, counts: tuple[int, ...]) -> None:
    (found,) = part_counts([text])
    assert found == dict(zip(PARTS, counts, strict=True))


def test_there_is_a_tag_for_each_word() -> None:
    assert tag("Red or blue areas") == ["AJ0", "CJC", "AJ0", "NN2"]
