"""A classifier and token vectors as a dual encoder: the formulas, its folders, both runtimes, and what is refused."""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from conceptry.models.encoders import load_encoder, read_encoder
from conceptry.models.encoders.conse import PACKAGES, Calibration, ConseEncoder
from conceptry.models.encoders.load import save_encoder
from conceptry.models.encoders.protocol import encode_images
from conceptry.models.errors import InputError
from conceptry.models.images import example_image
from conceptry.models.milan.exemplars.sources import source_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def small(conse_parts: tuple[Any, ...]) -> ConseEncoder:
    classifier, texts, config, tensors = conse_parts
    calibrated = config | {"calibration": {"cosine": [0.2, 0.6], "share": [0.1, 0.5]}}
    return ConseEncoder("own:small", classifier, texts, calibrated, tensors)


def images() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(256, size=shape, dtype=np.uint8)) for shape in ((40, 60, 3), (300, 260, 3))]


def by_hand(encoder: ConseEncoder, image: Image.Image) -> np.ndarray:
    """f of an image, from what the classifier itself answers."""
    logits = encoder.classifier(np.asarray(image)[None])[0]
    best = np.argsort(-logits)[: encoder.config["k"]]
    p = np.exp(logits[best] - logits[best].max())
    mixture = (p / p.sum()) @ encoder.model.class_vectors.double().numpy()[best]
    return mixture / np.linalg.norm(mixture)


def test_an_image_is_a_mixture_of_the_classes_that_the_classifier_finds(small: ConseEncoder) -> None:
    found = encode_images(small, images()).numpy()
    assert np.allclose(found, [by_hand(small, image) for image in images()], atol=1e-5)


def test_a_text_is_the_mean_of_its_tokens_however_long_its_neighbours_are(small: ConseEncoder) -> None:
    texts = ["dog", "a red dog"]
    for text, found in zip(texts, small.encode_text(texts).numpy(), strict=True):
        mean = np.mean([small.model.token_vectors[i].double().numpy() for i in small.tokenize(text)[0]], axis=0)
        assert np.allclose(found, mean / np.linalg.norm(mean) - 0.1, atol=1e-6)
    assert torch.equal(small.encode_text("dog")[0], small.encode_text(texts)[0])
    with pytest.raises(InputError, match="text ' ' has no tokens; expected one that is not blank"):
        small.tokenize(["dog", " "])


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_a_version_carries_all_of_it(small: ConseEncoder, tmp_path: Path, runtime: str) -> None:
    save_encoder(small, tmp_path / "encoder", runtime)
    again: Any = read_encoder(tmp_path / "encoder", CPU)
    assert (again.name, again.runtime) == ("own:small", runtime)
    assert torch.allclose(encode_images(again, images()), encode_images(small, images()), atol=1e-5)
    for texts in (["dog"], ["a red dog", "cat", "a"]):
        assert torch.allclose(again.encode_text(texts), small.encode_text(texts), atol=1e-6)
    assert again.calibration(torch.tensor([0.0, 0.4, 0.9])).tolist() == pytest.approx([0.1, 0.3, 0.5])


def test_calibration_is_monotone() -> None:
    shares = Calibration((0.2, 0.5, 0.6), (0.1, 0.3, 0.9))(torch.linspace(-1, 1, 50))
    assert (shares.diff() >= 0).all()
    assert (shares[0], shares[-1]) == (0.1, 0.9)


def test_what_is_missing_is_named_with_the_way_to_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no conse\.json; expected a folder that `conceptry train photos`"):
        load_encoder(f"conse:{tmp_path}", "cpu")

    def find(name: str) -> object:
        return None if name == "wordllama" else name

    monkeypatch.setattr("conceptry.models.encoders.conse.find_spec", find)
    sentence = (
        r"^zoo:photos needs the package wordllama, which is not installed here: pip install 'conceptry\[photos\]'$"
    )
    with pytest.raises(InputError, match=sentence):
        load_encoder("zoo:photos", "cpu")


@pytest.fixture(scope="module")
def photos() -> Any:
    """`zoo:photos`, on what the extra installs."""
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        pytest.skip(f"the extra photos is not installed: no {missing[0]}")
    from conceptry.models import splice

    return splice.load("zoo:photos", device="cpu")


def test_it_brings_its_own_vocabulary_and_penalty(photos: Any) -> None:
    assert (photos.sources["vocabulary"], photos.l1_penalty) == ("photos", 0.45)
    assert len(photos.vocabulary) == 5000
    assert photos.vocabulary[-1] == "tree"  # the most important comes last
    assert not {"ass", "faggot", "the"} & set(photos.vocabulary)


def test_a_photograph_is_named_and_a_text_has_no_share(photos: Any) -> None:
    skimage = pytest.importorskip("skimage.data")
    inputs: Sequence[Any] = [Image.fromarray(skimage.cat()), Image.fromarray(skimage.coffee()), "a cat"]
    cat, coffee, text = photos.explain(inputs).answers()
    assert cat["concepts"][0]["concept"] == text["concepts"][0]["concept"] == "cat"
    assert coffee["concepts"][0]["concept"] == "coffee"
    assert cat["sure"] == 0.53
    assert text["sure"] is None
    fewer = photos.explain(inputs[:1], l1_penalty=0.9).answers()
    assert fewer[0]["sure"] == cat["sure"]  # it does not hang on the penalty of a request
    assert np.allclose(encode_images(photos.encoder, inputs[:1])[0], by_hand(photos.encoder, inputs[0]), atol=1e-5)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "I;16"])
def test_any_image_is_read_as_elsewhere(photos: Any, mode: str) -> None:
    image = Image.new("L", (3, 2), 200) if mode == "I;16" else Image.new("RGB", (3, 2), (200, 30, 40))
    converted = Image.fromarray(np.full((2, 3), 40_000, np.uint16)) if mode == "I;16" else image.convert(mode)
    (answer,) = photos.explain(converted).answers()
    assert 0 < answer["sure"] <= 0.53


def test_a_strip_is_refused_by_its_place(photos: Any) -> None:
    strips = [Image.new("RGB", (8, 8)), Image.new("RGB", (1, 2000))]
    with pytest.raises(InputError, match="input 1: a picture of 1 x 2000 pixels is too narrow"):
        photos.explain(strips)


def test_a_version_needs_no_package_of_weights_and_declares_its_shares(
    photos: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from conceptry.models.splice.pyfunc import SpliceExplainer

    package = photos.to_package(tmp_path / "package")
    assert {"tokenizers", "efficientnet-lite-pytorch"} <= set(package.requirements)
    assert len(package.requirements) == len(set(package.requirements))
    monkeypatch.setattr("conceptry.models.encoders.token_vectors.metadata.distribution", None)
    explainer = SpliceExplainer("")
    explainer.load(tmp_path / "package", CPU)
    assert explainer.signature.outputs.input_names() == ["concepts", "l0", "cosine", "gap", "sure"]
    assert SpliceExplainer.signature.outputs.input_names() == ["concepts", "l0", "cosine", "gap"]
    rows = pd.DataFrame([{"image": example_image()}, {"text": "a dog"}])
    said = json.loads(json.dumps(explainer.explain(rows, {"top_k": 1}).to_dict("records"), allow_nan=False))
    assert 0 < said[0]["sure"] <= 0.53
    assert (said[1]["sure"], said[1]["concepts"][0]["concept"]) == (None, "dog")


def test_milan_describes_its_classifier_in_its_words(photos: Any) -> None:
    from conceptry.models.milan.baselines.clip_dissect import build_clip_dissect, load_clip_dissect
    from conceptry.models.milan.network import load_network

    assert load_network("zoo:photos", "cpu").name == "imagenet:efficientnet-lite0"
    pictures = np.stack([np.asarray(image.resize((32, 32))) for image in images()])
    describer = load_clip_dissect(None, source_of(pictures), photos.encoder)
    assert list(describer.words) == photos.vocabulary
    few = build_clip_dissect(photos.encoder, ["cat", "espresso"], images())
    skimage = pytest.importorskip("skimage.data")
    shown = np.asarray(Image.fromarray(skimage.coffee()).resize((64, 64))).transpose(2, 0, 1)[None, None]
    assert few.describe(shown, np.ones((1, 1, 1, 64, 64), bool))[0].text == "espresso"
