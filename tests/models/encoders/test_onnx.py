"""Exported towers: equal to torch, free of traces of the machine, and strict about a named device."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from preloaded import UNNEEDED, Preloaded
from torch.nn.functional import cosine_similarity

from conceptry.models.encoders.clip import OpenClipEncoder
from conceptry.models.encoders.load import load_encoder, read_encoder, save_encoder
from conceptry.models.encoders.onnx_runtime import TOWERS, OnnxEncoder, export_onnx
from conceptry.models.encoders.protocol import encode_images, encode_texts
from conceptry.models.encoders.tokens import END, START
from conceptry.models.errors import ConceptryError


@pytest.fixture(scope="module")
def original(tiny_encoder: Path) -> OpenClipEncoder:
    encoder = load_encoder(f"open_clip:local-dir:{tiny_encoder}", "cpu")
    assert isinstance(encoder, OpenClipEncoder)
    return encoder


@pytest.fixture(scope="module")
def exported(original: OpenClipEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exported") / "encoder"
    save_encoder(original, directory, "onnx")
    return directory


@pytest.mark.parametrize("n", [1, 2, 3, 7, 16])
def test_onnx_equals_torch_for_any_batch_size(original: OpenClipEncoder, exported: Path, n: int) -> None:
    encoder = read_encoder(exported, torch.device("cpu"))
    assert (encoder.name, encoder.runtime) == (original.name, "onnx")
    rng = np.random.default_rng(n)
    images = [Image.fromarray(rng.integers(0, 256, (50, 80, 3), dtype=np.uint8)) for _ in range(n)]
    texts = [f"a photo of {i} dogs" for i in range(n)]
    for ours, theirs in (
        (encode_images(encoder, images), encode_images(original, images)),
        (encode_texts(encoder, texts), encode_texts(original, texts)),
    ):
        assert ours.shape == theirs.shape == (n, 64)
        assert cosine_similarity(ours, theirs).min() >= 0.9999


def test_an_onnx_encoder_is_copied_as_it_is_and_loads_by_name(exported: Path, tmp_path: Path) -> None:
    encoder = load_encoder(f"onnx:{exported}", "cpu")
    save_encoder(encoder, tmp_path / "copy", "onnx")
    for tower in TOWERS:
        assert (tmp_path / "copy" / tower).read_bytes() == (exported / tower).read_bytes()


ENCODE = """
import sys, torch
from pathlib import Path
from PIL import Image
from conceptry.models.encoders.load import read_encoder
encoder = read_encoder(Path(sys.argv[1]), torch.device("cpu"))
assert encoder.encode_image(encoder.preprocess(Image.new("RGB", (80, 50), "red"))[None]).shape == (1, 64)
"""


def test_an_onnx_encoder_embeds_images_without_open_clip(exported: Path, bare: Preloaded, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "encoder")
    (tmp_path / "encoder" / "tokens.json").write_text(json.dumps({"bpe_ids": [START, END], "context_length": 16}))
    assert not bare.imported(ENCODE, str(tmp_path / "encoder")) & UNNEEDED - {"onnxruntime"}


def test_the_files_say_nothing_about_the_machine_and_are_reproducible(
    original: OpenClipEncoder, exported: Path, tmp_path: Path
) -> None:
    export_onnx(original, tmp_path)
    for tower in TOWERS:
        content = (exported / tower).read_bytes()
        assert content == (tmp_path / tower).read_bytes()
        model = onnx.load_from_string(content)
        for weights in model.graph.initializer:
            weights.ClearField("raw_data")  # random bytes may spell anything
        described = str(model)  # protobuf's text form
        for forbidden in ("/", ".py", "site-packages", "Traceback", "metadata_props", "doc_string"):
            assert forbidden not in described


def test_a_named_device_is_strict_and_auto_falls_back(
    exported: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    messages: list[str] = []  # taken at the source: other libraries of the suite reconfigure logging as a whole
    log = logging.getLogger("conceptry.models.encoders.onnx_runtime")
    monkeypatch.setattr(log, "warning", lambda message, *values: messages.append(message % values))
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a working CUDA provider")
    with pytest.raises(ConceptryError, match="no working CUDAExecutionProvider here; set device to cpu or auto"):
        OnnxEncoder("named", exported, torch.device("cuda", 0))
    encoder = OnnxEncoder("chosen by auto", exported, torch.device("cuda"))
    assert encoder.providers == ["CPUExecutionProvider"]
    assert "ONNX Runtime has no working CUDAExecutionProvider here; image.onnx runs on the CPU" in messages
