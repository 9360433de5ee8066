"""The rule by which descriptions are searched: whole words, singular or plural."""

from pathlib import Path

import pytest

from conceptry.models.errors import InputError
from conceptry.models.milan.words import matches, matching_words, read_words, split_matches, split_words, word_counts


@pytest.mark.parametrize(
    ("description", "word"),
    [
        ("a dog on red backgrounds", "red"),
        ("Red.", "red"),
        ("dogs and cats", "dog"),
        ("a dog", "Dogs"),
        ("buses", "bus"),
        ("a bus", "buses"),
        ("shoes", "shoe"),
        ("tomatoes", "tomato"),
        ("radios", "radio"),
        ("berries", "berry"),
        ("toys", "toy"),
        ("leaves", "leaf"),
        ("knives", "knife"),
        ("roofs", "roof"),
        ("mice", "mouse"),
        ("snowmen", "snowman"),
        ("humans", "human"),
        ("mouse", "mice"),
        ("people's hats", "person"),
        ("the dog's tail", "dog"),
        ("a T-shirt", "t-shirt"),
        ("t shirts", "T-shirt"),
        ("Traffic lights, striped", "traffic light"),
        ("blue/green", "green"),
        ("caf\u00e9s", "caf\u00e9"),
    ],
)
def test_a_word_is_found(description: str, word: str):
    assert matches(description, [word])


@pytest.mark.parametrize(
    ("description", "word"),
    [
        ("striped backgrounds", "red"),
        ("predators", "red"),
        ("a hotdog", "dog"),
        ("as it is", "a"),
        ("its", "it"),
        ("lights in traffic", "traffic light"),
        ("traffic", "traffic light"),
        ("doggy", "dog"),
        ("toies", "toy"),
        ("", "red"),
        ("red_ish", "redish"),
    ],
)
def test_a_word_is_not_found(description: str, word: str):
    assert not matches(description, [word])


def test_which_words_are_found():
    words = ["blue", "dog", "red", "dogs"]
    assert matching_words("Dogs on red.", words) == ("dog", "red", "dogs")
    assert not matches("dogs on red", [])


def test_words_are_split():
    assert split_words("red, Blue,traffic  light,\nred,") == ("red", "Blue", "traffic light")
    assert split_words("Red,red") == ("Red",)


def test_words_are_read(tmp_path: Path):
    file = tmp_path / "words.txt"
    file.write_text("\ufeffred\nblue, green\n\n", encoding="utf-8")
    assert read_words(file) == ("red", "blue", "green")
    file.write_text("\n")
    with pytest.raises(InputError, match=r"words\.txt: expected words separated by commas such as red,blue, got"):
        read_words(file)
    with pytest.raises(InputError, match=r"none\.txt: cannot be read as a text file of words"):
        read_words(tmp_path / "none.txt")


def test_what_is_no_word_is_refused():
    with pytest.raises(InputError, match=r"expected a word with a letter or digit, got '!'"):
        matches("red", ["!"])
    with pytest.raises(InputError, match="got the one text 'red'; split it at its commas first"):
        matches("red", "red")
    with pytest.raises(InputError, match="expected words separated by commas such as red,blue, got ' , '"):
        split_words(" , ")


def test_words_are_counted():
    texts = ["a dog on red", "dogs and a dog", "mice", "the colour red", "berries or a berry", "glass"]
    assert word_counts(texts) == {"dog": 2, "red": 2, "berry": 1, "colour": 1, "glass": 1, "mice": 1}
    assert word_counts(["a dog", "A cat"], left_out=()) == {"a": 2, "cat": 1, "dog": 1}
    assert word_counts([]) == {}


def test_words_are_marked():
    assert split_matches("Red dogs, on a T-shirt.", ["dog", "t-shirt"]) == [
        ("Red ", False),
        ("dogs", True),
        (", on a ", False),
        ("T", True),
        ("-", False),
        ("shirt", True),
        (".", False),
    ]
    assert split_matches("red", []) == [("red", False)]
    assert split_matches("", ["red"]) == []
