"""The encoder that ships: whole, small, readable by open_clip, and as good as its provenance says."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from conceptry.evaluation.training.encoder import DEFINITIONS, score_encoder
from conceptry.models import shipped
from conceptry.models.encoders.load import load_encoder
from conceptry.models.errors import InputError
from conceptry.models.manifest import read_json, sha256_file
from conceptry.models.shipped import weights_directory
from conceptry.models.training.encoder import EncoderTraining, training_scenes
from conceptry.models.zoo.emoji_world.emoji import ATTRIBUTION, VOCABULARY
from conceptry.models.zoo.emoji_world.scenes import EmojiScenes


@pytest.fixture(scope="module")
def folder() -> Path:
    return weights_directory("emoji-clip")


def test_files_match_their_recorded_digests(folder: Path):
    provenance = read_json(folder / "provenance.json")
    present = {path.name: sha256_file(path) for path in folder.iterdir() if path.name != "provenance.json"}
    assert present == provenance["sha256"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8 * 2**20
    assert set(provenance["scores"]) == set(provenance["score_definitions"]) == set(DEFINITIONS)


def test_vocabulary_and_attribution(folder: Path):
    assert (folder / "vocabulary.txt").read_text(encoding="utf-8").splitlines() == list(VOCABULARY)
    assert (folder / "ATTRIBUTION.txt").read_text(encoding="utf-8") == ATTRIBUTION


def test_held_out_scores_reach_the_targets(folder: Path):
    scores = score_encoder(folder, n_scenes=200)
    assert scores["retrieval_r_at_1"] >= 0.95
    assert scores["both_objects_found"] >= 0.8
    assert scores["mean_l0"] <= 6
    assert scores["colour_found"] >= 0.95
    assert scores["object_accuracy"] >= 0.9


def test_open_clip_reads_it_and_its_trunk_has_convolutional_units(folder: Path):
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    scene = EmojiScenes("heldout", 1)[0]
    pixels = preprocess(Image.fromarray(scene.image))[None]
    assert pixels.shape == (1, 3, 64, 64)
    shapes = {}
    for name in ("layer1", "layer2", "layer3", "layer4"):
        getattr(model.visual, name).register_forward_hook(
            lambda module, inputs, output, name=name: shapes.update({name: tuple(output.shape)})
        )
    with torch.inference_mode():
        z = model.encode_image(pixels)
    assert shapes["layer1"][1:] == (64, 16, 16)
    assert all(len(shape) == 4 for shape in shapes.values())
    encoder = load_encoder("zoo:emoji-clip", "cpu")
    assert torch.allclose(encoder.encode_image(pixels), z, atol=1e-5)


def test_code_of_a_version_finds_what_is_installed(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from importlib import metadata

    class Installed:
        def locate_file(self, path: str) -> Path:
            return folder.parent if path == "conceptry/models/zoo/weights" else tmp_path

    monkeypatch.setattr(shipped, "_WEIGHTS", tmp_path / "none")  # versions carry the code alone
    monkeypatch.setattr(metadata, "distribution", lambda name: Installed())
    assert weights_directory("emoji-clip") == folder
    monkeypatch.setattr(Installed, "locate_file", lambda self, path: tmp_path / "none")
    with pytest.raises(InputError, match="the networks that ship with conceptry are not here; install it"):
        weights_directory("emoji-clip")


def test_words_it_never_learnt_are_refused():
    encoder = load_encoder("zoo:emoji-clip", "cpu")
    with pytest.raises(InputError, match="never trained on: 'zeppelin'"):
        encoder.encode_text(["a photo of a zeppelin"])


def test_the_scenes_it_was_trained_on_are_still_drawn_the_same(folder: Path):
    provenance = read_json(folder / "provenance.json")
    settings = EncoderTraining(**provenance["settings"])
    assert {str(n): training_scenes(settings, n).digest() for n in (1, 2)} == provenance["data_sha256"]
