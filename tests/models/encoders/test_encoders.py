"""Encoders by name: folders, checkpoints of a built-in architecture, round trips, and every refusal."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from conceptry.models.encoders.clip import OpenClipEncoder, PreprocessingWarning, wrap_open_clip
from conceptry.models.encoders.load import load_encoder, read_encoder, save_encoder
from conceptry.models.encoders.processing import OPENAI_MEAN, Normalize
from conceptry.models.encoders.protocol import PackagedEncoder, encode_images, encode_texts
from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.milan.network import load_network

TEXTS = ["a dog", "a red car", "seven striped cats"]


@pytest.fixture(scope="module")
def architecture(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The architecture of the tiny encoder, as one of open_clip's own."""
    config = json.loads((tiny_encoder / "open_clip_config.json").read_text())["model_cfg"]
    path = tmp_path_factory.mktemp("configs") / "tiny-arch-64.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return "tiny-arch-64"


@pytest.fixture(scope="module")
def original(tiny_encoder: Path) -> OpenClipEncoder:
    encoder = load_encoder(f"open_clip:local-dir:{tiny_encoder}", "cpu")
    assert isinstance(encoder, OpenClipEncoder)
    return encoder


def check_equal(one: PackagedEncoder, other: PackagedEncoder, picture: Image.Image) -> None:
    assert torch.equal(encode_texts(one, TEXTS), encode_texts(other, TEXTS))
    assert torch.equal(encode_images(one, [picture] * 2), encode_images(other, [picture] * 2))


def test_an_encoder_is_read_back_as_it_was(original, picture: Image.Image, tmp_path: Path) -> None:
    save_encoder(original, tmp_path / "encoder", "torch")
    again = read_encoder(tmp_path / "encoder", torch.device("cpu"))
    assert (again.name, again.runtime) == (original.name, "torch")
    check_equal(again, original, picture)


def test_batches_do_not_change_embeddings(original, picture: Image.Image) -> None:
    pictures = [picture.rotate(20 * i) for i in range(5)]
    whole = encode_images(original, pictures)
    assert whole.shape == (5, 64)
    assert torch.allclose(encode_images(original, iter(pictures), batch_size=2), whole, atol=1e-5)
    assert torch.allclose(encode_texts(original, TEXTS, batch_size=2), encode_texts(original, TEXTS), atol=1e-5)


def test_checkpoints_of_an_architecture(
    architecture: str, original, tiny_encoder: Path, picture: Image.Image, tmp_path: Path
) -> None:
    state = load_file(tiny_encoder / "open_clip_model.safetensors")
    torch.save(state, tmp_path / "weights.pt")
    save_file(state, tmp_path / "weights.safetensors")
    for file in ("weights.pt", "weights.safetensors"):
        # a slash, as in ViT-B/32, is read as the hyphen of open_clip's names
        encoder = load_encoder(f"open_clip:tiny/arch-64@{tmp_path / file}", "cpu")
        assert encoder.name == f"open_clip:{architecture}@{tmp_path / file}"
        assert torch.equal(encode_texts(encoder, TEXTS), encode_texts(original, TEXTS))
        pixels = torch.randn(2, 3, 64, 64)
        assert torch.equal(encoder.encode_image(pixels), original.encode_image(pixels))
        save_encoder(encoder, tmp_path / f"saved {file}", "torch")
        check_equal(read_encoder(tmp_path / f"saved {file}", torch.device("cpu")), encoder, picture)


def test_a_checkpoint_runs_no_code_and_must_fit(architecture: str, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    torch.save({"text_model.embeddings.token_embedding.weight": torch.zeros(2)}, tmp_path / "transformers.pt")
    (tmp_path / "empty.pt").write_bytes(b"")
    for file, sentence in {
        "evil.pt": r"evil\.pt: holds getattr beside tensors, and is not loaded, since reading that may run code",
        "other.pt": "tiny-arch-64, .*other.pt: the weights do not fit the network: the file lacks .*unknown weight$",
        "transformers.pt": r"it has the unknown text_model\.embeddings\.token_embedding\.weight$",
        "empty.pt": r"empty\.pt: is no checkpoint that can be read \(EOFError\)",
    }.items():
        with pytest.raises(InputError, match=sentence):
            load_encoder(f"open_clip:{architecture}@{tmp_path / file}", "cpu")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"model": state},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
        lambda state: {"model": {f"module._orig_mod.model.{key}": value for key, value in state.items()}, "epoch": 3},
        lambda state: {"epoch": 3, "best": np.float64(0.3), "seen": np.int64(7), "state_dict": state, "optimizer": {}},
        lambda state: state | {"logit_scale": state["logit_scale"][None]},
    ],
)
def test_checkpoints_as_training_scripts_write_them(
    wrapped, architecture: str, original, tiny_encoder: Path, tmp_path: Path
) -> None:
    torch.save(wrapped(load_file(tiny_encoder / "open_clip_model.safetensors")), tmp_path / "weights.pt")
    encoder = load_encoder(f"open_clip:{architecture}@{tmp_path / 'weights.pt'}", "cpu")
    assert torch.equal(encode_texts(encoder, TEXTS), encode_texts(original, TEXTS))


def tags_of(monkeypatch: pytest.MonkeyPatch, architecture: str, **tags: dict[str, Any]) -> None:
    """Published weights that an architecture has for the time of a test."""
    listed, config = open_clip.list_pretrained_tags_by_model, open_clip.get_pretrained_cfg
    monkeypatch.setattr(
        open_clip, "list_pretrained_tags_by_model", lambda name: list(tags) if name == architecture else listed(name)
    )
    monkeypatch.setattr(
        open_clip,
        "get_pretrained_cfg",
        lambda name, tag: tags.get(tag, {}) if name == architecture else config(name, tag),
    )


def test_weights_of_a_file_take_the_pixels_of_all_published_ones(
    architecture: str, original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MobileCLIP2: mean 0, std 1. ViT-L-14: not all in one way. RN50x4: QuickGELU, which its name does not say."""
    name = f"open_clip:{architecture}@{save_weights(original, tmp_path)}"
    own = load_encoder(name, "cpu").processing.preprocess  # type: ignore[attr-defined]
    pixels = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "interpolation": "bilinear"}
    tags_of(monkeypatch, architecture, a=pixels | {"url": "a"}, b=pixels | {"url": "b", "quick_gelu": True})
    encoder = load_encoder(name, "cpu")
    assert isinstance(encoder, OpenClipEncoder)
    assert encoder.processing.preprocess.transforms[-1] == Normalize(pixels["mean"], pixels["std"])
    assert encoder.processing.preprocess.interpolation == "bilinear"
    assert not any(type(part).__name__ == "QuickGELU" for part in encoder.modules())
    save_encoder(encoder, tmp_path / "encoder", "torch")
    again = read_encoder(tmp_path / "encoder", torch.device("cpu"))
    assert again.processing.preprocess.normalisation == (pixels["mean"], pixels["std"])  # type: ignore[attr-defined]
    tags_of(monkeypatch, architecture, a=pixels | {"quick_gelu": True}, b={"quick_gelu": True})
    with pytest.warns(
        PreprocessingWarning, match="published weights differ in mean and std and interpolation of their"
    ):
        encoder = load_encoder(name, "cpu")
    assert encoder.processing.preprocess == own  # type: ignore[attr-defined]
    assert any(type(part).__name__ == "QuickGELU" for part in encoder.modules())  # type: ignore[attr-defined]


@pytest.fixture
def folder(tiny_encoder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_encoder, tmp_path / "encoder"))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ('{"model_cfg": {', r"is no JSON, or is cut off \(.*\); download it again"),
        (b"\xff\xfe{", "is no JSON, or is cut off"),
        ("[1]", "is no configuration of open_clip; expected model_cfg with vision_cfg and text_cfg"),
        ({"architectures": ["CLIPModel"]}, "is no configuration of open_clip"),
        ({"model_cfg": {"embed_dim": 32}}, "is no configuration of open_clip"),
        (
            {"model_cfg": {"vision_cfg": {}, "text_cfg": {}}},
            "open_clip makes no model of this configuration: .*embed_dim",
        ),
        ({"preprocess_cfg": [1]}, r"preprocess_cfg must be an object with size, mean and std, got \[1\]"),
        ({"preprocess_cfg": {"interpolation": "cubic"}}, "interpolation must be one of bicubic, bilinear, got 'cubic'"),
        ({"text_cfg": {"hf_model_name": "roberta-base"}}, "has a Hugging Face text tower, which is not supported"),
        (
            {"text_cfg": {"hf_tokenizer_name": "org/name"}},
            r"has a tokeniser of Hugging Face, .*: pip install 'conceptry\[huggingface\]'",
        ),
    ],
)
def test_odd_configurations_are_named(
    folder: Path, config: Any, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    path = folder / "open_clip_config.json"
    whole = json.loads(path.read_text())
    if isinstance(config, dict):
        if "text_cfg" in config:
            whole["model_cfg"]["text_cfg"] |= config["text_cfg"]
        config = json.dumps(whole if "text_cfg" in config else whole | config if "preprocess_cfg" in config else config)
    path.write_bytes(config.encode() if isinstance(config, str) else config)
    (folder / "tokens.json").unlink(missing_ok=True)
    with pytest.raises(InputError, match=rf"open_clip_config\.json.*{sentence}"):
        load_encoder(f"open_clip:local-dir:{folder}", "cpu")


def test_what_open_clip_overlooks_in_a_configuration_is_overlooked(folder: Path) -> None:
    path = folder / "open_clip_config.json"
    known = {"mean": [0.5] * 3, "std": [0.5] * 3, "size": None, "crop_mode": "center", "crop_pct": 0.9}
    for preprocess, mean in ((known, (0.5,) * 3), (None, OPENAI_MEAN), ({"mean": 0}, (0.0,) * 3)):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"preprocess_cfg": preprocess}))
        encoder = load_encoder(f"open_clip:local-dir:{folder}", "cpu")
        assert encoder.processing.preprocess.transforms[-1].mean == mean  # type: ignore[attr-defined]
        assert encoder.processing.preprocess.size == 64  # type: ignore[attr-defined]


def test_a_tokeniser_is_asked_for_before_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr(open_clip, "create_model", None)  # which would download
    with pytest.raises(
        InputError, match="ViT-B-16-SigLIP has a tokeniser of Hugging Face, which needs the package tra"
    ):
        load_encoder("open_clip:ViT-B-16-SigLIP@webli", "cpu")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("clap:x", r"unknown encoder 'clap:x'; expected one of zoo:NAME, open_clip:ARCH@TAG"),
        ("open_clip:", r"unknown encoder 'open_clip:'; expected one of"),
        ("open_clip:ViT-B-23@openai", r"open_clip has no architecture 'ViT-B-23'; near names: .*ViT-B-32"),
        ("open_clip:RN50@opnai", r"open_clip:RN50 needs @TAG or @CHECKPOINT, got 'opnai', .*tags: .*openai"),
        ("open_clip:RN50", r"open_clip:RN50 needs @TAG or @CHECKPOINT, got ''"),
    ],
)
def test_unknown_names_are_refused(name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        load_encoder(name, "cpu")


def test_folders_without_their_files_are_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no open_clip_model\.safetensors; expected a folder in open_clip's"):
        load_encoder(f"open_clip:local-dir:{tmp_path}", "cpu")
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    for name in (f"open_clip:local-dir:{tmp_path}", f"onnx:{tmp_path}"):
        with pytest.raises(InputError, match=r"holds no open_clip_config\.json; expected a folder"):
            load_encoder(name, "cpu")
    with pytest.raises(InputError, match=r"holds no image\.onnx; expected a folder written by an ONNX export"):
        load_encoder(f"onnx:{tiny_encoder}", "cpu")


def test_runtimes_are_checked(original, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="runtime must be one of torch, onnx, got 'tflite'"):
        save_encoder(original, tmp_path / "encoder", "tflite")


def test_a_string_is_one_text_and_tokens_are_taken(original) -> None:
    tokens = original.tokenize("a dog")
    assert torch.equal(tokens, original.tokenize(["a dog"]))
    assert torch.equal(original.encode_text("a dog"), original.encode_text(["a dog"]))
    assert torch.equal(original.encode_text(tokens), original.encode_text(["a dog"]))


def test_the_encoder_is_a_module_that_moves_as_a_whole(original) -> None:
    assert original.device == torch.device("cpu")
    assert {id(p) for p in original.parameters()} == {id(p) for p in original.model.parameters()}
    assert not any(p.requires_grad for p in original.parameters())


def test_a_model_made_in_python_is_wrapped(architecture: str, original, picture: Image.Image, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = open_clip.create_model(architecture, str(save_weights(original, tmp_path)), weights_only=True)
    with torch.no_grad():
        model.logit_scale.add_(0.1)
        model.text_projection.mul_(1.5)  # trained further
    encoder = wrap_open_clip(model, architecture)
    assert (encoder.name, encoder.runtime, model.training) == (f"own:{architecture}", "torch", False)
    assert torch.equal(
        encoder.encode_text("a dog"), model.encode_text(open_clip.get_tokenizer(architecture)(["a dog"]))
    )
    assert not torch.equal(encoder.encode_text("a dog"), original.encode_text("a dog"))
    save_encoder(encoder, tmp_path / "encoder", "torch")
    check_equal(read_encoder(tmp_path / "encoder", torch.device("cpu")), encoder, picture)
    with pytest.raises(InputError, match=r"the model is no open_clip RN50: its weights differ in .* and \d+ more"):
        wrap_open_clip(model, "RN50")
    with pytest.raises(InputError, match=r"open_clip has no architecture 'RN-51'; near names: .*RN50"):
        wrap_open_clip(model, "RN/51")
    with pytest.raises(
        InputError, match=r"expected a model of open_clip, as open_clip\.create_model makes it, got Linear"
    ):
        wrap_open_clip(torch.nn.Linear(2, 2), architecture)


def save_weights(encoder: OpenClipEncoder, directory: Path) -> Path:
    save_file(encoder.model.state_dict(), directory / "weights.safetensors")
    return directory / "weights.safetensors"


@pytest.mark.parametrize(
    ("name", "architecture", "tag"),
    [
        ("clip:ViT-B/32", "ViT-B-32", "openai"),
        ("clip:ViT-B/16", "ViT-B-16", "openai"),
        ("clip:RN50", "RN50", "openai"),
        ("open_clip:ViT-B-32", "ViT-B-32", "laion2b_s34b_b79k"),
    ],
)
def test_names_of_the_published_splice(name: str, architecture: str, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are not here, so the test ends where open_clip would download them."""

    def create(model_name: str, pretrained: str, **options: Any) -> None:
        raise RuntimeError(f"{model_name} {pretrained} {options['force_quick_gelu']}")

    monkeypatch.setattr(open_clip, "create_model", create)
    for load in (load_encoder, load_network):
        with pytest.raises(ConceptryError, match=f"downloaded or read: {architecture} {tag} {tag == 'openai'}$"):
            load(name, "cpu")
