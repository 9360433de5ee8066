"""Encoders whose tokeniser is one of Hugging Face, as SigLIP's and CLIPA's: a tiny one, made here."""

import json
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from conceptry.models.encoders.load import load_encoder, read_encoder, save_encoder
from conceptry.models.encoders.protocol import encode_texts
from conceptry.models.encoders.weights import build_model
from conceptry.models.errors import ConceptryError
from conceptry.models.images import png_bytes
from conceptry.registry import load, register

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", "dog", "cat", "red")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained encoder with the custom text tower of SigLIP and a tokeniser of whole words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    directory = tmp_path_factory.mktemp("hugging-face")
    words = Tokenizer(models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.normalizer, words.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(directory)
    config = {
        "embed_dim": 32,
        "custom_text": True,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8},
        "text_cfg": {
            "context_length": 8,
            "vocab_size": len(WORDS),
            "hf_tokenizer_name": "nobody/tiny",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "width": 32,
            "heads": 2,
            "layers": 1,
            "pool_type": "last",
            "no_causal_mask": True,
        },
    }
    (directory / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    state = build_model(config, "tiny").state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, str(directory / "open_clip_model.safetensors"))
    save_file({"image_mean": torch.zeros(32)}, str(directory / "image_mean.safetensors"))
    return directory


def test_its_own_tokeniser_reads_the_texts_and_goes_with_a_copy(folder: Path, tmp_path: Path) -> None:
    encoder = load_encoder(f"open_clip:local-dir:{folder}", "cpu")
    tokens = encoder.tokenize(["A photo, of a DOG", "red zebra"])  # type: ignore[attr-defined]  # of open_clip's
    assert tokens.tolist() == [[2, 4, 5, 6, 4, 7, 3, 0], [2, 9, 1, 3, 0, 0, 0, 0]]
    save_encoder(encoder, tmp_path / "copy", "torch")
    again = read_encoder(tmp_path / "copy", torch.device("cpu"))
    assert torch.equal(encode_texts(again, ["a cat"]), encode_texts(encoder, ["a cat"]))


def test_a_version_of_it_requires_transformers_and_answers(
    store: str, folder: Path, picture: Image.Image, tmp_path: Path
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("dog\ncat\nred\n")
    options = {"encoder": f"open_clip:local-dir:{folder}", "vocabulary": str(words)}
    version = register("splice", options, name="hugging-face").version
    requirements = Path(mlflow.pyfunc.get_model_dependencies(version.uri)).read_text().splitlines()
    assert any(line.startswith("transformers==") for line in requirements)
    answer = load(version.uri).predict(pd.DataFrame({"image": [png_bytes(picture)]}))
    assert np.isfinite(answer["cosine"]).all()


def test_a_damaged_tokeniser_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    encoder = load_encoder(f"open_clip:local-dir:{folder}", "cpu")
    encoder.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ConceptryError, match="its Hugging Face tokeniser cannot be downloaded or read"):
        load_encoder(f"open_clip:local-dir:{tmp_path}", "cpu")
