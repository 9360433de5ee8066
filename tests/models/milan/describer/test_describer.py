"""The describer: every strategy end to end on a small one, its folder, and what it refuses."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from conceptry.models.encoders import load_encoder
from conceptry.models.errors import InputError
from conceptry.models.milan.describer.decoder import Decoder
from conceptry.models.milan.describer.describer import Describer, load_describer, read_describer
from conceptry.models.milan.describer.features import load_feature_encoder, read_feature_encoder
from conceptry.models.milan.describer.language_model import LanguageModel
from conceptry.models.milan.describer.vocabulary import Vocabulary
from conceptry.models.milan.settings import STRATEGIES, DecodingSettings

WORDS = ["dog", "cat", "on", "red", "a", ".", "backgrounds", "blue"]
SMALL = DecodingSettings(beam_size=8, length=6, alternatives=3)


def make(**changed) -> Describer:
    vocabulary = Vocabulary(WORDS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decoder, model = Decoder(12, 976, 32, 16), LanguageModel(12, 32, 16)
        with torch.no_grad():
            decoder.output.weight *= 8
            model.output.weight *= 3
    parts = {"decoder": decoder, "language_model": model, "vocabulary": vocabulary} | changed
    return Describer(load_feature_encoder("zoo:emoji-clip", "cpu"), settings=SMALL, **parts)


@pytest.fixture(scope="module")
def describer() -> Describer:
    return make()


@pytest.fixture(scope="module")
def exemplars() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 5, 3, 64, 64), dtype=np.uint8)
    masks = (rng.random((4, 5, 1, 64, 64)) > 0.5).astype(np.uint8)
    masks[2] = 0
    return images, masks


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_unit_has_the_same_description_alone(strategy: str, describer: Describer, exemplars) -> None:
    images, masks = exemplars
    settings = dataclasses.replace(SMALL, strategy=strategy)
    together = describer.describe(images, masks, settings)
    for i, description in enumerate(together):
        assert describer.describe(images[i : i + 1], masks[i : i + 1], settings) == [description]
    by_features = describer.describe_features(describer.features(images, masks), settings)
    assert [by_features[i] for i in (0, 1, 3)] == [together[i] for i in (0, 1, 3)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_score_is_what_the_strategy_ranks_by(strategy: str, describer: Describer, exemplars) -> None:
    description = describer.describe(*exemplars, dataclasses.replace(SMALL, strategy=strategy, temperature=0.3))[0]
    temperature = 0.3 if strategy in ("mi", "rerank") else 0.0
    expected = description.log_likelihood - temperature * description.lm_log_likelihood
    assert description.score == pytest.approx(expected, abs=1e-4)
    assert description.pmi == description.log_likelihood - description.lm_log_likelihood
    assert description.text.lower().split() == [
        WORDS[token] for token in description.tokens if WORDS[token] != "."
    ] or ("." in description.text)
    scores = [description.score, *(other.score for other in description.alternatives)]
    if strategy != "sample":
        assert scores == sorted(scores, reverse=True)
    texts = [description.text, *(other.text for other in description.alternatives)]
    assert len(set(texts)) == len(texts) <= 4


def test_given_captions_are_scored(describer: Describer, exemplars) -> None:
    features = describer.features(*exemplars)
    description = describer.describe_features(features, dataclasses.replace(SMALL, strategy="beam", length=15))[0]
    captions = [[description.text, "a dog on purple"], [], ["cat"], ["dog", "cat"]]
    scored = describer.score(features, captions)
    assert [[entry.text for entry in unit] for unit in scored] == captions
    if len(description.tokens) < 15:  # it was not cut off, so its stop counts in both
        assert scored[0][0].log_likelihood == pytest.approx(description.log_likelihood, abs=1e-4)
        assert scored[0][0].pmi == pytest.approx(description.pmi, abs=1e-4)


def test_a_unit_without_a_masked_pixel_gets_no_words(describer: Describer, exemplars) -> None:
    assert describer.describe(*exemplars)[2].text == ""
    assert describer.describe(*exemplars)[2].alternatives == ()
    assert describer.describe(*(part[:0] for part in exemplars)) == []


def test_clip_returns_the_score_that_ranked(exemplars) -> None:
    describer = make(clip=load_encoder("zoo:emoji-clip", "cpu"))
    settings = dataclasses.replace(SMALL, clip=True, alternatives=7)
    description = describer.describe(*exemplars, settings)[0]
    found = {description.text: description.score} | {other.text: other.score for other in description.alternatives}
    assert description.score == max(found.values())
    candidates = describer.describe(
        *exemplars, dataclasses.replace(settings, clip=False, strategy="mi", temperature=0.5)
    )
    assert set(found) == {candidates[0].text, *(other.text for other in candidates[0].alternatives)}
    with pytest.raises(InputError, match="clip ranks by pictures"):
        describer.describe_features(describer.features(*exemplars), settings)
    with pytest.raises(InputError, match="describer: clip needs a dual encoder to rank by, and none was given"):
        make().describe(*exemplars, settings)


def test_the_number_of_exemplars_is_free(describer: Describer, exemplars) -> None:
    images, masks = exemplars
    assert len(describer.describe(images[:1, :1], masks[:1, :1])) == 1
    repeated = describer.describe(np.repeat(images[:1], 2, axis=1), np.repeat(masks[:1], 2, axis=1))
    assert repeated[0].text == describer.describe(images[:1], masks[:1])[0].text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_describer_is_read_as_it_was_written(dtype: torch.dtype, tmp_path: Path, exemplars) -> None:
    describer = make(provenance={"words": "of the tests"})
    describer.save(tmp_path / "saved", dtype)
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {"describer.json", "decoder.safetensors", "language_model.safetensors", "words.txt"}
    again = load_describer(f"describer:{tmp_path / 'saved'}", "cpu")
    assert again.vocabulary == describer.vocabulary
    assert again.provenance == {"words": "of the tests"}
    again.settings = SMALL
    if dtype == torch.float32:
        assert again.describe(*exemplars) == describer.describe(*exemplars)
    again.save(tmp_path / "again", dtype)
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "saved" / name).read_bytes()


def test_an_encoder_that_is_not_in_the_zoo_goes_with_it(tmp_path: Path, exemplars) -> None:
    describer = make()
    describer.encoder.name = describer.encoder.config["name"] = "torchvision:net@folder/net.pth"
    describer.save(tmp_path)
    assert (tmp_path / "encoder" / "encoder.safetensors").is_file()
    assert json.loads((tmp_path / "describer.json").read_text())["encoder"] == "torchvision:net@net.pth"
    again = read_describer(tmp_path, "cpu")
    again.settings = SMALL
    assert again.describe(*exemplars) == describer.describe(*exemplars)


def test_what_does_not_fit_is_refused(tmp_path: Path, describer: Describer, exemplars) -> None:
    images, masks = exemplars
    with pytest.raises(InputError, match="describer: the decoder has 13 tokens, the vocabulary 12"):
        make(decoder=Decoder(13, 976, 8, 8))
    with pytest.raises(InputError, match="the decoder reads 9 features, zoo:emoji-clip gives 976"):
        make(decoder=Decoder(12, 9, 8, 8))
    with pytest.raises(InputError, match="4 units have images, 3 have masks"):
        describer.describe(images, masks[:3])
    with pytest.raises(InputError, match=r"features must be of shape \(n, k, 976\), got \(4, 5, 3\)"):
        describer.describe_features(torch.zeros(4, 5, 3))
    with pytest.raises(InputError, match="2 units have features, 1 have captions"):
        describer.score(torch.zeros(2, 5, 976), [["dog"]])
    with pytest.raises(InputError, match=r"unknown describer 'describe:x'; did you mean describer:FOLDER"):
        load_describer("describe:x")
    with pytest.raises(InputError, match="unknown describer 'milan'"):
        load_describer("milan")
    with pytest.raises(InputError, match=r"holds no describer\.json; expected the folder of a describer"):
        read_describer(tmp_path)
    (tmp_path / "describer.json").write_text('{"decoder": {}}')
    with pytest.raises(InputError, match=r"describer\.json: does not describe a describer"):
        read_describer(tmp_path, "cpu")
    describer.save(tmp_path)
    (tmp_path / "decoder.safetensors").write_bytes(b"cut off")
    with pytest.raises(InputError, match=r"decoder\.safetensors: cannot be read as safetensors"):
        read_describer(tmp_path, "cpu")
    (tmp_path / "encoder").mkdir()
    for name, content in (("encoder.json", b"{}"), ("encoder.safetensors", b"")):
        (tmp_path / "encoder" / name).write_bytes(content)
    with pytest.raises(InputError, match=r"encoder\.json: does not describe a feature encoder \('kind'\)"):
        read_feature_encoder(tmp_path / "encoder", "cpu")
    (tmp_path / "decoder.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds no decoder\.safetensors"):
        read_describer(tmp_path, "cpu")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"strategy": "best"}, "strategy must be one of greedy, sample, beam, mi, rerank, got 'best'"),
        ({"beam_size": 0}, "beam_size must be from 1 to 5,000, got 0"),
        ({"length": 101}, "length must be from 1 to 100, got 101"),
        ({"alternatives": -1}, "alternatives must be from 0 to 5,000, got -1"),
        ({"temperature": float("nan")}, "temperature must be from 0 to 100, got nan"),
        ({"clip_weight": 1.5}, "clip_weight must be from 0 to 1, got 1.5"),
        ({"clip_temperature": -0.5}, "clip_temperature must be from 0 to 100, got -0.5"),
        ({"seed": -1}, r"seed must be from 0 to below 2\^63, got -1"),
        ({"clip": True, "strategy": "greedy"}, "clip ranks the candidates of mi and rerank, not of greedy"),
    ],
)
def test_settings_are_checked(changed: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DecodingSettings(**changed)
