"""`conceptry exemplars`: from a name and a data set to a folder of results."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conceptry.models.milan.exemplars.records import read_results


def test_scenes(command_line, tmp_path: Path) -> None:
    given = ("exemplars", "zoo:scenes", "--size", "30", "--k", "3", "--output", str(tmp_path), "--device", "cpu")
    code, out, err = command_line(*given, "--layer", "layer4", "--layer", "layer2")
    assert code == 0, err
    assert "layer4: 128 units" in out
    assert "3 images per unit, chosen from the 30 of zoo:emoji-scenes" in out
    directory = tmp_path / "scenes" / "emoji-scenes"
    assert f"saved {directory}" in err
    found = read_results(directory)
    assert list(found) == ["layer2", "layer4"]
    assert found["layer4"].images.shape == (128, 3, 3, 64, 64)
    code, _, err = command_line(*given, "--layer", "layer4")  # is there
    assert code == 0, err
    code, _, err = command_line(*given[:5], "5", *given[6:], "--layer", "layer4")
    assert code == 2
    assert "holds exemplars of a run with k 3, now 5" in err
    code, _, err = command_line(*given[:5], "5", *given[6:], "--unit", "layer4:7", "--restart")
    assert code == 0, err
    assert read_results(directory)["layer4"].units.tolist() == [7]


def test_a_folder_of_pictures_of_any_size_and_default_layers(command_line, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(4):
        noise = np.random.default_rng(i).integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
        Image.fromarray(noise).save(pictures / f"{i}.png")
    code, out, err = command_line(
        *("exemplars", "zoo:emoji-clip", "--data", f"folder:{pictures}", "--k", "2", "--image-size", "32"),
        *("--output", str(tmp_path / "out")),
    )
    assert code == 0, err
    assert out.count(" units") == 5
    layers = read_results(tmp_path / "out" / "emoji-clip" / "pictures")
    assert layers["layer1"].images.shape[1:] == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("zoo:scenez",), "the zoo has no network 'scenez'"),
        (("zoo:wine",), "zoo:wine: takes table, expected a network over pictures"),
        (("zoo:scenes", "--data", "zoo:none"), "unknown data 'none'"),
        (("zoo:scenes", "--layer", "layr4"), "zoo:scenes: has no layer 'layr4'; expected one such as layer4"),
        (("zoo:scenes", "--unit", "layer4"), "--unit takes LAYER:NUMBER such as layer4:12, got 'layer4'"),
        (("zoo:scenes", "--unit", "layer4:128"), "zoo:scenes: layer 'layer4' has units 0 to 127, got 128"),
        (("zoo:scenes", "--k", "0"), "k, the pictures of each unit, must be a whole number of at least 1, got 0"),
        (("zoo:scenes", "--k", "31"), "k is 31, but zoo:emoji-scenes holds 30 pictures"),
        (("zoo:scenes", "--quantile", "1"), "quantile must be between 0 and 1"),
    ],
)
def test_what_is_asked_wrongly_is_one_sentence(command_line, tmp_path: Path, arguments, sentence: str) -> None:
    code, out, err = command_line("exemplars", *arguments, "--size", "30", "--output", str(tmp_path))
    assert code == 2
    assert sentence in " ".join(err.split())
    assert out == ""
