"""MILANNOTATIONS from generated files in the published layout, every quirk of them, every sentence."""

import csv

import numpy as np
import pytest
from PIL import Image

from conceptry.models.errors import InputError
from conceptry.models.milan.annotations.annotations import (
    BASE,
    GROUPS,
    KEYS,
    load_annotations,
    networks_of,
    read_captions,
)
from conceptry.models.milan.annotations.layers import ImageFolder, centre_crop

K, SIDE = 3, 32


def write_annotations(directory, rows):
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "annotations.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["worker", "layer", "unit", "summary"])
        writer.writerows([["A1", *row] for row in rows])


def write_layer(directory, rng, n_units=2, images=True, units=None, n_pictures=4):
    directory.mkdir(parents=True, exist_ok=True)
    masks = rng.integers(0, 2, (n_units, K, 1, SIDE, SIDE)).astype(np.uint8)
    ids = rng.integers(0, n_pictures, (n_units, K))
    np.save(directory / "masks.npy", masks)
    np.savetxt(directory / "ids.csv", ids, "%d", ",")
    pictures = rng.integers(0, 256, (n_units, K, 3, SIDE, SIDE)).astype(np.uint8)
    if images:
        np.save(directory / "images.npy", pictures)
    if units is not None:
        np.save(directory / "units.npy", np.array(units))
    return pictures, masks, ids


def three(layer, unit, *texts):
    return [[layer, unit, text] for text in (texts or (f"a {layer}", f"b {unit}", "c"))]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def places(tmp_path, rng):
    """alexnet/places365 with two layers, of which one is named by digits."""
    root = tmp_path / "alexnet" / "places365"
    first = write_layer(root / "0", rng)
    second = write_layer(root / "conv1", rng, n_units=3, units=[7, 2, 40])
    write_annotations(root, [*three("conv1", 40), *three("0", 1), *three("conv1", 2), ["conv1", 7, "one only"]])
    return tmp_path, first, second


def test_keys_and_groups():
    assert len(KEYS) == 7
    assert networks_of("base") == BASE
    assert networks_of("cls") == tuple(k for k in BASE if "biggan" not in k)
    assert networks_of("gen") == ("biggan/imagenet", "biggan/places365")
    assert networks_of("imagenet") == ("alexnet/imagenet", "resnet152/imagenet", "biggan/imagenet")
    assert networks_of("resnet152") == ("resnet152/imagenet", "resnet152/places365")
    assert set(networks_of("not-alexnet-imagenet")) == set(BASE) - {"alexnet/imagenet"}
    assert sum(name.startswith("not-") for name in GROUPS) == 6
    assert networks_of("dino_vits8/imagenet, gen")[0] == "dino_vits8/imagenet"
    assert not any("dino" in key for keys in GROUPS.values() for key in keys)
    with pytest.raises(InputError, match="no 'alexnet/imagnet'; expected one such as alexnet/imagenet"):
        networks_of("alexnet/imagnet")
    with pytest.raises(InputError, match="names alexnet/imagenet twice"):
        networks_of("alexnet, imagenet")


def test_units_are_what_the_files_hold(places):
    root, (images, masks, ids), (other_images, _, _) = places
    units = load_annotations(root, "alexnet/places365")
    assert [(u.exemplars.layer, u.exemplars.unit) for u in units] == [("0", 1), ("conv1", 2), ("conv1", 40)]
    assert units[0].captions == ("a 0", "b 1", "c")
    assert units[0].network == "alexnet/places365"
    assert np.array_equal(units[0].exemplars.images, images[1])
    assert np.array_equal(units[0].exemplars.masks, masks[1])
    assert np.array_equal(units[0].exemplars.ids, ids[1])
    # units.npy: unit 2 is in row 1, which is not row 2
    assert np.array_equal(units.lookup("conv1", 2).exemplars.images, other_images[1])
    assert units.captions == [u.captions for u in units]
    assert (units.n_left_out, units.notes) == (2, ())
    assert [u.exemplars.unit for u in units[1:]] == [2, 40]
    assert units[-1].exemplars.unit == 40


def test_layers_named_by_digits_are_found_by_text_and_number(places):
    units = load_annotations(places[0], "alexnet/places365")
    assert units.lookup(0, 1).captions == units.lookup("0", 1).captions == ("a 0", "b 1", "c")


@pytest.mark.parametrize(
    ("layer", "unit", "network", "message"),
    [
        ("conv2", 2, None, "alexnet/places365: has no layer 'conv2'; expected one such as conv1"),
        ("conv1", 7, None, "unit 7 of layer conv1 has fewer than 3 annotations"),
        ("conv1", 0, None, "unit 0 of layer conv1 has no exemplars"),
        ("conv1", 2, "biggan/imagenet", "'biggan/imagenet' is not loaded; expected one of alexnet/places365"),
    ],
)
def test_units_that_are_not_there(places, layer, unit, network, message):
    with pytest.raises(InputError, match=message):
        load_annotations(places[0], "alexnet/places365").lookup(layer, unit, network)


def test_groups_join_networks(places, rng):
    root = places[0]
    for key in ("alexnet/imagenet",):
        write_layer(root / key / "conv1", rng)
        write_annotations(root / key, three("conv1", 0))
    units = load_annotations(root, "alexnet")
    assert [u.network for u in units] == ["alexnet/imagenet"] + 3 * ["alexnet/places365"]
    assert units.lookup("conv1", 0, "alexnet/imagenet").network == "alexnet/imagenet"
    with pytest.raises(InputError, match="several networks are loaded; name one: alexnet/imagenet, alexnet/places365"):
        units.lookup("conv1", 0)


def test_captions_empty_and_surplus(tmp_path):
    rows = [["1", "3", " Dogs. "], ["1", "3", ""], ["1", "3", "cats"], ["1", "3", "x, y"], ["1", "3", "fourth"]]
    write_annotations(tmp_path, rows)
    assert read_captions(tmp_path / "annotations.csv") == {("1", 3): ("Dogs.", "cats", "x, y")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "layer,unit,text\nconv1,1,a\n",
            "lacks the column summary; expected layer, unit, summary, got layer, unit, text",
        ),
        ("", "lacks the column layer; expected layer, unit, summary, got none"),
        ("layer,unit,summary\nconv1,one,a\n", "line 2: expected a layer and a unit's number, got 'conv1' and 'one'"),
        ("layer,unit,summary\nconv1,1,a\n,1,a\n", "line 3: expected a layer and a unit's number, got '' and '1'"),
        ("layer,unit,summary\nconv1\n", "line 2: expected a layer and a unit's number, got 'conv1' and ''"),
    ],
)
def test_annotations_of_another_layout(tmp_path, content, message):
    (tmp_path / "annotations.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_captions(tmp_path / "annotations.csv")


def test_what_is_missing_is_named_with_where_it_goes(tmp_path, rng):
    with pytest.raises(InputError, match=r"biggan/places365: no such folder; get biggan-places365.zip from .* there"):
        load_annotations(tmp_path, "biggan/places365")
    (tmp_path / "biggan-places365.zip").touch()
    with pytest.raises(InputError, match=r"no such folder; unzip .*biggan-places365.zip there"):
        load_annotations(tmp_path, "biggan/places365")
    (tmp_path / "biggan-places365.zip").unlink()
    flat = tmp_path / "biggan-places365"
    write_annotations(flat, three("layer0", 0))
    with pytest.raises(InputError, match=r"biggan-places365 holds it, rename that to biggan/places365"):
        load_annotations(tmp_path, "biggan/places365")
    write_layer(flat / "layer0", rng)
    (tmp_path / "biggan" / "places365").mkdir(parents=True)
    flat.rename(tmp_path / "biggan" / "places365" / "inner")
    with pytest.raises(InputError, match=r"holds no layers; .* what lies in .*inner belongs there"):
        load_annotations(tmp_path, "biggan/places365")
    write_layer(tmp_path / "biggan" / "places365" / "layer0", rng)
    with pytest.raises(InputError, match=r"annotations.csv: no such file; expected the columns layer, unit, summary"):
        load_annotations(tmp_path, "biggan/places365")


def test_layers_that_do_not_match_and_units_without_exemplars(places):
    root = places[0]
    write_annotations(root / "alexnet/places365", [*three("0", 1), *three("conv1.0", 2)])
    with pytest.raises(InputError, match=r"describes the layer 'conv1.0', for which there is no folder; .* conv1"):
        load_annotations(root, "alexnet/places365")
    write_annotations(root / "alexnet/places365", [*three("0", 1), *three("conv1", 3), *three("0", 9)])
    units = load_annotations(root, "alexnet/places365")
    assert len(units) == 1
    assert units.notes == ("alexnet/places365: 2 annotated units have no exemplars, such as unit 3 of layer conv1",)
    write_annotations(root / "alexnet/places365", [["0", 1, "a"]])
    with pytest.raises(InputError, match="alexnet/places365: no unit has 3 annotations"):
        load_annotations(root, "alexnet/places365")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "masks.npy",
            np.zeros((2, K, SIDE, SIDE), np.uint8),
            r"masks.npy: expected uint8 \(units, .* \(2, 3",
        ),
        ("masks.npy", np.zeros((2, K, 1, SIDE, SIDE)), "masks.npy: expected uint8 .* got float64"),
        ("images.npy", np.zeros((2, K, 3, SIDE, 8), np.uint8), r"images.npy: expected uint8 \(2, 3, 3, 32, 32\)"),
        ("images.npy", np.zeros((2, K, 3, SIDE, SIDE), np.float32), "holds float32, as the original code leaves"),
        ("images.npy", np.zeros((2, K, 3, SIDE, SIDE)), "images.npy: expected uint8 .* got float64"),
        ("units.npy", np.array([1, 1]), "units.npy: expected 2 different whole numbers"),
        ("units.npy", np.array([1, 2, 3]), "units.npy: expected 2 different whole numbers"),
        ("masks.npy", np.array([{}], dtype=object), "masks.npy: is no array that can be read"),
    ],
)
def test_arrays_of_other_shapes_and_types(places, name, array, message):
    np.save(places[0] / "alexnet/places365/0" / name, array)
    with pytest.raises(InputError, match=message):
        load_annotations(places[0], "alexnet/places365")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1,2\n", r"has 1 rows of 3 ids; expected 2 rows of 3"),
        ("0,1,2\n0,1\n", r"has 2 rows of 2 ids; expected 2 rows of 3"),
        ("a,b,c\n0,1,2\n", "'a' is no id; expected whole numbers without a header"),
        ("-1,0,0\n0,1,2\n", "'-1' is no id"),
    ],
)
def test_ids_of_another_layout(places, text, message):
    (places[0] / "alexnet/places365/0/ids.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        load_annotations(places[0], "alexnet/places365")


@pytest.fixture
def imagenet(tmp_path, rng):
    """Four pictures of two classes, of several sizes; the second lies in a folder of its class."""
    folder = tmp_path / "pictures"
    sizes = {"n01/b.JPEG": (300, 270), "n01/deep/a.png": (256, 400), "n02/a.jpeg": (500, 257), "n02/c.png": (40, 30)}
    for name, (width, height) in sizes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8)).save(folder / name)
    (folder / "n02" / "readme.txt").touch()
    (folder / "synsets.txt").touch()
    return folder


def test_pictures_are_in_the_order_and_under_the_transform_of_torchvision(imagenet):
    import torch
    import torchvision

    theirs = torchvision.datasets.ImageFolder(
        imagenet,
        torchvision.transforms.Compose(
            [
                torchvision.transforms.Resize(256),
                torchvision.transforms.CenterCrop(224),
                lambda image: np.asarray(image),
            ]
        ),
    )
    ours = ImageFolder(imagenet, expected=4)
    assert [str(path) for path in ours] == [path for path, _ in theirs.samples]
    for index in range(4):
        expected = torch.from_numpy(theirs[index][0].copy()).permute(2, 0, 1)
        assert np.array_equal(ours.image(index), expected)
        for size in (32, 224, 100):
            small = torch.nn.functional.interpolate(expected[None], size=(size, size), mode="nearest")[0]
            assert np.array_equal(ours.image(index, (size, size)), small)


@pytest.mark.parametrize("size", [(257, 511), (511, 257), (224, 224), (1000, 999)])
def test_the_centre_is_cut_as_torchvision_cuts_it(size):
    from torchvision.transforms import CenterCrop, Compose, Resize

    image = Image.effect_mandelbrot(size, (-2, -1.5, 1, 1.5), 50).convert("RGB")
    assert np.array_equal(centre_crop(image), Compose([Resize(256), CenterCrop(224)])(image))


def test_pictures_of_imagenet_come_from_the_folder(tmp_path, rng, imagenet):
    root = tmp_path / "alexnet" / "imagenet"
    _, masks, ids = write_layer(root / "conv1", rng, images=False)
    write_annotations(root, three("conv1", 1))
    with pytest.raises(InputError, match=r"conv1: has no images.npy, as pictures of ImageNet are not published"):
        load_annotations(tmp_path, "alexnet/imagenet")
    units = load_annotations(tmp_path, "alexnet/imagenet", imagenet, expected_images=4)
    folder = ImageFolder(imagenet, None)
    assert np.array_equal(units[0].exemplars.images, [folder.image(i, (SIDE, SIDE)) for i in ids[1]])
    assert np.array_equal(units[0].exemplars.masks, masks[1])
    folder[int(ids[1, 0])].write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"n0\d/.*: not a picture"):
        units[0]
    with pytest.raises(InputError, match=r"holds 4 pictures in 2 folders; expected the 50,000 validation pictures"):
        load_annotations(tmp_path, "alexnet/imagenet", imagenet)
    (root / "conv1" / "ids.csv").write_text("0,1,2\n3,4,0\n")
    with pytest.raises(InputError, match=r"ids.csv: names picture 4, but .* holds 4"):
        load_annotations(tmp_path, "alexnet/imagenet", imagenet, expected_images=None)
    (root / "conv1" / "ids.csv").unlink()
    with pytest.raises(InputError, match=r"has neither images.npy nor ids.csv"):
        load_annotations(tmp_path, "alexnet/imagenet", imagenet, expected_images=None)


def test_folders_that_are_not_imagenet(tmp_path, imagenet):
    with pytest.raises(InputError, match="no such folder; expected the validation pictures of ImageNet"):
        ImageFolder(tmp_path / "nowhere")
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.png").touch()
    with pytest.raises(InputError, match="holds no pictures in folders; expected a folder of pictures for each class"):
        ImageFolder(tmp_path / "flat")
    imagenet.rename(tmp_path / "flat" / "val")
    with pytest.raises(InputError, match=r"expected the 50,000 validation pictures .*; try .*flat/val$"):
        ImageFolder(tmp_path / "flat")


def test_pictures_of_places_are_in_the_archive(places):
    (places[0] / "alexnet/places365/0/images.npy").unlink()
    with pytest.raises(InputError, match=r"0: has no images.npy, which its archive holds; unzip that again"):
        load_annotations(places[0], "alexnet/places365")
