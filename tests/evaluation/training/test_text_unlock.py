"""A map is learnt from a folder of images, written with how it was made, and used; what is refused."""

import re
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conceptry.evaluation.training import text_unlock
from conceptry.models import splice
from conceptry.models.encoders.text_unlock import AgreementWarning
from conceptry.models.errors import InputError
from conceptry.models.explained.source import OwnPreparation
from conceptry.models.manifest import read_json
from conceptry.models.training.text_unlock import TextUnlockTraining

pytestmark = pytest.mark.skipif(find_spec("wordllama") is None, reason="the extra photos is not installed")
SAID = OwnPreparation(["dog", "red_cat", "tree"], 32, (0.5,) * 3, (0.5,) * 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty plain images with noise."""
    path, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(60):
        pixels = draw.integers(256, size=3) + draw.integers(-40, 40, size=(32, 32, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path / f"{i}.png")
    return path


def test_a_map_is_learnt_written_down_and_used(folder: Path, checkpoint: Path, store: str, tmp_path: Path) -> None:
    output, name = tmp_path / "mine", f"torchvision:squeezenet1_1@{checkpoint}"
    said = text_unlock.train_command(output, folder, name, SAID, "cpu", steps=30, seed=2)
    known = read_json(output / "provenance.json")
    assert known["command"] == (
        "conceptry train photos --output FOLDER --images FOLDER --model torchvision:squeezenet1_1@mine.pth --steps 30 "
        "--seed 2 --classes FILE --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --input-size 32x32"
    )
    assert str(folder.parent) not in (output / "provenance.json").read_text() + (output / "conse.json").read_text()
    assert {"classifier/explained.json", "classifier/model.safetensors", "conse.safetensors"} <= known["sha256"].keys()
    scores = known["scores"]
    assert (scores["training"], scores["stopping"], scores["held_out"]) == (36, 12, 12)
    assert scores.keys() >= text_unlock.DEFINITIONS.keys()
    assert (known["below_conse"] or known["below_constant"]) == ("warning: " in said)
    assert f"use it as textunlock:{output}" in said
    assert re.search(rf"the map +{scores['agreement']:.3f}\n", said)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AgreementWarning)  # whether it is said depends on how the map did
        explainer = splice.load(f"textunlock:{output}", device="cpu")
    assert (explainer.sources["vocabulary"], explainer.l1_penalty) == ("photos", 0.45)
    images = [Image.open(folder / f"{i}.png") for i in range(3)]
    explainer.to_package(tmp_path / "package")
    from conceptry.models.splice.package import read_package

    (output / "classifier").rename(tmp_path / "gone")  # a version needs nothing of the folder
    again = read_package(tmp_path / "package", explainer.encoder.device)  # type: ignore[union-attr]
    answers = explainer.explain(images).answers()
    assert again.explain(images).answers() == answers
    assert all(answer["concepts"] and "sure" not in answer for answer in answers)


@pytest.mark.parametrize(
    ("model", "said", "sentence"),
    [
        ("FILE", {}, "FILE: the file says nothing of preprocessing"),
        ("FILE", {"preprocessing": "imagenet"}, "its file does not say what its 3 classes are called; give --classes"),
        ("FILE", {"classes": ["a", "b"], "preprocessing": "imagenet"}, "expected 3 different names in classes, got"),
        ("FILE", {"classes": ["a_b", "b a", "c"], "preprocessing": "imagenet"}, "the classes 'a_b' and 'b a' are the"),
        ("zoo:digits", {}, "zoo:digits: expected an image classifier by imagenet:NAME, torchvision:ARCH@FILE or timm:"),
    ],
)
def test_a_classifier_that_says_too_little_is_refused(
    folder: Path, checkpoint: Path, tmp_path: Path, model: str, said: dict[str, Any], sentence: str
) -> None:
    name = model.replace("FILE", f"torchvision:squeezenet1_1@{checkpoint}")
    with pytest.raises(InputError, match=sentence.replace("FILE:", f"{name}:")):
        text_unlock.run(
            name,
            folder,
            TextUnlockTraining(),
            tmp_path / "m",
            said=OwnPreparation(**said),
            device="cpu",
            tracking=False,
        )
    assert not (tmp_path / "m").exists()


def test_few_images_are_refused(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for i in range(49):
        (few / f"{i}.png").symlink_to(folder / f"{i}.png")
    name = f"torchvision:squeezenet1_1@{checkpoint}"
    with pytest.raises(InputError, match=r"^a map is learnt from at least 50 images, got 49$"):
        text_unlock.run(name, few, TextUnlockTraining(), tmp_path / "m", said=SAID, device="cpu", tracking=False)


def test_options_of_one_kind_are_not_taken_for_the_other(tmp_path: Path) -> None:
    from conceptry.evaluation.cli.app import cli

    line = ["train", "photos", "--output", str(tmp_path / "m")]
    with pytest.raises(InputError, match="belong to a map; give --images FOLDER"):
        cli.main([*line, "--steps", "3"], standalone_mode=False)
    with pytest.raises(InputError, match="are of the encoder from packages; leave them out with --images"):
        cli.main([*line, "--images", str(tmp_path), "--names-only"], standalone_mode=False)
