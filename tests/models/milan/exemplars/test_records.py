"""The layout of the original on disk, read and written."""

from pathlib import Path

import numpy as np
import pytest

from conceptry.models.errors import InputError
from conceptry.models.milan.exemplars.records import (
    LayerExemplars,
    read_layer,
    read_results,
    results_directory,
    write_layer,
)

RNG = np.random.default_rng(0)


def exemplars(layer: str, units: list[int] | None = None, plain: bool = False) -> LayerExemplars:
    n = 3
    return LayerExemplars(
        layer,
        np.array(range(n) if units is None else units),
        RNG.integers(0, 256, (n, 2, 3, 5, 4), dtype=np.uint8),
        RNG.integers(0, 2, (n, 2, 1, 5, 4), dtype=np.uint8),
        RNG.integers(0, 100, (n, 2)),
        None if plain else RNG.normal(size=(n, 2)).astype(np.float32),
        None if plain else RNG.normal(size=n).astype(np.float32),
    )


def same(a: LayerExemplars, b: LayerExemplars) -> None:
    assert a.layer == b.layer
    for name in ("units", "images", "masks", "ids", "levels"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.activations is None) == (b.activations is None)
    if a.activations is not None and b.activations is not None:
        np.testing.assert_allclose(a.activations, b.activations, rtol=1e-5)


@pytest.mark.parametrize("units", [None, [7, 2, 9]])
@pytest.mark.parametrize("plain", [False, True])
def test_round_trip(tmp_path: Path, units: list[int] | None, plain: bool) -> None:
    written = exemplars("layer3.0.conv1", units, plain)
    write_layer(tmp_path, exemplars("layer3.0.conv1", [4, 5, 6]))  # which is replaced as a whole
    write_layer(tmp_path, written)
    same(read_layer(tmp_path, "layer3.0.conv1"), written)
    same(read_layer(tmp_path / "layer3.0.conv1"), written)
    folder = tmp_path / "layer3.0.conv1"
    assert (folder / "units.npy").exists() == (units is not None)
    assert (folder / "ids.csv").read_text().splitlines()[1] == ",".join(map(str, written.ids[1]))
    if written.activations is not None:
        assert (folder / "activations.csv").read_text().startswith(f"{written.activations[0, 0]:.5e},")
    assert isinstance(read_layer(folder).images, np.memmap)


def test_results_hold_layers_by_names_of_text(tmp_path: Path) -> None:
    for layer in ("10", "9", "conv1"):
        write_layer(tmp_path, exemplars(layer))
    (tmp_path / "other").mkdir()
    found = read_results(tmp_path)
    assert list(found) == ["9", "10", "conv1"]
    assert found["10"].layer == "10"
    with pytest.raises(InputError, match=r"holds no exemplars \(it is the folder of one layer\); expected folders"):
        read_results(tmp_path / "9")
    for missing, what in ((tmp_path / "other", "holds no exemplars"), (tmp_path / "none", "no such folder")):
        with pytest.raises(InputError, match=rf"{what}; expected folders of layers, each with masks.npy"):
            read_results(missing)
    with pytest.raises(InputError, match="11: there is no such folder of exemplars; there are 9, 10, conv1"):
        read_layer(tmp_path, "11")
    (tmp_path / "9" / "masks.npy").unlink()
    with pytest.raises(InputError, match=r"9/masks\.npy: no such file; expected it beside images\.npy"):
        read_results(tmp_path)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    def refused(name: str, content: object, sentence: str) -> None:
        write_layer(tmp_path, exemplars("a", [4, 5, 6]))
        path = tmp_path / "a" / name
        if isinstance(content, np.ndarray):
            np.save(path, content, allow_pickle=True)
        elif content is None:
            path.unlink()
        else:
            path.write_text(str(content))
        with pytest.raises(InputError, match=sentence):
            read_layer(tmp_path, "a")

    refused("images.npy", None, "images.npy: no such file; expected an array of exemplars")
    refused("images.npy", "text", "images.npy: is not a .npy file that can be read")
    refused("images.npy", np.array([{}], object), "images.npy: is not a .npy file that can be read")
    refused(
        "images.npy", np.zeros((3, 2, 3, 5, 4)), r"images.npy: expected uint8 \(units, k, 3, height, width\), got fl"
    )
    refused(
        "masks.npy", np.zeros((3, 2, 3, 5, 4), np.uint8), r"masks.npy: expected uint8 \(units, k, 1, height, width\)"
    )
    refused("masks.npy", np.zeros((3, 1, 1, 5, 4), np.uint8), "masks.npy: has shape .* which does not go with images")
    refused("ids.csv", None, "ids.csv: no such file")
    refused("ids.csv", "1,2\n3,4\n", "ids.csv: expected 3 rows of 2, got 2 of 2")
    refused("ids.csv", "1,2\n3,x\n5,6\n", "ids.csv: is not a table of numbers")
    refused("activations.csv", "1\n2\n3\n", "activations.csv: expected 3 rows of 2, got 3 of 1")
    refused("units.npy", np.array([1, 2]), "units.npy: expected 3 different numbers of units, got int64")
    refused("units.npy", np.array([1, 2, 2]), "units.npy: expected 3 different numbers of units")
    refused("levels.csv", "1\n", "levels.csv: expected 3 rows of 1, got 1 of 1")


def test_folders_of_results() -> None:
    assert results_directory(Path("r"), "zoo:scenes", "folder:/data/my photos/") == Path("r/scenes/my photos")
    assert results_directory(Path("r"), "torchvision:resnet18@/a/b.pth", "zoo:digits") == Path("r/b.pth/digits")
    with pytest.raises(InputError, match=r"'folder:\.\.' gives no name of a folder"):
        results_directory(Path("r"), "zoo:scenes", "folder:..")
