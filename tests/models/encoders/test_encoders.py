"""Encoders by name: folders, checkpoints of a built-in architecture, round trips, and every refusal."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from conceptry.models.encoders.clip import OpenClipEncoder, wrap_open_clip
from conceptry.models.encoders.load import load_encoder, read_encoder, save_encoder
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
    for file in ("evil.pt", "other.pt"):
        with pytest.raises(ConceptryError, match=rf"tiny-arch-64@.*{file} is not a checkpoint of this architecture: "):
            load_encoder(f"open_clip:{architecture}@{tmp_path / file}", "cpu")
    assert not (tmp_path / "executed").exists()


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
