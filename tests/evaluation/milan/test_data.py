"""Units that milan is evaluated on: their truth, their digests, and every sentence about data that there is not."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from conceptry.evaluation.milan import data as emoji_units
from conceptry.evaluation.milan.client import ANNOTATED, COLOURS, PLANTED
from conceptry.evaluation.milan.data import UnitData, load_units, own_ranges
from conceptry.evaluation.milan.metrics import baselines
from conceptry.models.errors import InputError
from conceptry.models.images import decode_image
from conceptry.models.milan.emoji_units.planted import COLOUR_UNITS

PARAMS = {"model": "zoo:scenes", "layers": "a,b", "units": json.dumps({"a": [[0, 2], [5, 5]], "b": [[1, 1]]})}


@pytest.fixture(scope="module")
def emoji(module_monkeypatch) -> UnitData:
    module_monkeypatch.setattr(emoji_units, "SCENES", 300)
    return load_units(None, {}, 4, 0)


@pytest.fixture(scope="module")
def module_monkeypatch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_units_of_the_emoji_world_are_of_three_groups_with_their_truth(emoji: UnitData) -> None:
    assert emoji.name == "zoo:emoji-units"
    groups = [case.group for case in emoji.cases]
    assert groups == [ANNOTATED] * 4 + [PLANTED] * 4 + [COLOURS] * len(COLOUR_UNITS)
    assert [case.label for case in emoji.cases] == groups
    for case in emoji.cases:
        assert case.images is not None
        assert case.masks is not None
        assert case.truth
        assert case.images.shape == (15, 3, 64, 64)
        assert case.masks.shape == (15, 1, 64, 64)
        assert len(case.references) == (3 if case.group == ANNOTATED else 0)
        assert len(case.segmentations) == 15
    assert [case.truth for case in emoji.cases[8:]] == [frozenset({word}) for word in COLOUR_UNITS]
    assert len({case.key for case in emoji.cases}) == len(emoji)


def test_the_pixels_of_concepts_belong_to_the_exemplars(emoji: UnitData) -> None:
    red = emoji.cases[8]
    assert red.images is not None
    picture, concepts = red.images[0], red.segmentations[0]
    assert "red" in concepts
    r, g, b = (float(channel[concepts["red"]].mean()) for channel in picture)
    assert r > 1.5 * max(g, b)


def test_controls_have_the_masks_and_the_truth_of_planted_units_and_other_pictures(emoji: UnitData) -> None:
    planted = [case for case in emoji.cases if case.group == PLANTED]
    assert [case.truth for case in emoji.controls] == [case.truth for case in planted]
    for case, control in zip(planted, emoji.controls, strict=True):
        assert np.array_equal(case.masks, control.masks)
        assert not np.array_equal(case.images, control.images)


def test_the_files_of_a_unit_are_its_pixels(emoji: UnitData) -> None:
    case = emoji.cases[0]
    assert case.images is not None
    assert case.masks is not None
    assert np.array_equal(np.asarray(decode_image(case.image_files[3])), case.images[3].transpose(1, 2, 0))
    assert np.array_equal(np.asarray(decode_image(case.mask_files[3]))[..., 0] > 127, case.masks[3, 0] != 0)


def test_the_same_size_and_seed_are_the_same_units(emoji: UnitData) -> None:
    again = load_units("zoo:emoji-units", {"clip_encoder": "onnx:elsewhere"}, 4, 0)
    assert again.digest == emoji.digest
    assert again.encoder == emoji.encoder
    assert load_units(None, {}, 3, 0).digest != emoji.digest


def test_baselines_name_colours_and_planted_concepts(emoji: UnitData) -> None:
    found = baselines(emoji.cases)
    assert set(found) == {"clip_dissect", "net_dissect"}
    for texts in found.values():
        right = [text in (case.truth or ()) for text, case in zip(texts, emoji.cases, strict=True)]
        assert sum(right[4:]) >= 8  # of eleven: of 300 scenes few show a rare object
    assert baselines(load_units("units:own", PARAMS, None, 0).cases) == {}


def test_own_units_are_those_of_the_version() -> None:
    assert own_ranges(PARAMS) == {"a": [(0, 2), (5, 5)], "b": [(1, 1)]}
    own = load_units("units:own", PARAMS, None, 0)
    assert [case.key for case in own.cases] == ["a:0", "a:1", "a:2", "a:5", "b:1"]
    assert {case.label for case in own.cases} == {"a", "b"}
    assert own.title == "units of zoo:scenes"
    assert len(load_units("units:own", PARAMS, 3, 0)) == 3
    greedy = load_units("units:own", PARAMS | {"strategy": "greedy"}, None, 0)
    assert greedy.digest == own.digest  # the same units, asked otherwise
    assert load_units("units:own", PARAMS | {"model": "zoo:scenes-spurious"}, None, 0).digest != own.digest


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("zoo:emoji", None, "unknown data 'zoo:emoji'; expected one of zoo:emoji-units, milannotations:ROOT#KEY"),
        ("milannotations:", None, "unknown data 'milannotations:'"),
        ("milannotations:root", None, "milannotations:ROOT#KEY needs a key after #, got milannotations:root"),
        ("units:own", 0, "size must be at least 1 unit, got 0"),
    ],
)
def test_data_that_there_is_not(name: str, size: int | None, message: str) -> None:
    with pytest.raises(InputError) as refused:
        load_units(name, PARAMS, size, 0)
    assert message in str(refused.value)


def test_annotated_units_in_the_published_layout(tmp_path: Path) -> None:
    folder = tmp_path / "alexnet" / "places365"
    (folder / "conv1").mkdir(parents=True)
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (3, 2, 1, 32, 32)).astype(np.uint8)
    images = rng.integers(0, 256, (3, 2, 3, 32, 32)).astype(np.uint8)
    np.save(folder / "conv1" / "masks.npy", masks)
    np.save(folder / "conv1" / "images.npy", images)
    np.savetxt(folder / "conv1" / "ids.csv", np.zeros((3, 2)), "%d", ",")
    with (folder / "annotations.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["layer", "unit", "summary"])
        writer.writerows([["conv1", unit, f"text {number}"] for unit in (0, 2) for number in range(3)])
    data = load_units(f"milannotations:{tmp_path}#alexnet/places365", PARAMS | {"clip_encoder": "onnx:x"}, None, 0)
    assert [case.key for case in data.cases] == ["conv1:0", "conv1:2"]
    assert data.cases[1].references == ("text 0", "text 1", "text 2")
    assert np.array_equal(data.cases[1].images, images[2])
    assert (data.cases[1].truth, data.encoder) == (None, "onnx:x")
    assert baselines(data.cases) == {}
    assert len(load_units(f"milannotations:{tmp_path}#alexnet/places365", PARAMS, 1, 0)) == 1
