"""Words of descriptions: what is one word, the numbers of tokens, and text put together again."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptry.models.errors import InputError
from conceptry.models.milan.describer.vocabulary import Vocabulary, read_vocabulary, tokenize

VOCABULARY = Vocabulary(["a", "dog", "the", ".", ",", "-", "red", "'s", "tail", "and"])


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A Dog, running.", ["a", "dog", ",", "running", "."]),
        ("black-and-white", ["black", "-", "and", "-", "white"]),
        ("the dog's tail isn't 2 red", ["the", "dog", "'s", "tail", "is", "n't", "2", "red"]),
        ("caf\u00e9 \u2019s", ["caf\u00e9", "'s"]),
        ("a_b (c)", ["a", "_", "b", "(", "c", ")"]),
        ("  \n", []),
    ],
)
def test_text_is_split_into_words_and_marks(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


def test_words_are_ordered_by_frequency_then_alphabet() -> None:
    vocabulary = Vocabulary.from_captions(["a dog", "a cat", "a dog and b"])
    assert vocabulary.words == ("a", "dog", "and", "b", "cat")
    assert Vocabulary.from_captions(["a dog", "a cat", "a dog"], min_count=2).words == ("a", "dog")
    assert Vocabulary.from_captions(["a dog", "a cat", "a dog"], size=1).words == ("a",)


def test_specials_follow_the_words() -> None:
    assert len(VOCABULARY) == 14
    assert VOCABULARY.special == (10, 11, 12, 13)


def test_texts_become_rows_with_a_stop_and_pads() -> None:
    ids = VOCABULARY.encode(["A dog", "the zebra", "", "a a a a"], length=4)
    assert ids.tolist() == [[0, 1, 11, 12], [2, 13, 11, 12], [11, 12, 12, 12], [0, 0, 0, 0]]
    assert ids.dtype == torch.int64


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([0, 1, 11, 6], "A dog"),  # cut at the first stop
        ([10, 0, 12, 13, 1], "A dog"),  # specials dropped
        ([0, 1, 4, 6, 3, 2, 1, 7, 8, 3], "A dog, red. The dog's tail."),  # capitals after full stops
        ([6, 5, 9, 5, 6], "Red-and-red"),
        ([11], ""),
    ],
)
def test_rows_become_text(ids: list[int], text: str) -> None:
    assert VOCABULARY.detokenize(ids) == text
    assert VOCABULARY.detokenize(torch.tensor(ids)) == text


def test_what_was_said_leaves_specials_out() -> None:
    assert VOCABULARY.word_tokens(torch.tensor([0, 13, 1, 11, 2])) == (0, 1)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.lists(st.sampled_from(VOCABULARY.words), max_size=12))
def test_tokens_survive_text(words: list[str]) -> None:
    index = {word: number for number, word in enumerate(VOCABULARY.words)}
    ids = [index[word] for word in words]
    text = VOCABULARY.detokenize(ids)
    assert VOCABULARY.word_tokens(VOCABULARY.encode([text], 20)[0]) == tuple(ids)


def test_a_vocabulary_is_read_as_it_was_written(tmp_path) -> None:
    VOCABULARY.save(tmp_path / "words.txt")
    assert read_vocabulary(tmp_path / "words.txt") == VOCABULARY
    (tmp_path / "words.txt").write_text("dog\ndog\n")
    with pytest.raises(InputError, match=r"words\.txt: the words of a vocabulary must be distinct, 'dog' is there"):
        read_vocabulary(tmp_path / "words.txt")
    (tmp_path / "words.txt").write_bytes(b"\xff\n")
    with pytest.raises(InputError, match="expected UTF-8 text, byte 0 is not"):
        read_vocabulary(tmp_path / "words.txt")
    with pytest.raises(InputError, match="no such file; expected the words of a describer"):
        read_vocabulary(tmp_path / "none.txt")


@pytest.mark.parametrize("word", ["", "two words", "<stop>", "a\n"])
def test_words_that_are_none_are_refused(word: str) -> None:
    with pytest.raises(InputError, match="a word of a vocabulary has no white space and is not special"):
        Vocabulary(["dog", word])
    with pytest.raises(InputError, match="at least one word"):
        Vocabulary([])
