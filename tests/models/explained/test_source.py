"""The options that say which model is explained: classes and preprocessing of the user's own checkpoint."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from conceptry.models.errors import InputError
from conceptry.models.explained import read_explained
from conceptry.models.explained.source import ExplainedSource, read_classes

CPU = torch.device("cpu")
HALF = "0.5,0.5,0.5"
IMAGE = np.random.default_rng(0).integers(0, 256, (1, 48, 48, 3), np.uint8)


def source(checkpoint: Path, **options: str) -> ExplainedSource:
    return ExplainedSource(f"torchvision:squeezenet1_1@{checkpoint}", **options)


def outputs_of(checkpoint: Path, mean: float, std: float) -> np.ndarray:
    from torchvision.models import squeezenet1_1

    network = squeezenet1_1(num_classes=3).eval()
    network.load_state_dict(torch.load(checkpoint, weights_only=True))
    with torch.no_grad():
        return network((torch.from_numpy(IMAGE).permute(0, 3, 1, 2).float() / 255 - mean) / std).numpy()


def test_a_checkpoint_is_asked_for_its_preprocessing(checkpoint: Path) -> None:
    sentence = (
        r"mine\.pth: the file says nothing of preprocessing: that of torchvision:squeezenet1_1@IMAGENET1K_V1 would be "
        r"taken .*; give image_size, mean and std as they were in its training, or preprocessing=imagenet for these"
    )
    for options in ({}, {"image_size": "48"}, {"mean": HALF, "std": HALF}):
        with pytest.raises(InputError, match=sentence):
            source(checkpoint, **options).load(CPU)


def test_its_own_preprocessing_gives_what_the_network_says(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for name in ("owl", "cat", "dog", ".thumbnails"):
        (tmp_path / "train" / name).mkdir()
    options = {"image_size": "48", "mean": HALF, "std": HALF, "classes": str(tmp_path / "train")}
    model = source(checkpoint, **options).load(CPU)
    np.testing.assert_allclose(model(IMAGE), outputs_of(checkpoint, 0.5, 0.5), rtol=1e-4, atol=1e-5)
    assert model.classes == ("cat", "dog", "owl")
    assert not model.notes
    model.save(tmp_path / "saved")
    again = read_explained(tmp_path / "saved", "cpu")
    np.testing.assert_array_equal(again(IMAGE), model(IMAGE))
    assert again.classes == model.classes


def test_that_of_imagenet_is_said_to_be_taken(checkpoint: Path) -> None:
    model = source(checkpoint, preprocessing="imagenet").load(CPU)
    assert "that of torchvision:squeezenet1_1@IMAGENET1K_V1 is taken" in model.notes[0]
    assert model.size == (224, 224)
    with pytest.raises(InputError, match=r"zoo:digits: brings its own preprocessing; leave preprocessing out"):
        ExplainedSource("zoo:digits", preprocessing="imagenet").load(CPU)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"image_size": "big"}, "image_size must be SIDE or HEIGHTxWIDTH, such as 224 or 224x192, got 'big'"),
        ({"image_size": "0"}, r"size must be \(height, width\) or one number for both, got \(0, 0\)"),
        ({"mean": "a"}, "mean must be numbers separated by commas, such as .5,.5,.5, got 'a'"),
        ({"mean": HALF}, "mean and std must be one number for each channel, and std above 0"),
        ({"mean": ".5", "std": ".5"}, "expected 3 numbers in mean and std, got 1"),
        ({"classes": "nowhere.txt"}, "classes: nowhere.txt: no such file or folder"),
    ],
)
def test_what_is_no_preprocessing_is_named(checkpoint: Path, options: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        source(checkpoint, **options).load(CPU)


def test_names_of_classes_from_files(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfcat\r\n\r\n dog \r\n")
    (tmp_path / "list.json").write_text(json.dumps(["cat", "dog"]))
    (tmp_path / "labels.json").write_text(json.dumps({"1": "dog", "0": "cat"}))
    for name in ("names.txt", "list.json", "labels.json"):
        assert read_classes(tmp_path / name) == ["cat", "dog"]
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "latin.txt").write_bytes("été".encode("latin-1"))
    (tmp_path / "object.json").write_text(json.dumps({"cat": 0}))
    for name, sentence in (
        ("empty.txt", "empty.txt: holds no names"),
        ("latin.txt", "latin.txt: .*expected UTF-8 text"),
        ("object.json", "expected a JSON list of names, or an object of numbers and names"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_classes(tmp_path / name)


def test_a_model_that_names_its_classes_itself_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match="zoo:wine: brings its own classes; leave it out"):
        ExplainedSource("zoo:wine", classes=str(tmp_path / "two.txt")).load(CPU)
