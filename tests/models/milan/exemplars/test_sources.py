"""Where exemplars come from: folders, scenes, data sets of the zoo, any torch data set."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from conceptry.models.errors import InputError
from conceptry.models.milan.exemplars.compute import compute_exemplars
from conceptry.models.milan.exemplars.sources import (
    ArraySource,
    FolderSource,
    SceneSource,
    Source,
    TorchSource,
    open_source,
)
from conceptry.models.milan.settings import ExemplarSettings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, (place, suffix) in enumerate((("cat", "png"), ("cat", "jpg"), ("dog/small", "png"), ("dog", "png"))):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 12), (i * 40, 90, 200)).save(tmp_path / place / f"{i}.{suffix}")
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_a_folder_knows_its_classes(folder: Path) -> None:
    source = open_source(f"folder:{folder}")
    assert isinstance(source, Source)
    assert (len(source), source.classes) == (4, ("cat", "dog", "dog/small"))
    assert source.labels is not None
    assert source.labels.tolist() == [0, 0, 1, 2]
    pictures = source.read_images([3, 0])
    assert [picture[0, 0].tolist() for picture in pictures] == [[80, 90, 200], [0, 90, 200]]
    assert FolderSource(folder / "cat").labels is None
    drawn = open_source(f"folder:{folder}", size=2, seed=3)
    assert len(drawn) == 2
    assert drawn.digest == open_source(f"folder:{folder}", size=2, seed=3).digest != source.digest


def test_a_file_that_is_no_picture_is_named(folder: Path) -> None:
    (folder / "cat" / "bad.png").write_bytes((folder / "cat" / "0.png").read_bytes()[:50])
    with pytest.raises(InputError, match=r"cat/bad.png: the picture cannot be decoded: it is cut off or damaged"):
        compute_exemplars(nn.Sequential(nn.Conv2d(3, 2, 1)), open_source(f"folder:{folder}"), ["0"], settings=SMALL)


def test_pictures_of_different_sizes_need_a_network_that_resizes(folder: Path) -> None:
    Image.new("RGB", (30, 12)).save(folder / "cat" / "wide.png")
    network = nn.Sequential(nn.Conv2d(3, 2, 1))
    source = open_source(f"folder:{folder}")
    with pytest.raises(
        InputError, match=r"mine: folder:.* holds pictures of different sizes, such as 20 x 12 and 30 x 12"
    ):
        compute_exemplars(network, source, ["0"], settings=SMALL, name="mine")


SMALL = ExemplarSettings(k=2, batch_size=2)


def test_folders_that_are_none(tmp_path: Path) -> None:
    for name, sentence in (
        (f"folder:{tmp_path}", "holds no pictures"),
        (f"folder:{tmp_path / 'none'}", "no such folder"),
        ("folder:", "unknown data 'folder:'; expected one of zoo:emoji-scenes"),
        ("photos", "unknown data 'photos'; expected one of zoo:emoji-scenes"),
        ("zoo:wine", "zoo:wine: holds table data, expected pictures; such as zoo:emoji-scenes"),
        ("zoo:none", "unknown data 'none'"),
    ):
        with pytest.raises(InputError, match=sentence):
            open_source(name)
    with pytest.raises(InputError, match="size must be at least 1 picture, got 0"):
        open_source("zoo:emoji-scenes", 0)


def test_scenes_are_held_out_or_not_as_their_name_says() -> None:
    for name, split in (("", "heldout"), ("-train", "train"), ("-colour", "heldout-colour")):
        source = open_source(f"zoo:emoji-scenes{name}", 3, seed=1)
        assert isinstance(source, SceneSource)
        assert (source.scenes.split, len(source)) == (split, 3)
        np.testing.assert_array_equal(source.read_images([2])[0], source.scenes[2].image)
    assert len(open_source("zoo:emoji-scenes")) == 2000


def test_data_sets_of_the_zoo_give_their_heldout_pictures() -> None:
    source = open_source("zoo:digits", 5)
    assert (len(source), len(source.classes)) == (5, 10)
    assert source.labels is not None
    assert len(source.labels) == 5
    assert source.read_images([4])[0].shape == (8, 8, 3)


def test_any_torch_data_set() -> None:
    data = torch.utils.data.TensorDataset(torch.rand(5, 3, 4, 4), torch.arange(5))
    source = TorchSource(data, "mine")
    pictures, numbers = source.items([4, 1])
    assert pictures.shape == (2, 3, 4, 4)
    assert numbers.tolist() == [4, 1]
    assert source.digest == TorchSource(data, "mine").digest
    assert source.digest != TorchSource(data, "other").digest
    assert TorchSource(data, "mine", digest="ab").digest == "ab"
    assert source.to_images((pictures,)).dtype == torch.uint8
    grey = source.to_images((torch.rand(2, 1, 4, 4),))
    assert grey.shape == (2, 3, 4, 4)


def test_torch_data_sets_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="mine: exemplars have numbers, so the data set must have a length"):
        TorchSource(iter([1]), "mine")
    with pytest.raises(InputError, match="mine: mean and std must be given together"):
        TorchSource([1], "mine", mean=(0.5,))
    ragged = TorchSource([torch.rand(3, 4, 4), torch.rand(3, 5, 5)], "mine")
    with pytest.raises(InputError, match="mine: its items do not make a batch: stack expects each tensor"):
        ragged.items([0, 1])
    with pytest.raises(InputError, match=r"its items are not pictures \(n, 3, H, W\), got shape \(2, 7\)"):
        ragged.to_images((torch.rand(2, 7),))
    with pytest.raises(InputError, match=r"noise: pictures must be uint8 \(n, H, W, 3\), got float64 \(2, 3\)"):
        ArraySource("noise", np.zeros((2, 3)))


def test_a_source_is_read_in_order_and_by_threads(folder: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1))
    source = open_source(f"folder:{folder}")
    found = compute_exemplars(network, source, ["0"], settings=SMALL)["0"]
    assert isinstance(source, FolderSource)
    for unit in range(2):
        for place in range(2):
            expected = source.read_images([int(found.ids[unit, place])])[0].transpose(2, 0, 1)
            np.testing.assert_array_equal(found.images[unit, place], expected)
