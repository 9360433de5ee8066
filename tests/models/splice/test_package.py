"""What a version of SpLiCE consists of, and the way of objects made in Python into the registry and back."""

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import conceptry
from conceptry.models import splice
from conceptry.models.encoders import load_encoder, wrap_open_clip
from conceptry.models.errors import InputError
from conceptry.models.images import png_bytes
from conceptry.models.splice.package import _encoder_digest, read_package
from conceptry.registry import register


def test_the_encoder_digest_covers_every_weight_file_and_nothing_else(tmp_path: Path) -> None:
    contents = {"image.onnx": b"image", "text.onnx": b"text"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    digests = sorted(hashlib.sha256(content).hexdigest() for content in contents.values())
    assert _encoder_digest(tmp_path) == hashlib.sha256("".join(digests).encode()).hexdigest()
    before = _encoder_digest(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("{}")
    assert _encoder_digest(tmp_path) == before
    for name in contents:
        (tmp_path / name).write_bytes(b"other")
        assert _encoder_digest(tmp_path) != before
        (tmp_path / name).write_bytes(contents[name])


@pytest.fixture(scope="module")
def own_model(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> splice.Splice:
    """A `Splice` over an open_clip model that was trained further in Python, with words of one's own."""
    config = json.loads((tiny_encoder / "open_clip_config.json").read_text())["model_cfg"]
    path = tmp_path_factory.mktemp("configs") / "tiny-own.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    model = open_clip.create_model("tiny-own", str(tiny_encoder / "open_clip_model.safetensors"), weights_only=True)
    with torch.no_grad():
        model.text_projection.mul_(1.5)
        model.visual.attnpool.c_proj.bias.add_(0.1)
    mean = torch.full((64,), 0.02)
    words = ["train", "tent", "sun", "red", "gray"]
    return conceptry.Splice(wrap_open_clip(model, "tiny-own"), words, image_mean=mean, l1_penalty=0.06)


def test_one_tensor_can_be_the_mean_of_images_and_texts(own_model, tmp_path: Path) -> None:
    mean = torch.full((64,), 0.02)
    model = conceptry.Splice(own_model.encoder, own_model.vocabulary, own_model.dictionary, mean, mean)
    model.to_package(tmp_path / "package")
    again = read_package(tmp_path / "package", torch.device("cpu"))
    assert torch.equal(again.image_mean, mean)
    assert torch.equal(again.text_mean, mean)


def test_an_object_made_in_python_becomes_a_version_and_comes_back(store: str, own_model, picture: Image.Image) -> None:
    logged = conceptry.log_model(own_model, registered_model_name="own-words")
    again = conceptry.log_model(own_model, registered_model_name="own-words")
    assert (logged.registered_model_version, again.registered_model_version) == (1, 1)  # nothing new

    back = conceptry.load_model("own-words/1", device="cpu")
    assert isinstance(back, splice.Splice)
    asked = [picture, "a red train", own_model.encoder.encode_text("a sun")[0]]
    expected, found = own_model.explain(asked).answers(), back.explain(asked).answers()
    served = mlflow.pyfunc.load_model("models:/own-words/1").predict(
        pd.DataFrame({"image": [png_bytes(picture), None], "text": [None, "a red train"]})
    )
    assert sum(answer["l0"] for answer in expected) > 3
    for answers in (found, served.to_dict("records")):
        for answer, other in zip(expected, answers, strict=False):  # the table has no embedding
            assert [entry["concept"] for entry in answer["concepts"]] == [
                entry["concept"] for entry in other["concepts"]
            ]
            weights = [[entry["weight"] for entry in one["concepts"]] for one in (answer, other)]
            assert weights[0] == pytest.approx(weights[1], abs=1e-5)
            assert answer["cosine"] == pytest.approx(other["cosine"], abs=1e-5)
    assert list(served.columns) == list(expected[0])


def test_parts_without_a_name_go_by_their_digest(own_model, tmp_path: Path) -> None:
    about = own_model.to_package(tmp_path / "package")
    words = hashlib.sha256(b"train\ntent\nsun\nred\ngray").hexdigest()[:8]
    mean = hashlib.sha256(np.full(64, 0.02, np.float32).tobytes()).hexdigest()[:8]
    assert about.params == {
        "encoder": "own:tiny-own", "runtime": "torch", "vocabulary": f"words#{words}", "vocabulary_size": 5,
        "image_mean": f"own#{mean}", "l1_penalty": 0.06, "solver": "active_set", "tolerance": 1e-6, "embedding_dim": 64,
    }  # fmt: skip
    back = read_package(tmp_path / "package", torch.device("cpu"))
    assert torch.equal(back.dictionary, own_model.dictionary)
    assert (back.vocabulary, back.l1_penalty) == (own_model.vocabulary, 0.06)
    assert {"dictionary", "text_mean"} <= back.to_package(tmp_path / "again").params.keys()  # handed in now


def test_an_object_of_named_parts_equals_the_version_of_these_options(store, tiny_options, tiny_version) -> None:
    splice_of_names = conceptry.Splice(**tiny_options, device="cpu")
    logged = conceptry.log_model(splice_of_names, registered_model_name=tiny_version.name)
    assert logged.registered_model_version == tiny_version.version
    assert not register("splice", tiny_options, name=tiny_version.name).created


def test_a_model_without_a_text_mean_is_carried_as_it_is(own_model, tmp_path: Path, picture: Image.Image) -> None:
    images_only = splice.Splice(
        own_model.encoder, own_model.vocabulary, own_model.dictionary, own_model.image_mean, l1_penalty=0.06
    )
    images_only.to_package(tmp_path / "package")
    assert load_file(tmp_path / "package" / "splice.safetensors").keys() == {"dictionary", "image_mean"}
    back = read_package(tmp_path / "package", torch.device("cpu"))
    assert back.explain(picture).words() == images_only.explain(picture).words()
    with pytest.raises(InputError, match="this model has no text mean"):
        back.explain("a sun")


class Own:
    """An encoder of a user's own that nothing is known of."""

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.flatten(1)

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return torch.stack([torch.tensor([len(text), text.count("a"), 1.0]) for text in texts])


def test_what_cannot_be_packaged_says_why(own_model, tmp_path: Path) -> None:
    parts: Any = (own_model.vocabulary, own_model.dictionary, own_model.image_mean)
    with pytest.raises(InputError, match="a version carries its encoder, and this model has none; give Splice an"):
        splice.Splice(None, *parts).to_package(tmp_path / "a")
    own = splice.Splice(Own(), ["a", "aab", "bbbb"], image_mean=torch.zeros(3))
    with pytest.raises(
        InputError, match=r"one of class Own cannot be written to a folder; name an encoder, or wrap an"
    ):
        conceptry.save_model(own, tmp_path / "b")
    broken = splice.Splice(own_model.encoder, ["a\nb", *own_model.vocabulary[1:]], *parts[1:])
    with pytest.raises(InputError, match=r"the word 'a\\nb' breaks the line"):
        broken.to_package(tmp_path / "c")
    assert not list(tmp_path.iterdir())


def test_parts_that_are_left_out_are_computed(tiny_encoder: Path) -> None:
    name = f"open_clip:local-dir:{tiny_encoder}"
    words = ["train", "tent", "sun"]
    by_name = splice.Splice(name, words, device="cpu")
    encoder = load_encoder(name, "cpu")
    assert torch.equal(by_name.dictionary, splice.build_dictionary(encoder, words))
    assert by_name.text_mean is not None
    torch.testing.assert_close(by_name.text_mean, splice.mean_embedding(encoder.encode_text(words)))
    assert torch.equal(by_name.means["image"], load_file(tiny_encoder / "image_mean.safetensors")["image_mean"])  # type: ignore[arg-type]  # there is one
    assert splice.Splice(encoder, words, vocabulary_size=2).vocabulary == ["tent", "sun"]
    with pytest.raises(InputError, match="word 2 of the vocabulary, 'sun', is there already; remove the repetition"):
        splice.Splice(encoder, ["sun", "moon", "sun"])
    with pytest.raises(InputError, match="word 1 of the vocabulary is ' '; expected a text that is not blank"):
        splice.Splice(encoder, ["sun", " "])
    with pytest.raises(InputError, match="vocabulary_size must be from 1 to 3 for a list of words, got 4"):
        splice.Splice(encoder, words, vocabulary_size=4)
    with pytest.raises(InputError, match=r"the encoder, of class Own, has no known image mean; give image_mean as a"):
        splice.Splice(Own(), ["a", "aab", "bbbb"])
    with pytest.raises(InputError, match="without an encoder the dictionary cannot be computed; give dictionary"):
        splice.Splice(None, words)
    with pytest.raises(InputError, match=r"without an encoder a mean must be a tensor \(d,\)"):
        splice.Splice(None, words, by_name.dictionary, "published")


def test_published_means_have_a_leading_dimension(tiny_encoder: Path) -> None:
    encoder = load_encoder(f"open_clip:local-dir:{tiny_encoder}", "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = splice.Splice(encoder, ["train", "tent", "sun"], image_mean=torch.ones(1, 64))
    assert model.image_mean is not None
    assert model.image_mean.shape == (64,)
