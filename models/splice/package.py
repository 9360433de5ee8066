"""The folder that a SpLiCE version consists of.

| file | what |
|---|---|
| `config.json` | hyperparameters |
| `vocabulary.txt` | the words, one a line |
| `splice.safetensors` | dictionary and means |
| `encoder/` | configuration, tokeniser and weights of the encoder |
"""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from conceptry.models.encoders.load import read_encoder, save_encoder
from conceptry.models.encoders.processing import requirements_of
from conceptry.models.encoders.protocol import PackagedEncoder
from conceptry.models.errors import InputError
from conceptry.models.images import example_image
from conceptry.models.manifest import files_in, read_json, sha256_file, write_json, write_lines
from conceptry.models.method import Package, contents_of
from conceptry.models.splice.model import Splice
from conceptry.models.splice.vocabulary import NAMES

CONFIG, VOCABULARY, TENSORS, ENCODER = "config.json", "vocabulary.txt", "splice.safetensors", "encoder"
REQUIREMENTS = ("numba", "numpy", "open_clip_torch", "pandas", "pillow", "safetensors", "torch", "torchvision")


def write_package(splice: Splice, directory: Path, runtime: str | None = None) -> Package:
    """Write the folder; runtime: what runs the networks of the encoder, by default what runs them now.

    Raises InputError for an encoder that cannot be written.
    """
    from safetensors.torch import save_file

    encoder = _packaged(splice.encoder)
    if broken := next((word for word in splice.vocabulary if word.splitlines() != [word]), None):
        raise InputError(f"the word {broken!r} breaks the line, and a version keeps its vocabulary one word a line")
    runtime = runtime or encoder.runtime
    save_encoder(encoder, directory / ENCODER, runtime)
    write_lines(directory / VOCABULARY, splice.vocabulary)
    tensors = {"dictionary": splice.dictionary, "image_mean": splice.image_mean, "text_mean": splice.text_mean}
    # Clones: one tensor may be the mean of both, and safetensors stores no tensor twice.
    known = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items() if tensor is not None}
    save_file(known, str(directory / TENSORS))
    config = {"l1_penalty": splice.l1_penalty, "solver": splice.solver, "tolerance": splice.tolerance}
    write_json(directory / CONFIG, config)

    # Parts that came as they are have no name; a digest tells them apart where versions are compared.
    named = {
        "encoder": encoder.name,
        "vocabulary": f"words#{_digest(chr(10).join(splice.vocabulary).encode())}",
        **{name: f"own#{_digest(tensor.numpy().tobytes())}" for name, tensor in known.items()},
    } | splice.sources
    params: dict[str, str | int | float] = {name: value for name, value in named.items() if value is not None}
    params |= config | {
        "runtime": runtime,
        "vocabulary_size": len(splice.vocabulary),
        "embedding_dim": splice.dictionary.shape[1],
    }
    tags = {"encoder": encoder.name, "encoder_sha256": _encoder_digest(directory / ENCODER)}
    requirements = [*REQUIREMENTS, *requirements_of(directory)]
    if runtime == "onnx":
        requirements.append("onnxruntime")
    if splice.solver == "sklearn":
        requirements.append("scikit-learn")
    digests: dict[str, str | None] = {name: _sha256(tensor.numpy().tobytes()) for name, tensor in known.items()}
    digests |= {"encoder": tags["encoder_sha256"], "vocabulary": _sha256("\n".join(splice.vocabulary).encode())}
    contents = contents_of({name: (value, digests.get(name)) for name, value in splice.sources.items()}, NAMES)
    return Package(params, tags, {"image": [example_image()]}, tuple(dict.fromkeys(requirements)), contents=contents)


def read_package(directory: Path, device: torch.device) -> Splice:
    """The explainer that `write_package` wrote."""
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = load_file(str(directory / TENSORS), device=str(device))
    words = (directory / VOCABULARY).read_text(encoding="utf-8").splitlines()
    return Splice(read_encoder(directory / ENCODER, device), words, **tensors, **read_json(directory / CONFIG))


def _packaged(encoder: object) -> PackagedEncoder:
    if encoder is None:
        raise InputError("a version carries its encoder, and this model has none; give Splice an encoder")
    if not isinstance(encoder, PackagedEncoder):
        raise InputError(
            f"a version carries its encoder, and one of class {type(encoder).__name__} cannot be written to a folder; "
            "name an encoder, or wrap an open_clip model by conceptry.models.encoders.wrap_open_clip"
        )
    return encoder


def _digest(content: bytes) -> str:
    return _sha256(content)[:8]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _encoder_digest(directory: Path) -> str:
    """SHA-256 over the sorted SHA-256 digests, in hexadecimal, of the .safetensors or .onnx files of the encoder.

    It covers the weights as they are stored, for ONNX the graphs too, but neither preprocessing nor tokeniser. The
    torch and the ONNX form of one network differ in it; versions of one form that differ in vocabulary, means or
    hyperparameters agree.
    """
    digests = sorted(sha256_file(p) for p in files_in(directory) if p.suffix in (".safetensors", ".onnx"))
    return hashlib.sha256("".join(digests).encode()).hexdigest()
