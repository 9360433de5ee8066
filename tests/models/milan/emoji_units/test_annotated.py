"""Annotated units: the same for the same number, true to what they say, and split by combination."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptry.models.errors import InputError
from conceptry.models.milan.emoji_units.annotated import (
    KIND_SHARES,
    UNIT_SPLITS,
    EmojiUnits,
    combination_split,
    upsampling,
)
from conceptry.models.milan.emoji_units.captions import WORD_FORMS, plural, unit_captions
from conceptry.models.milan.emoji_units.planted import COLOUR_UNITS, ColourUnits
from conceptry.models.zoo.emoji_world.emoji import COLOURS, OBJECTS, PATTERNS, VOCABULARY

UNITS = {split: EmojiUnits(split, 40, seed=3, pool=8192) for split in UNIT_SPLITS}


@pytest.mark.parametrize("split", UNIT_SPLITS)
def test_units_show_what_they_say(split: str):
    units = UNITS[split]
    for index in range(24):
        unit = units[index]
        exemplars = unit.exemplars
        assert exemplars.images.shape == (15, 3, 64, 64)
        assert exemplars.masks.shape == (15, 1, 64, 64)
        assert exemplars.images.dtype == exemplars.masks.dtype == np.uint8
        assert exemplars.masks.max() == 1
        assert exemplars.masks.any(axis=(1, 2, 3)).all()  # each exemplar is active somewhere
        assert exemplars.ids is not None
        shown = [set(units.scenes.concepts(int(i))) for i in exemplars.ids]
        either = unit.kind in ("objects", "colours")
        right = [bool(words & unit.properties) if either else unit.properties <= words for words in shown]
        assert sum(right) >= 11
        assert units.properties(index) == unit.properties
        assert units.captions(index) == unit.captions
        ids, masks = units.ids_and_masks(index)
        assert (ids == exemplars.ids).all()
        assert (masks == exemplars.masks).all()
        assert (units.image(int(ids[0])) == exemplars.images[0]).all()


def test_a_unit_depends_on_its_number_alone():
    other = EmojiUnits("train", 7, seed=3, pool=8192)
    assert (other[5].exemplars.masks == UNITS["train"][5].exemplars.masks).all()
    assert (other[5].exemplars.images == UNITS["train"][5].exemplars.images).all()
    assert EmojiUnits("train", 7, seed=4, pool=8192).captions(5) != other.captions(5)


def test_combinations_are_in_one_split_alone():
    for split, units in UNITS.items():
        for index in range(len(units)):
            words = sorted(units.properties(index))
            assert len(words) == 1 or combination_split(*words) == split
    pairs = [(a, b) for a in OBJECTS for b in COLOURS]
    found = [combination_split(*pair) for pair in pairs]
    assert 0.07 < found.count("heldout") / len(pairs) < 0.13
    assert 0.03 < found.count("validation") / len(pairs) < 0.08
    assert [combination_split(b, a) for a, b in pairs] == found


def test_kinds_and_objects_may_be_chosen():
    units = EmojiUnits("train", 12, pool=2048, kinds=("object", "colour"), objects=("dog", "cat", "tree", "key"))
    assert {unit.kind for unit in units} == {"object", "colour"}
    assert all(unit.properties <= {"dog", "cat", "tree", "key", *COLOURS} for unit in units)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test"}, "split must be one of train, validation, heldout, got 'test'"),
        ({"size": -1}, "size and seed must be 0 or more"),
        ({"k": 3}, "k must be at least 4 and pool at least 1024, got k 3"),
        ({"kinds": ("objekt",)}, "kinds must be of object, colour"),
    ],
)
def test_units_that_cannot_be(arguments: dict, message: str):
    with pytest.raises(InputError, match=message):
        EmojiUnits(**{"split": "train", "size": 5} | arguments)
    with pytest.raises(InputError, match="shows no combination 15 times"):
        EmojiUnits("train", 1, pool=1024, kinds=("object+colour",))[0]


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.sampled_from(list(KIND_SHARES)), st.randoms(use_true_random=False))
def test_captions_name_the_properties_and_no_other(kind: str, random):
    sources = {"object": list(OBJECTS), "colour": list(COLOURS), "pattern": list(PATTERNS)}
    if kind in ("objects", "colours"):
        words = random.sample(sources[kind[:-1]], 2)
    else:
        words = [random.choice(sources[part]) for part in kind.split("+")]
    for caption in unit_captions(kind, words):
        assert {WORD_FORMS[word] for word in caption.split() if word in WORD_FORMS} == set(words)


def test_every_form_names_one_word():
    assert {WORD_FORMS[word] for word in VOCABULARY} == set(VOCABULARY)
    assert plural("fox") == "foxes"
    assert plural("leaf") == "leaves"
    assert plural("key") == "keys"
    assert plural("battery") == "batteries"
    assert plural("scissors") == "scissors"


def test_colour_units_follow_their_arithmetic():
    pixels = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 0, 0], [1, 1, 1]]).float()
    found = ColourUnits()(pixels[:, :, None, None].expand(-1, -1, 16, 16))
    assert found.shape == (7, 7, 16, 16)
    assert found[:, :, 0, 0].argmax(dim=0).tolist() == list(range(len(COLOUR_UNITS)))  # of each unit, its own colour
    assert torch.allclose(found[range(7), range(7)], torch.ones(7, 16, 16))


def test_upsampling_is_that_of_a_map_with_a_border_of_zeros():
    a = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(a, (1, 1, 1, 1))
    literal = torch.nn.functional.interpolate(padded, size=96, mode="bilinear", align_corners=False)[
        0, 0, 16:-16, 16:-16
    ]
    up = upsampling(4)
    np.testing.assert_allclose(up @ a[0, 0].numpy() @ up.T, literal.numpy(), atol=1e-6)
