"""The units of a registered network: what is stored comes back, each picture once, and the same bytes every time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import colours
from conceptry.models.errors import InputError
from conceptry.models.images import decode_image
from conceptry.models.manifest import files_in
from conceptry.models.milan.exemplars.records import LayerExemplars
from conceptry.models.milan.exemplars.unit_store import ComputedUnits, NetworkUnits, write_units

LAYERS = {layer: colours.exemplars(layer) for layer in colours.UNITS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("units")
    write_units(LAYERS, directory)
    return directory


@pytest.fixture(scope="module")
def units(folder: Path) -> NetworkUnits:
    return NetworkUnits(folder)


def test_all_that_was_stored_comes_back(units: NetworkUnits) -> None:
    assert units.layers == ("first", "7")
    assert units.counts == {"first": 4, "7": 3}
    assert units.numbers("7") == (2, 5, 11)
    for name, layer in LAYERS.items():
        for number in layer.units.tolist():
            expected, found = layer.unit(number), units.unit(name, number)
            assert (found.layer, found.unit) == (name, number)
            for column in ("images", "masks", "ids", "activations"):
                np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
            assert found.images.dtype == found.masks.dtype == np.uint8
            assert units.is_active(name, number) == (not expected.is_inactive)


def test_files_are_the_exemplars_again(units: NetworkUnits) -> None:
    files, expected = units.files("7", 5), LAYERS["7"].unit(5)
    assert expected.ids is not None
    assert expected.activations is not None
    assert files.ids == tuple(expected.ids)
    assert files.activations == tuple(expected.activations)
    for content, image in zip(files.images, expected.images, strict=True):
        np.testing.assert_array_equal(np.moveaxis(np.asarray(decode_image(content)), -1, 0), image)
    for content, mask in zip(files.masks, expected.masks, strict=True):
        np.testing.assert_array_equal(np.asarray(decode_image(content))[..., 0], mask[0] * 255)
    assert units.files("7", 5, with_images=False) == type(files)((), (), files.ids, files.activations)


def test_exemplars_in_arrays_are_a_store_with_the_same_answers(units: NetworkUnits) -> None:
    computed = ComputedUnits(LAYERS)
    assert (computed.layers, computed.counts) == (units.layers, units.counts)
    for layer in units.layers:
        assert computed.numbers(layer) == units.numbers(layer)
        for unit in units.numbers(layer):
            assert computed.is_active(layer, unit) == units.is_active(layer, unit)
            assert computed.files(layer, unit) == units.files(layer, unit)
            assert computed.files(layer, unit, with_images=False) == units.files(layer, unit, with_images=False)
            np.testing.assert_array_equal(computed.unit(layer, unit).masks, units.unit(layer, unit).masks)
    for call in (lambda: computed.check("frist", 0), lambda: computed.files("frist", 0)):
        with pytest.raises(InputError, match="there is no layer 'frist' among these exemplars; expected one such as"):
            call()
    with pytest.raises(InputError, match="layer first has no unit 4; expected 0 to 3"):
        computed.unit("first", 4)


def test_each_picture_is_stored_once(units: NetworkUnits) -> None:
    distinct = {image.tobytes() for layer in LAYERS.values() for unit in layer.images for image in unit}
    assert len(units._image_ends) == len(distinct) < sum(len(layer) * colours.K for layer in LAYERS.values())


def test_equal_exemplars_give_equal_bytes(folder: Path, tmp_path: Path) -> None:
    write_units({name: colours.exemplars(name) for name in LAYERS}, tmp_path)
    for one, other in zip(files_in(folder), files_in(tmp_path), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_unknown_layers_and_units_are_named_with_near_ones(units: NetworkUnits) -> None:
    for layer, unit, sentence in (
        ("frist", 0, "there is no layer 'frist' in this version; expected one such as first$"),
        ("", 0, "there is no layer '' in this version; expected one such as first, 7$"),
        ("first", 4, "layer first has no unit 4; expected 0 to 3$"),
        ("7", 12, "layer 7 has no unit 12; expected one such as 2, 11$"),
        ("7", 10**17, "layer 7 has no unit 100000000000000000; expected one such as"),
    ):
        with pytest.raises(InputError, match=sentence):
            units.check(layer, unit)
    with pytest.raises(InputError, match="no layer 'frist'"):
        units.numbers("frist")


def test_what_is_not_known_is_absent(tmp_path: Path) -> None:
    plain = LAYERS["7"]
    write_units({"a": LayerExemplars("a", plain.units, plain.images, plain.masks, plain.ids)}, tmp_path)
    units = NetworkUnits(tmp_path)
    assert units.unit("a", 2).activations is None
    assert units.files("a", 2).activations == ()


def test_many_threads_read_what_one_reads(units: NetworkUnits) -> None:
    barrier = threading.Barrier(8)
    asked = [(layer, unit) for layer, numbers in colours.UNITS.items() for unit in numbers] * 8

    def read(worker: int) -> bool:
        barrier.wait()
        return all(
            np.array_equal(units.unit(layer, unit).images, LAYERS[layer].unit(unit).images)
            for layer, unit in asked[worker:]
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))


@settings(deadline=None, max_examples=15, derandomize=True)
@given(masks=st.tuples(*[st.integers(1, n) for n in (3, 4, 7, 9)]).flatmap(
    lambda s: arrays(np.uint8, (s[0], s[1], 1, s[2], s[3]), elements=st.sampled_from([0, 1, 255]))
))  # fmt: skip
def test_masks_of_any_size_come_back(tmp_path_factory: pytest.TempPathFactory, masks: np.ndarray) -> None:
    directory = tmp_path_factory.mktemp("masks")
    count, k = masks.shape[:2]
    images = np.repeat(masks, 3, axis=2)
    numbers = np.arange(count)
    write_units({"a": LayerExemplars("a", numbers, images, masks, np.zeros((count, k), np.int64))}, directory)
    units = NetworkUnits(directory)
    for unit in range(count):
        found = units.unit("a", unit)
        np.testing.assert_array_equal(found.masks, (masks[unit] != 0).astype(np.uint8))
        np.testing.assert_array_equal(found.images, images[unit])
        assert units.is_active("a", unit) == masks[unit].any()
