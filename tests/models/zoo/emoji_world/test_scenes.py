"""Scenes: the same for the same index, true to their masks and captions, and split without overlap."""

import itertools
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptry.models.errors import InputError
from conceptry.models.zoo.emoji_world import emoji
from conceptry.models.zoo.emoji_world.emoji import COLOURS, OBJECTS, PATTERNS, VOCABULARY, object_image, with_article
from conceptry.models.zoo.emoji_world.scenes import HELD_OUT_COLOURS, HELD_OUT_PAIRS, SPLITS, EmojiScenes, Scene

SCENES = st.builds(
    lambda split, seed, count, index: EmojiScenes(split, 10_000, seed, count)[index],
    st.sampled_from(SPLITS),
    st.integers(0, 1000),
    st.sampled_from([1, 2, None]),
    st.integers(0, 9_999),
)


def as_bytes(scene: Scene) -> bytes:
    return scene.image.tobytes() + scene.masks.tobytes() + repr((scene.concepts, scene.caption)).encode()


def test_a_scene_depends_on_seed_and_index_alone():
    data = EmojiScenes("train", 64, seed=3)
    forward = [as_bytes(data[i]) for i in range(64)]
    assert [as_bytes(data[i]) for i in reversed(range(64))] == forward[::-1]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: as_bytes(EmojiScenes("train", 64, seed=3)[i]), range(64))) == forward
    assert len(set(forward)) == 64


def test_splits_and_seeds_are_different_streams():
    scenes = {as_bytes(EmojiScenes(split, 50, seed, 1)[i]) for split in SPLITS for seed in (0, 1) for i in range(50)}
    assert len(scenes) == 300


@settings(max_examples=100, deadline=None)
@given(SCENES)
def test_masks_are_exact(scene: Scene):
    assert scene.image.shape == (64, 64, 3)
    assert scene.image.dtype == np.uint8
    assert scene.masks.shape == (len(scene.objects), 64, 64)
    assert scene.masks.dtype == bool
    assert scene.masks.sum(axis=0).max() == 1  # no pixel belongs to two objects
    assert scene.masks.sum(axis=(1, 2)).min() >= 30
    ground, figure = COLOURS[scene.colour]
    outside = scene.image[scene.background_mask]
    assert set(map(tuple, outside.tolist())) <= {ground, figure}
    if scene.pattern == "plain":
        assert set(map(tuple, outside.tolist())) == {ground}
    grounds = [emoji.background(scene.colour, scene.pattern, phase) for phase in range(256)]
    fitting = [g for g in grounds if (g[scene.background_mask] == outside).all()]
    assert fitting  # the background is one of its pattern's phases, wherever no object is
    # every pixel that an object changed lies in a mask
    assert not ((scene.image != fitting[0]).any(axis=-1) & scene.background_mask).any()


@settings(max_examples=100, deadline=None)
@given(SCENES)
def test_captions_say_exactly_what_is_true(scene: Scene):
    words = re.findall(r"[a-z]+", scene.caption)
    assert sorted(word for word in words if word in VOCABULARY) == sorted(scene.concepts)
    assert all(with_article(name) in scene.caption for name in scene.objects)
    assert not re.search(r"\ba (?!u)[aeiou]|\ban [^aeiou]|\ban (ufo|unicorn)", scene.caption)
    assert len(set(scene.objects)) == len(scene.objects)


@pytest.mark.parametrize("split", SPLITS)
def test_splits_are_disjoint_by_construction(split: str):
    data = EmojiScenes(split, 1200, seed=1)
    for scene in (data[i] for i in range(len(data))):
        pair_held_out = frozenset(scene.objects) in HELD_OUT_PAIRS
        colour_held_out = any((name, scene.colour) in HELD_OUT_COLOURS for name in scene.objects)
        assert pair_held_out == (split == "heldout" and len(scene.objects) == 2)
        assert colour_held_out == (split == "heldout-colour")


def test_few_pairs_and_combinations_are_held_out_and_the_choice_is_fixed():
    n_pairs = sum(1 for _ in itertools.combinations(OBJECTS, 2))
    assert 0.03 < len(HELD_OUT_PAIRS) / n_pairs < 0.05
    assert 0.01 < len(HELD_OUT_COLOURS) / (len(OBJECTS) * len(COLOURS)) < 0.03
    assert (len(HELD_OUT_PAIRS), len(HELD_OUT_COLOURS)) == (353, 30)  # SHA-256 of the words: no release changes it


def test_everything_is_drawn():
    data = EmojiScenes("train", 2500)
    scenes = [data[i] for i in range(len(data))]
    assert {name for scene in scenes for name in scene.objects} == set(OBJECTS)
    assert {scene.colour for scene in scenes} == set(COLOURS)
    assert {scene.pattern for scene in scenes} == set(PATTERNS)
    assert 0.45 < np.mean([len(scene.objects) == 2 for scene in scenes]) < 0.55


def test_digest_tells_definitions_apart():
    data = EmojiScenes("train", 100)
    assert data.digest() == EmojiScenes("train", 100).digest()
    others = [
        EmojiScenes("heldout", 100),
        EmojiScenes("train", 101),
        EmojiScenes("train", 100, seed=1),
        EmojiScenes("train", 100, n_objects=2),
        EmojiScenes("train", 100, objects=list(OBJECTS)[:50]),
    ]
    assert len({data.digest(), *(other.digest() for other in others)}) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test", "size": 1}, "split must be one of train, heldout, heldout-colour, got 'test'"),
        ({"split": "train", "size": -1}, "size and seed must be 0 or more, got size -1"),
        ({"split": "train", "size": 1, "n_objects": 3}, "n_objects must be 1, 2 or None for either, got 3"),
        ({"split": "train", "size": 1, "objects": ["zeppelin"]}, "got 'zeppelin'"),
        ({"split": "train", "size": 1, "objects": ["dog", "dog"]}, "objects must be distinct"),
        ({"split": "heldout", "size": 1, "objects": ["dog", "cat"]}, "leave nothing to draw in split 'heldout'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str):
    with pytest.raises(InputError, match=re.escape(message)):
        EmojiScenes(**arguments)


def test_an_index_outside_ends_iteration():
    assert len(list(EmojiScenes("train", 3))) == 3  # type: ignore[call-overload]  # by the sequence protocol
    with pytest.raises(IndexError, match="scene 3 of 3"):
        EmojiScenes("train", 3)[3]


@pytest.mark.parametrize(("size", "mirrored"), [(24, False), (36, True)])
def test_sprite_without_a_turn_averages_the_nearest_pixels(size: int, mirrored: bool):
    colours, mask = emoji.sprite("dog", size, 2, mirrored)
    source = object_image("dog")[:, ::-1] if mirrored else object_image("dog")
    for y, x in itertools.product(range(0, size, 5), range(0, size, 5)):
        taken = [
            source[72 * (2 * i + 1) // (6 * size), 72 * (2 * j + 1) // (6 * size)].astype(float)
            for i in range(3 * y, 3 * y + 3)
            for j in range(3 * x, 3 * x + 3)
        ]
        alpha = sum(pixel[3] for pixel in taken)
        assert mask[y, x] == (alpha >= 255 * 9 / 2)
        if alpha:
            expected = sum(pixel[:3] * pixel[3] for pixel in taken) / alpha
            assert np.abs(colours[y, x] - expected).max() <= 1
