"""Data to evaluate on: read as documented, refused by file and line, identified by content."""

import io
import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100, CelebA, ImageNet

from conceptry.evaluation.data import LabelledImage
from conceptry.evaluation.harness import evaluation_of
from conceptry.evaluation.isolation.client import VersionProcess
from conceptry.evaluation.splice.data import load_images, table_images, without
from conceptry.evaluation.splice.harness import load_data
from conceptry.models.errors import InputError
from conceptry.models.images import png_bytes


@pytest.fixture
def folder(tmp_path: Path, picture: Image.Image) -> Path:
    for label, count in (("cat", 2), ("dog", 3)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(count):
            picture.rotate(10 * i).save(tmp_path / "data" / label / f"{i}.png")
    return tmp_path / "data"


def test_the_folder_of_a_picture_is_its_label(folder: Path) -> None:
    data = load_images(f"folder:{folder}")
    assert [picture.label for picture in data.images] == ["cat"] * 2 + ["dog"] * 3
    assert [p.label for p in load_images(f"folder:{folder / 'cat'}").images] == [None, None]
    assert len(load_images(f"folder:{folder}", size=3)) == 3
    assert load_images(f"folder:{folder}", size=3).digest == load_images(f"folder:{folder}", size=3).digest
    assert load_images(f"folder:{folder}", size=3, seed=1).digest != load_images(f"folder:{folder}", size=3).digest


def test_a_changed_pixel_or_word_changes_the_digest(folder: Path, picture: Image.Image) -> None:
    before = load_images(f"folder:{folder}").digest
    picture.rotate(1).save(folder / "cat" / "0.png")
    assert load_images(f"folder:{folder}").digest != before
    row = {"image": png_bytes(picture), "caption": "a dog"}
    digests = {
        table_images(pd.DataFrame([row | {"caption": c}]), None, "x").digest for c in ("a dog", "a cat", "a dog")
    }
    assert len(digests) == 2


def test_a_table_of_pictures(folder: Path) -> None:
    table = folder / "table.csv"
    table.write_text('image,caption,concepts\ncat/0.png,"a cat, red","cat; red"\ndog/1.png,,\n')
    first, second = load_images(f"csv:{table}").images
    assert (first.caption, first.concepts) == ("a cat, red", {"concepts": ("cat", "red")})
    assert (second.caption, second.label, second.concepts) == (None, None, {})
    table.write_text("image,caption\ncat/0.png,a\ncat/9.png,b\n")
    with pytest.raises(InputError, match=r"table\.csv, line 3: no picture at 'cat/9\.png'"):
        load_images(f"csv:{table}")
    table.write_bytes("image,caption\ncat/0.png,un été\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"table\.csv: expected UTF-8 text, byte 27 is not; save it as UTF-8"):
        load_images(f"csv:{table}")
    table.write_text("picture\nx\n")
    with pytest.raises(InputError, match="expected the columns image and any of label, caption, concepts; got picture"):
        load_images(f"csv:{table}")


def test_scenes_carry_what_is_known_of_them() -> None:
    data = load_images("zoo:emoji-scenes", size=6)
    singles, pairs = data.images[:3], data.images[3:]
    assert all(p.label == p.concepts["objects"][0] and p.caption is None for p in singles)
    assert all(p.label is None and len(p.concepts["objects"]) == 2 and p.caption for p in pairs)
    assert load_images("zoo:emoji-scenes", size=6).digest == data.digest


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        (
            "imagenet",
            None,
            "unknown data 'imagenet'; expected one of zoo:emoji-scenes, zoo:emoji-spurious",
        ),
        ("folder:/no/such", None, "no such folder"),
        ("csv:/no/such.csv", None, "no such file"),
        ("zoo:emoji-scenes", 1, "size must be at least 2"),
    ],
)
def test_unknown_data_is_refused(name: str, size: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_images(name, size)


def test_tables_in_memory_name_the_row(picture: Image.Image) -> None:
    good = png_bytes(picture)
    data = table_images(pd.DataFrame({"image": [good, good], "concepts": ["a;b", None]}), ["x", "y"], "mine")
    assert [p.label for p in data.images] == ["x", "y"]
    assert data.images[0].concepts == {"concepts": ("a", "b")}
    with pytest.raises(InputError, match="row 1, column 'image': expected bytes or the path"):
        table_images(pd.DataFrame({"image": [good, "/no/such.png"]}), None, "mine")
    with pytest.raises(InputError, match="expected a column image, got pixels"):
        table_images(pd.DataFrame({"pixels": [1]}), None, "mine")


# ---- CIFAR and ImageNet in torchvision's layouts, made up here as torchvision itself reads them

CLASSES = ("plane", "frog", "deer")


def batch(seed: int, count: int, key: str) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "data": rng.integers(0, 256, (count, 3072)).astype(np.uint8),
        key: rng.integers(0, len(CLASSES), count).tolist(),
        "filenames": [f"{i}.png" for i in range(count)],
    }


def write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol=2))  # that of the published files


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both data sets in small, which torchvision reads once its checksums are out of the way."""
    ten, hundred = tmp_path / CIFAR10.base_folder, tmp_path / CIFAR100.base_folder
    for i, (name, _) in enumerate(CIFAR10.train_list + CIFAR10.test_list):
        write(ten / name, batch(i, 6, "labels"))
    write(ten / "batches.meta", {"label_names": list(CLASSES), "num_vis": 3072})
    for i, name in enumerate(("train", "test")):
        write(hundred / name, batch(i + 10, 7, "fine_labels") | {"coarse_labels": [0] * 7})
    write(hundred / "meta", {"fine_label_names": list(CLASSES), "coarse_label_names": ["thing"]})
    for kind in (CIFAR10, CIFAR100):
        monkeypatch.setattr(kind, "_check_integrity", lambda self: True)
        monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5: True)
    return tmp_path


def pixels(image: LabelledImage) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.content())))


@pytest.mark.parametrize(("scheme", "kind"), [("cifar10", CIFAR10), ("cifar100", CIFAR100)])
@pytest.mark.parametrize("split", ["", "#train"])
def test_cifar_is_what_torchvision_reads(cifar: Path, scheme: str, kind: type, split: str) -> None:
    data = load_images(f"{scheme}:{cifar}{split}")
    expected = kind(cifar, train=bool(split))
    assert len(data) == len(expected)
    for picture, (image, label) in zip(data.images, expected, strict=True):
        np.testing.assert_array_equal(pixels(picture), np.asarray(image))
        assert picture.label == expected.classes[label]
    drawn = load_images(f"{scheme}:{cifar}{split}", size=4, seed=1)
    assert len(drawn) == 4
    assert {pixels(p).tobytes() for p in drawn.images} <= {pixels(p).tobytes() for p in data.images}


def test_a_class_goes_by_its_name_or_its_number(cifar: Path) -> None:
    data = load_images(f"cifar10:{cifar}")
    assert [data.label_of(label) for label in ("2", "deer", None, "3", "²")] == ["deer", "deer", None, "3", "²"]
    data.check_label("1")
    with pytest.raises(InputError, match="'3' is not one of the 3 labels of cifar10:"):
        data.check_label("3")


def test_a_summary_of_a_class_by_its_number(cifar: Path, tiny_version) -> None:
    data, evaluation = load_images(f"cifar10:{cifar}"), evaluation_of("splice")
    with VersionProcess(tiny_version.uri, "cpu") as predict:
        by_number = evaluation.summarise(predict, data, "1", lambda *_: None)
        assert by_number == evaluation.summarise(predict, data, "frog", lambda *_: None)
    assert (by_number["label"], by_number["count"]) == ("frog", sum(p.label == "frog" for p in data.images))


def test_what_is_no_cifar_is_refused_and_runs_nothing(cifar: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    with pytest.raises(
        InputError, match=r"nowhere/cifar-10-batches-py/batches\.meta: no such file; ROOT is the folder"
    ):
        load_images("cifar10:nowhere")

    class Forged:  # bytes as the addresses of Python objects
        def __reduce__(self):
            return (np.ndarray, ((1,), np.dtype("O"), b"A" * 8))

    file = cifar / "cifar-10-batches-py" / "test_batch"
    for content, sentence in (
        ({"data": Evil()}, r"test_batch: is no file of CIFAR \(UnpicklingError\)"),
        ([1], "test_batch: is no file of CIFAR"),
        (
            batch(0, 3, "fine_labels"),
            "cifar-10-batches-py: its files are not those of CIFAR; download the data set again",
        ),
        (batch(0, 3, "labels") | {"labels": [0]}, "its files are not those of CIFAR"),
        (batch(0, 3, "labels") | {"data": Forged()}, r"test_batch: is no file of CIFAR \(TypeError\)"),
        (batch(0, 3, "labels") | {"labels": [0, 9, 1]}, "its files are not those of CIFAR"),
    ):
        write(file, content)
        with pytest.raises(InputError, match=sentence):
            load_images(f"cifar10:{cifar}")
    file.write_bytes(b"not a pickle")
    with pytest.raises(InputError, match="test_batch: is no file of CIFAR"):
        load_images(f"cifar10:{cifar}")
    assert not (tmp_path / "executed").exists()
    with pytest.raises(InputError, match="after # comes train, for the training images, or nothing at all"):
        load_images(f"cifar10:{cifar}#test")
    with pytest.raises(InputError, match="size must be at least 2 pictures, got 1"):
        load_images(f"cifar10:{cifar}", size=1)
    with pytest.raises(
        InputError, match=r"unknown data 'cifr10:x'; expected one of zoo:.*, cifar10:ROOT, cifar100:ROOT"
    ):
        load_images("cifr10:x")


@pytest.fixture
def imagenet(tmp_path: Path, picture: Image.Image) -> Path:
    names = {
        "n01": ("tench", "Tinca tinca"),
        "n02": ("crane",),
        "n03": ("crane",),
        "n04": ("kit fox", "Vulpes macrotis"),
    }
    torch.save((names, ["n01", "n02"]), tmp_path / "meta.bin")
    for split in ("val", "train"):
        for i, wnid in enumerate(names):
            (tmp_path / split / wnid).mkdir(parents=True)
            for j in range(2):
                picture.rotate(10 * i + j + 40 * (split == "val")).save(tmp_path / split / wnid / f"{wnid}_{j}.JPEG")
    return tmp_path


@pytest.mark.parametrize(("suffix", "split"), [("", "val"), ("#train", "train")])
def test_imagenet_is_what_torchvision_reads(imagenet: Path, suffix: str, split: str) -> None:
    data = load_images(f"imagenet:{imagenet}{suffix}")
    expected = ImageNet(imagenet, split)
    assert len(data) == len(expected) == 8
    for picture, (image, label) in zip(data.images, expected, strict=True):
        np.testing.assert_array_equal(pixels(picture), np.asarray(image))
        assert str(picture.label).startswith(expected.classes[label][0])
        assert data.label_of(str(label)) == picture.label
    assert list(dict.fromkeys(p.label for p in data.images)) == ["tench", "crane (n02)", "crane (n03)", "kit fox"]


def test_what_is_no_imagenet_is_refused(imagenet: Path, picture: Image.Image) -> None:
    (imagenet / "val" / "n99").mkdir()
    picture.save(imagenet / "val" / "n99" / "a.png")
    with pytest.raises(InputError, match=r"n99/a\.png: lies in no folder of a class that .*meta\.bin names"):
        load_images(f"imagenet:{imagenet}")
    (imagenet / "meta.bin").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"meta\.bin: is no meta\.bin of torchvision's ImageNet"):
        load_images(f"imagenet:{imagenet}")
    (imagenet / "meta.bin").unlink()
    with pytest.raises(InputError, match=r"meta\.bin: no such file; torchvision.* folder:.*/val labels the images by"):
        load_images(f"imagenet:{imagenet}")


@pytest.fixture
def celeba(tmp_path: Path, picture: Image.Image) -> Path:
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i:06d}.jpg" for i in range(1, 7)]
    for i, name in enumerate(names):
        picture.rotate(10 * i).save(folder / "img_align_celeba" / name)
    rows = [f"{name} {1 if i % 2 else -1:2d} {1 if i > 2 else -1:2d}" for i, name in enumerate(names)]
    (folder / "list_attr_celeba.txt").write_text("6\nBlond_Hair Male\n" + "\n".join(rows) + "\n")
    (folder / "list_eval_partition.txt").write_text("".join(f"{name} {i % 3}\n" for i, name in enumerate(names)))
    for name, values in (
        ("identity_CelebA", "1"),
        ("list_bbox_celeba", "1 2 3 4"),
        ("list_landmarks_align_celeba", "1"),
    ):
        header = {"identity_CelebA": "", "list_landmarks_align_celeba": "6\nx\n"}.get(name, "6\nname x y w h\n")
        (folder / f"{name}.txt").write_text(header + "".join(f"{each} {values}\n" for each in names))
    return tmp_path


@pytest.mark.parametrize(("suffix", "split"), [("", "test"), ("#train", "train"), ("#train,Blond_Hair", "train")])
def test_celeba_is_what_torchvision_reads(celeba: Path, monkeypatch, suffix: str, split: str) -> None:
    monkeypatch.setattr(CelebA, "_check_integrity", lambda self: True)  # of the whole data set
    expected = CelebA(str(celeba), split)
    data = load_images(f"celeba:{celeba}{suffix}")
    assert len(data) == len(expected) == 2
    word = "blond hair" if "Blond" in suffix else "male"
    for image, (shown, attributes) in zip(data.images, expected, strict=True):
        np.testing.assert_array_equal(pixels(image), np.asarray(shown))
        words = [
            name.replace("_", " ").lower() for name, has in zip(expected.attr_names, attributes, strict=False) if has
        ]
        assert list(image.concepts["attributes"]) == words
        assert image.label == (word if word in words else f"not {word}")


def test_what_is_no_celeba_is_refused(celeba: Path) -> None:
    with pytest.raises(InputError, match="'Blonde_Hair' is not one of the 2 attributes of CelebA; near: Blond_Hair"):
        load_images(f"celeba:{celeba}#Blonde_Hair")
    (celeba / "celeba" / "img_align_celeba" / "000003.jpg").unlink()
    with pytest.raises(InputError, match=r"000003\.jpg: no such file, but the data set lists it"):
        load_images(f"celeba:{celeba}")
    with pytest.raises(InputError, match="ROOT is the folder that torchvision downloads CelebA into"):
        load_images(f"celeba:{celeba / 'celeba'}")


def test_waterbirds_as_published(tmp_path: Path, picture: Image.Image) -> None:
    folder = tmp_path / "waterbird_complete95_forest2water2"
    (folder / "001.Albatross").mkdir(parents=True)
    rows = []
    for i in range(4):
        picture.rotate(10 * i).save(folder / "001.Albatross" / f"{i}.jpg")
        rows.append(f"{i},001.Albatross/{i}.jpg,{i % 2},{2 * (i > 0)},{int(i < 3)},/l/lake.jpg")
    table = folder / "metadata.csv"
    table.write_text("img_id,img_filename,y,split,place,place_filename\n" + "\n".join(rows) + "\n")
    data = load_images(f"waterbirds:{tmp_path}")
    assert [(i.label, i.concepts["place"]) for i in data.images] == [
        ("waterbird", ("water",)),
        ("landbird", ("water",)),
        ("waterbird", ("land",)),
    ]
    assert [i.label for i in load_images(f"waterbirds:{folder}#train", size=2).images] == ["landbird"]
    outside = f"{os.pardir}/elsewhere.jpg"
    table.write_text(f"img_id,img_filename,y,split,place\n0,{outside},0,2,0\n1,a,0,2,0\n")
    with pytest.raises(InputError, match=re.escape(f"{outside!r} lies outside of it")):
        load_images(f"waterbirds:{folder}")
    table.write_text("img_id,img_filename,y,split,place\n0,a,0,0,0\n")
    with pytest.raises(InputError, match="holds no pictures"):
        load_images(f"waterbirds:{folder}")
    table.write_text("img_id,img_filename,y\n")
    with pytest.raises(InputError, match="expected the columns of Waterbirds, place, split among them"):
        load_images(f"waterbirds:{folder}")


def test_coco_has_all_captions_of_a_picture(tmp_path: Path, picture: Image.Image) -> None:
    (tmp_path / "val2017").mkdir()
    (tmp_path / "annotations").mkdir()
    for i in range(2):
        picture.rotate(10 * i).save(tmp_path / "val2017" / f"{i}.jpg")
    captions = [(1, "a dog"), (0, "a cat\n"), (1, "a  dog again"), (0, "two cats")]
    record = {
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(2)],
        "annotations": [{"id": k, "image_id": i, "caption": text} for k, (i, text) in enumerate(captions)],
    }
    file = tmp_path / "annotations" / "captions_val2017.json"
    file.write_text(json.dumps(record))
    assert [image.captions for image in load_images(f"coco:{tmp_path}").images] == [
        ("a cat", "two cats"),
        ("a dog", "a dog again"),
    ]
    file.write_text(json.dumps({"images": [{"id": 0}], "annotations": []}))
    with pytest.raises(InputError, match=r"captions_val2017\.json: are no captions of COCO"):
        load_images(f"coco:{tmp_path}")


def test_words_are_suppressed_by_the_name_of_the_data() -> None:
    name = without("zoo:emoji-spurious#train", ["red", "ice cream, cold"])
    data = load_images(without(name, ["red", "blue"]), size=2)
    assert data.suppressed == ("red", "ice cream, cold", "blue")
    assert without("zoo:emoji-spurious", []) == "zoo:emoji-spurious"
    assert load_images("zoo:emoji-spurious#train", size=2).digest != data.digest
    asked: list[dict] = []
    predict = data.through(lambda rows, params=None: asked.append(params))  # type: ignore[arg-type]
    predict(pd.DataFrame(), {"suppress": ["tree"], "top_k": 5})
    assert asked == [{"suppress": ["red", "ice cream, cold", "blue", "tree"], "top_k": 5}]
    with pytest.raises(InputError, match="after # comes train, for scenes to train on, or nothing at all"):
        load_images("zoo:emoji-spurious#test")


def test_spurious_scenes_mislead_where_they_are_measured() -> None:
    from conceptry.models.zoo.emoji_world.scenes import OWN_COLOUR

    for name, agrees in (("zoo:emoji-spurious", False), ("zoo:emoji-spurious#train", True)):
        for image in load_images(name, size=20).images:
            assert image.label is not None
            assert (OWN_COLOUR[image.label] == image.concepts["colour"][0]) == agrees


def test_photographs_are_asked_for_by_name() -> None:
    with pytest.raises(InputError, match="no labelled photographs ship with conceptry: name some of yours, as folder"):
        load_data(None, {"encoder": "zoo:photos"}, None, 0)
