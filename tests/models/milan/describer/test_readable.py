"""What encoders of closed vocabularies are given of a description."""

from collections.abc import Sequence

import pytest

from conceptry.models.encoders.load import load_encoder
from conceptry.models.errors import InputError
from conceptry.models.milan.describer.ranking import readable


class Reader:
    """Knows a few words, and at most four of them in a text."""

    def tokenize(self, texts: Sequence[str]) -> None:
        for text in texts:
            if len(text.split()) > 4 or set(text.lower().split()) - {"dog", "berry", "knife", "on", "red", ","}:
                raise InputError("no")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("Dog on red", "Dog on red"),
        ("Dogs on red", "dog on red"),
        ("Berries, knives", "berry , knife"),
        ("The red areas", "red"),
        ("dogs on red dogs on red", "dog on red dog"),
        ("cats", ""),
        ("", ""),
    ],
)
def test_words_that_are_known_in_the_singular_or_as_they_are(text: str, read: str) -> None:
    assert readable(Reader(), [text, "red"]) == [read, "red"]


def test_encoders_that_read_all_are_given_all() -> None:
    assert readable(object(), ["cats", "x" * 1000]) == ["cats", "x" * 1000]


def test_descriptions_of_the_emoji_world() -> None:
    texts = ["Dogs on red backgrounds", "The colour red", "Striped areas", "a dog"]
    encoder = load_encoder("zoo:emoji-clip", "cpu")
    assert readable(encoder, texts) == ["dog on red background", "the red", "striped", "a dog"]
    encoder.encode_text(readable(encoder, texts))
