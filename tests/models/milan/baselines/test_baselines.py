"""Network Dissection and CLIP-Dissect against slow restatements, and on units that are known by construction."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from conceptry.models.encoders.load import load_encoder
from conceptry.models.errors import InputError
from conceptry.models.milan.baselines.clip_dissect import (
    ClipDissect,
    ClipDissectSettings,
    build_clip_dissect,
    read_clip_dissect,
    soft_likelihood,
)
from conceptry.models.milan.baselines.network_dissection import MIN_IOU, concept_shares, dissect

COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}


class ColourEncoder:
    """Embeds a picture as its mean colour, a word as its colour: what each unit should be named is known."""

    name, runtime, device = "test:colours", "torch", torch.device("cpu")

    def preprocess(self, image: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(image)).float().permute(2, 0, 1)

    def encode_image(self, pixels: Tensor, /) -> Tensor:
        return pixels.mean(dim=(2, 3)) + 1

    def encode_text(self, texts: Sequence[str], /) -> Tensor:
        return torch.tensor([COLOURS[text] for text in texts]).float() + 1

    def save(self, directory: Path) -> None:
        raise AssertionError


def literal_iou(masks: np.ndarray, segmentations: Sequence[dict[str, np.ndarray]], name: str) -> float:
    both = either = 0
    for mask, concepts in zip(masks, segmentations, strict=True):
        for y in range(mask.shape[1]):
            for x in range(mask.shape[2]):
                active = bool(mask[0, y, x])
                there = name in concepts and bool(concepts[name][y, x])
                both += active and there
                either += active or there
    return both / either if either else 0.0


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.floats(0, 1))
def test_every_iou_is_that_of_the_pixels_counted_one_by_one(seed: int, k: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    masks = (rng.random((k, 1, 3, 4)) < share).astype(np.uint8)
    segmentations = [{name: rng.random((3, 4)) < 0.4 for name in "abc" if rng.random() < 0.7} for _ in range(k)]
    found = dissect(masks, segmentations)
    names = {name for concepts in segmentations for name in concepts}
    assert dict(found.ranked) == pytest.approx({name: literal_iou(masks, segmentations, name) for name in names})
    assert [iou for _, iou in found.ranked] == sorted((iou for _, iou in found.ranked), reverse=True)
    assert (found.concept is None) == (found.iou <= MIN_IOU)


def test_a_unit_that_covers_a_concept_exactly_is_named_by_it() -> None:
    dog = np.zeros((2, 8, 8), dtype=bool)
    dog[0, 2:5, 2:5] = dog[1, 4:, :3] = True
    scenes = [{"dog": pixels, "red": ~pixels, "cat": np.zeros((8, 8), bool)} for pixels in dog]
    found = dissect(dog[:, None], scenes)
    assert (found.concept, found.iou) == ("dog", 1.0)
    assert dissect(~dog[:, None], scenes).concept == "red"


def test_equal_concepts_go_by_the_alphabet_and_a_small_overlap_names_nothing() -> None:
    everywhere = np.ones((1, 1, 10, 10), np.uint8)
    pixels = np.ones((10, 10), bool)
    assert dissect(everywhere, [{"zebra": pixels, "ant": pixels}]).concept == "ant"
    speck = np.zeros((10, 10), bool)
    speck[0, :4] = True
    found = dissect(everywhere, [{"ant": speck}])
    assert (found.concept, found.iou) == (None, 0.04)
    assert dissect(everywhere, [{"ant": speck}], least=0.03).concept == "ant"
    assert dissect(everywhere, [{}]) == dissect(everywhere * 0, [{}])


def test_with_shares_the_overlap_of_all_pictures_is_estimated() -> None:
    """A unit of a rare colour, whose strongest exemplars all have a frequent pattern as well."""
    rng = np.random.default_rng(0)
    red, plain = rng.random(4000) < 0.04, rng.random(4000) < 0.5
    pictures = [
        {name: np.ones((4, 4), bool) for name, there in (("red", r), ("plain", p)) if there}
        for r, p in zip(red, plain, strict=True)
    ]
    shares = concept_shares(pictures)
    assert shares == pytest.approx({"red": red.mean(), "plain": plain.mean()})
    chosen = np.flatnonzero(red & plain)[:15]
    masks = np.zeros((15, 1, 4, 4), np.uint8)
    masks[:, 0, :2, :2] = 1  # a quarter of every red picture: active on .01 of all pixels
    segmentations = [pictures[i] for i in chosen]
    assert dissect(masks, segmentations).concept == "plain"  # by the alphabet: both cover the exemplars
    found = dissect(masks, segmentations, shares, active=float(red.mean()) / 4)
    whole = np.where(red[:, None, None], masks[0], 0)  # its masks on all pictures
    literal = {
        name: np.sum(whole & there[:, None, None]) / np.sum(whole.astype(bool) | there[:, None, None])
        for name, there in (("red", np.broadcast_to(red, 4000)), ("plain", plain))
    }
    assert found.concept == "red"
    assert found.iou == pytest.approx(literal["red"])
    assert dict(found.ranked)["plain"] >= literal["plain"]  # the exemplars share it by chance


def test_masks_and_segmentations_that_do_not_belong_together_are_refused() -> None:
    masks = np.ones((2, 1, 4, 5), np.uint8)
    with pytest.raises(InputError, match="the unit has 2 masks, but 1 exemplars are segmented"):
        dissect(masks, [{}])
    with pytest.raises(InputError, match="exemplar 1: concept 'dog' has 5 x 4 pixels, the unit's mask 4 x 5"):
        dissect(masks, [{}, {"dog": np.ones((5, 4))}])
    with pytest.raises(InputError, match="shares lack the concept 'dog'"):
        dissect(masks, [{}, {"dog": np.ones((4, 5))}], {"cat": 0.1})


def literal_likelihood(shares: np.ndarray) -> list[float]:
    k = len(shares)
    sums = [0.0] * shares.shape[1]
    for j in range(k):
        sure = 0.998 - 0.028 * j / k
        for t in range(shares.shape[1]):
            sums[t] += math.log(1 + sure * (float(shares[j, t]) - 1) + 1e-7)
    return [total / k for total in sums]


def test_the_likelihood_of_words_is_the_published_soft_one() -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(6), size=5)
    assert soft_likelihood(np.log(shares)) == pytest.approx(literal_likelihood(shares), abs=1e-12)


def colour_units(names: Sequence[str], k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Units whose exemplars are of one colour each, a little disturbed."""
    rng = np.random.default_rng(1)
    images = np.zeros((len(names), k, 3, 6, 6), np.uint8)
    for unit, name in enumerate(names):
        images[unit] = np.array(COLOURS[name], np.uint8)[:, None, None] + rng.integers(0, 40, (k, 3, 6, 6), np.uint8)
    return images, np.ones((len(names), k, 1, 6, 6), np.uint8)


def reference() -> list[Image.Image]:
    return [Image.new("RGB", (6, 6), colour) for colour in COLOURS.values()]


def test_clip_dissect_names_units_by_construction_and_says_nothing_of_inactive_ones() -> None:
    describer = build_clip_dissect(ColourEncoder(), list(COLOURS), reference())
    images, masks = colour_units(["blue", "red", "green", "red"])
    masks[3] = 0
    found = describer.describe(images, masks, 1)
    assert [d.text for d in found] == ["blue", "red", "green", ""]
    assert [len(d.alternatives) for d in found] == [1, 1, 1, 0]
    assert describer.describe(images[1:2], masks[1:2], 0)[0].alternatives == ()
    first = found[0]
    assert first.pmi == pytest.approx(first.log_likelihood - first.lm_log_likelihood)
    assert first.score == pytest.approx(first.pmi)
    assert first.score > first.alternatives[0].score
    alone = describer.describe(images[1:2], masks[1:2], 1)
    assert alone == [found[1]]


def test_the_weight_says_how_much_a_frequent_word_counts_less() -> None:
    pictures = [*reference(), *[Image.new("RGB", (6, 6), COLOURS["red"])] * 20]
    images = np.full((1, 2, 3, 6, 6), 100, np.uint8)  # grey: as near to every colour
    masks = np.ones((1, 2, 1, 6, 6), np.uint8)
    plain = build_clip_dissect(ColourEncoder(), list(COLOURS), pictures, ClipDissectSettings(weight=0.0))
    weighted = build_clip_dissect(ColourEncoder(), list(COLOURS), pictures)
    before, after = (describer.describe(images, masks, 2)[0] for describer in (plain, weighted))
    assert before.score == pytest.approx(before.log_likelihood)
    assert after.text != "red"
    assert after.alternatives[-1].text == "red"


def test_clip_dissect_refuses_what_it_cannot_name_units_by() -> None:
    encoder = ColourEncoder()
    with pytest.raises(InputError, match="expected from 1 to 100,000 words, got 0"):
        build_clip_dissect(encoder, [], reference())
    with pytest.raises(InputError, match="the words must differ from one another, got 'red' more than once"):
        build_clip_dissect(encoder, ["red", "red"], reference())
    with pytest.raises(InputError, match="the frequency of words is measured on pictures, got none"):
        build_clip_dissect(encoder, ["red"], [])
    with pytest.raises(InputError, match="sharpness must be positive, got 0"):
        ClipDissectSettings(sharpness=0)
    with pytest.raises(InputError, match="weight must be 0 or more, got -1"):
        ClipDissectSettings(weight=-1)
    with pytest.raises(InputError, match="expected one frequency for each of 1 words"):
        ClipDissect(encoder, ["red"], np.zeros(2))
    images, masks = colour_units(["red"])
    with pytest.raises(InputError, match="1 units have images, 0 have masks"):
        ClipDissect(encoder, ["red"], np.zeros(1)).describe(images, masks[:0])


def test_a_folder_keeps_the_describer(tiny_encoder: Path, tmp_path: Path) -> None:
    encoder = load_encoder(f"open_clip:local-dir:{tiny_encoder}", "cpu")
    pictures = [Image.new("RGB", (64, 64), colour) for colour in COLOURS.values()]
    describer = build_clip_dissect(encoder, ["a dog", "red", "tree"], pictures, ClipDissectSettings(20.0, 0.5))
    describer.save(tmp_path / "folder")
    read = read_clip_dissect(tmp_path / "folder", torch.device("cpu"))
    assert (read.words, read.settings) == (describer.words, describer.settings)
    images = np.random.default_rng(0).integers(0, 256, (1, 3, 3, 64, 64), np.uint8)
    masks = np.ones((1, 3, 1, 64, 64), np.uint8)
    assert read.describe(images, masks) == describer.describe(images, masks)
