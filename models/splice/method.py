"""SpLiCE as a method of the registry: what a version of it consists of, and how it is built and read.

A package folder holds `config.json` (hyperparameters), `vocabulary.txt`, `splice.safetensors` (dictionary and
means) and `encoder/` (configuration, tokeniser and weights of the encoder).
"""

import hashlib
from dataclasses import asdict
from pathlib import Path

import torch

from conceptry.models.encoders.load import load_encoder, read_encoder, save_encoder
from conceptry.models.images import example_picture
from conceptry.models.manifest import read_json, sha256_file, write_json, write_lines
from conceptry.models.method import Method, Package
from conceptry.models.splice.dictionary import (
    centred_dictionary,
    default_image_mean,
    embed_words,
    load_image_mean,
    load_text_mean,
)
from conceptry.models.splice.model import Splice
from conceptry.models.splice.settings import SpliceOptions
from conceptry.models.splice.vocabulary import load_vocabulary

CONFIG, VOCABULARY, TENSORS, ENCODER = "config.json", "vocabulary.txt", "splice.safetensors", "encoder"


def build(options: SpliceOptions, directory: Path) -> Package:
    """Embed the vocabulary, gather encoder and means, and write the package folder."""
    from safetensors.torch import save_file

    words = load_vocabulary(options.vocabulary, options.vocabulary_size)
    encoder = load_encoder(options.encoder, "auto")
    dictionary, text_mean = centred_dictionary(embed_words(encoder, words), words)
    image_mean = load_image_mean(options.image_mean or default_image_mean(encoder.name), encoder)
    if options.text_mean:
        text_mean = load_text_mean(options.text_mean, encoder)
    # Refuses means of another width before anything is written.
    Splice(None, words, dictionary, image_mean, text_mean)

    save_encoder(encoder, directory / ENCODER, options.runtime)
    write_lines(directory / VOCABULARY, words)
    tensors = {"dictionary": dictionary, "image_mean": image_mean, "text_mean": text_mean}
    save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, str(directory / TENSORS))
    config = {"l1_penalty": options.l1_penalty, "solver": options.solver, "tolerance": options.tolerance}
    write_json(directory / CONFIG, config)

    params = {k: v for k, v in asdict(options).items() if v is not None}
    params |= {"vocabulary_size": len(words), "embedding_dim": dictionary.shape[1]}
    tags = {"encoder": encoder.name, "encoder_sha256": _encoder_digest(directory / ENCODER)}
    requirements = [
        "numba",
        "numpy",
        "open_clip_torch",
        "pandas",
        "pillow",
        "safetensors",
        "torch",
        "torchvision",
    ]
    if options.runtime == "onnx":
        requirements.append("onnxruntime")
    if options.solver == "sklearn":
        requirements.append("scikit-learn")
    return Package(params, tags, {"image": [example_picture()]}, tuple(requirements))


def read_package(directory: Path, device: torch.device) -> Splice:
    """The model that `build` wrote."""
    from safetensors.torch import load_file

    tensors = load_file(str(directory / TENSORS), device=str(device))
    config = read_json(directory / CONFIG)
    words = (directory / VOCABULARY).read_text(encoding="utf-8").splitlines()
    encoder = read_encoder(directory / ENCODER, device)
    return Splice(encoder, words, tensors["dictionary"], tensors["image_mean"], tensors["text_mean"], **config)


def _encoder_digest(directory: Path) -> str:
    """SHA-256 over the sorted SHA-256 digests, in hexadecimal, of the .safetensors or .onnx files of the encoder.

    It covers the weights as they are stored, for ONNX the graphs too, but neither preprocessing nor tokeniser. The
    torch and the ONNX form of one network differ in it; versions of one form that differ in vocabulary, means or
    hyperparameters agree.
    """
    digests = sorted(sha256_file(p) for p in directory.iterdir() if p.suffix in (".safetensors", ".onnx"))
    return hashlib.sha256("".join(digests).encode()).hexdigest()


METHOD = Method(
    name="splice",
    options=SpliceOptions,
    build=build,
    read=read_package,
    explainer="conceptry.models.splice.pyfunc:SpliceExplainer",
)
