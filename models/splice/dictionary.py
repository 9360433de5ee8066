"""The dictionary C and the modality means: what turns a CLIP space into one where a sparse code makes sense.

Bhalla et al., "Interpreting CLIP with Sparse Linear Concept Embeddings (SpLiCE)", 2024, arXiv:2402.10376.

| symbol | meaning | shape |
|---|---|---|
| e_i | unit-norm text embedding of concept i | (d,) |
| mu_text | mean of the e_i over the vocabulary | (d,) |
| C | rows normalise(e_i - mu_text) | (words, d) |
| mu_img | mean of unit-norm image embeddings of a reference set | (d,) |
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from conceptry.models.downloads import RemoteFile, fetch
from conceptry.models.encoders.load import load_encoder
from conceptry.models.encoders.protocol import DualEncoder, PackagedEncoder, encode_images, encode_texts, takes_texts
from conceptry.models.errors import InputError, VocabularyWarning
from conceptry.models.images import image_files, open_image
from conceptry.models.manifest import read_text
from conceptry.models.splice.vocabulary import last_words, load_vocabulary

_EQUAL = 1e-5  # how far apart, in units of their norm, atoms are that only rounding distinguishes
_TENSORS = (".safetensors", ".pt", ".pth", ".npy")
IMAGE_MEAN = "image_mean.safetensors"
_REPOSITORY = "https://raw.githubusercontent.com/AI4LIFE-GROUP/SpLiCE/main/data/means"
PUBLISHED_MEANS = {
    "open_clip:ViT-B-32@laion2b_s34b_b79k": RemoteFile(
        f"{_REPOSITORY}/open_clip_ViT-B-32_image.pt",
        "6b91c6d0e9006e27dfb6f13e6d25a90c5ff24eb14e4ee60cf064a7ddf9f646b7",
    ),
    "open_clip:ViT-B-32@openai": RemoteFile(
        f"{_REPOSITORY}/clip_ViT-B-32_image.pt",
        "dbd73aec9162cc26d3850c042b2a035720c1f6d38fc0b64a73518995f884202b",
    ),
    "open_clip:ViT-B-16@openai": RemoteFile(
        f"{_REPOSITORY}/clip_ViT-B-16_image.pt",
        "2907555438ef16b4677cb72ad81b3c3fe8c9246028714e943dba6c3b91d67eee",
    ),
    "open_clip:RN50@openai": RemoteFile(
        f"{_REPOSITORY}/clip_RN50_image.pt",
        "e1ee3345ef6faf6f8ebc30f649189bf4e583fe71229b2955e227cf59124d42fa",
    ),
}


class TextEncoder(Protocol):
    """The half of a dual encoder that a dictionary needs."""

    def encode_text(self, texts: Sequence[str], /) -> Tensor: ...


def build_dictionary(encoder: TextEncoder, words: Sequence[str], batch_size: int = 256) -> Tensor:
    """The centred, unit-norm dictionary (words, d), float32; the words are embedded `batch_size` at a time.

    Raises InputError where a word's embedding is not finite, is zero, or equals the mean of all (as the embedding
    of a single word does): such a word has no direction left after centring.
    """
    return centred_dictionary(embed_words(encoder, words, batch_size), words)[0]


def embed_words(encoder: TextEncoder, words: Sequence[str], batch_size: int = 256) -> Tensor:
    """Embeddings (words, d) as the encoder gives them, float32."""
    if isinstance(words, str):
        raise InputError(f"expected several words, got the one text {words!r}; put it into a list")
    if not words:
        raise InputError("the vocabulary is empty; expected at least two words")
    embeddings = encode_texts(takes_texts(encoder), list(words), batch_size)  # type: ignore[arg-type]  # only encode_text is used
    if embeddings.ndim != 2 or embeddings.shape[0] != len(words):
        raise InputError(
            f"encode_text must return ({len(words)}, d) embeddings for {len(words)} texts, "
            f"got shape {tuple(embeddings.shape)}"
        )
    return embeddings


def centred_dictionary(embeddings: Tensor, words: Sequence[str]) -> tuple[Tensor, Tensor]:
    """From raw embeddings (words, d) to the dictionary C (words, d) and mu_text (d,)."""
    _check_rows(embeddings, words, "has an embedding that is zero or not finite")
    unit = normalize(embeddings, dim=1)
    text_mean = unit.mean(dim=0)
    centred = unit - text_mean
    _check_rows(
        torch.where(centred.norm(dim=1, keepdim=True) > 1e-6, centred, 0.0),
        words,
        "equals the mean of the vocabulary; at least two different words are needed",
    )
    return normalize(centred, dim=1), text_mean


def distinct_atoms(dictionary: Tensor) -> tuple[Tensor, Tensor]:
    """The atoms that a decomposition needs, and the one that stands for each: (kept,), ascending, and (words,).

    Words that a tokeniser cannot tell apart, such as Dog and dog, have equal embeddings, up to rounding. Weights could
    be shared out among them at will; so the last one, the more important of a vocabulary, stands for all.
    """
    C = dictionary.detach().double().cpu()
    if not len(C):
        return torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    # Equal rows lie beside each other along any direction.
    order = (C @ torch.randn(C.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)).argsort()
    nearest = C[order].diff(dim=0).norm(dim=1)
    group = torch.cat([torch.zeros(1), (nearest > _EQUAL * C[order[1:]].norm(dim=1)).cumsum(0)]).long()
    last = torch.full((int(group[-1]) + 1,), -1).scatter_reduce(0, group, order, "amax")
    stands = torch.empty_like(order)
    stands[order] = last[group]
    return last.sort().values, stands


def mean_embedding(embeddings: Tensor) -> Tensor:
    """The mean (d,) of the unit-norm versions of `embeddings` (n, d)."""
    if embeddings.ndim != 2 or not len(embeddings):
        raise InputError(f"a mean needs (n, d) embeddings with n > 0, got shape {tuple(embeddings.shape)}")
    return normalize(embeddings, dim=1).mean(dim=0)


@dataclass(frozen=True)
class Parts:
    """What a SpLiCE model is made of.

    sources: by part, how a version calls it: the name or path that it came by, None for what was computed from other
    parts. Parts that were handed in as they are, are left out.
    """

    encoder: DualEncoder | None
    words: list[str]
    dictionary: Tensor
    image_mean: Tensor | None
    text_mean: Tensor | None
    sources: dict[str, str | None]


def gather_parts(
    encoder: str | DualEncoder | None,
    vocabulary: str | Path | Sequence[str],
    dictionary: Tensor | None,
    image_mean: Tensor | str | Path | None,
    text_mean: Tensor | str | Path | None,
    vocabulary_size: int | None,
    device: str | torch.device,
    download_root: str | Path | None,
) -> Parts:
    """Load the parts that are named, compute those that are left out, and check that they fit; see `Splice`."""
    if isinstance(vocabulary, (str, Path)) or dictionary is None:
        words = load_vocabulary(vocabulary, vocabulary_size, download_root=download_root)
    else:
        words = last_words(list(vocabulary), vocabulary_size, "the vocabulary")
    named = {"encoder": encoder, "vocabulary": vocabulary, "image_mean": image_mean, "text_mean": text_mean}
    sources: dict[str, str | None] = {k: str(v) for k, v in named.items() if isinstance(v, (str, Path))}
    if isinstance(encoder, str):
        encoder = load_encoder(encoder, device, download_root=download_root)
    if dictionary is None:
        if encoder is None:
            raise InputError("without an encoder the dictionary cannot be computed; give dictionary, (words, d)")
        dictionary, vocabulary_mean = centred_dictionary(embed_words(encoder, words), words)
        _tell_twins(dictionary, words)
        sources["dictionary"] = None
        if text_mean is None:
            text_mean, sources["text_mean"] = vocabulary_mean, None
        if image_mean is None:
            name = getattr(encoder, "name", f"the encoder, of class {type(encoder).__name__},")
            image_mean, sources["image_mean"] = default_image_mean(name), None
    if len(words) != len(dictionary):
        raise InputError(
            f"the vocabulary has {len(words)} words, the dictionary {len(dictionary)} rows; they must agree"
        )
    if encoder is None and any(isinstance(mean, (str, Path)) for mean in (image_mean, text_mean)):
        raise InputError("without an encoder a mean must be a tensor (d,)")
    known: Any = encoder
    if isinstance(image_mean, (str, Path)):
        image_mean = load_image_mean(str(image_mean), known, download_root=download_root)
    if isinstance(text_mean, (str, Path)):
        text_mean = load_text_mean(str(text_mean), known)
    dictionary = dictionary.detach()
    return Parts(
        encoder,
        words,
        dictionary,
        _checked_mean("image_mean", image_mean, dictionary),
        _checked_mean("text_mean", text_mean, dictionary),
        sources,
    )


def _tell_twins(dictionary: Tensor, words: Sequence[str]) -> None:
    _kept, stands = distinct_atoms(dictionary)
    twins = [(words[i], words[j]) for i, j in enumerate(stands.tolist()) if i != j]
    if twins:
        named = ", ".join(f"{word!r} is {other!r}" for word, other in twins[:3])
        warnings.warn(
            f"{len(twins)} of {len(words)} words have the embedding of another to this encoder: {named}"
            f"{', ...' if len(twins) > 3 else ''}; answers name the last one",
            VocabularyWarning,
            stacklevel=5,
        )


def _checked_mean(name: str, mean: Tensor | None, dictionary: Tensor) -> Tensor | None:
    d = dictionary.shape[1]
    if mean is None:
        return None
    if mean.numel() != d or mean.shape[-1] != d:  # published means have a leading dimension of 1
        raise InputError(f"{name} must have shape ({d},) as the dictionary, got {tuple(mean.shape)}")
    return mean.detach().reshape(d).to(dictionary)


def default_image_mean(encoder_name: str) -> str:
    """Where `load_image_mean` finds the mean of an encoder that ships or is published with one; else InputError."""
    if encoder_name in PUBLISHED_MEANS:
        return "published"
    folder = None
    if encoder_name.startswith("zoo:"):
        from conceptry.models.shipped import weights_directory

        folder = weights_directory(encoder_name.removeprefix("zoo:"))
    else:
        schemes = ("open_clip:local-dir:", "conse:", "textunlock:", "onnx:")
        folder = next((Path(encoder_name.removeprefix(s)) for s in schemes if encoder_name.startswith(s)), None)
    if folder is not None and (folder / IMAGE_MEAN).is_file():
        return str(folder / IMAGE_MEAN)
    raise InputError(
        f"{encoder_name} has no known image mean; give image_mean as a folder of pictures or a .safetensors or .pt file"
    )


def load_image_mean(source: str, encoder: PackagedEncoder, *, download_root: str | Path | None = None) -> Tensor:
    """mu_img (d,) from "published" (the file of SpLiCE's authors for this encoder), a file, or a folder of pictures.

    A file is .safetensors with one tensor, .npy, or .pt with a tensor that `torch.load(weights_only=True)` accepts.
    `download_root`: the folder for published means, instead of the user's cache.
    """
    if source == "published":
        if encoder.name not in PUBLISHED_MEANS:
            raise InputError(
                f"no image mean is published for {encoder.name}; there is one for {', '.join(PUBLISHED_MEANS)}"
            )
        return load_mean_file(fetch(PUBLISHED_MEANS[encoder.name], download_root))
    path = Path(source)
    if path.is_dir():
        # One batch at a time: a folder may hold more pictures than memory does.
        files, total = image_files(path), torch.zeros(())
        for start in range(0, len(files), 64):
            batch = encode_images(encoder, map(open_image, files[start : start + 64]))
            total = total + normalize(batch, dim=1).sum(dim=0).double().cpu()
        return (total / len(files)).float()
    return load_mean_file(path)


def load_text_mean(source: str, encoder: PackagedEncoder) -> Tensor:
    """mu_text (d,) from a file as `load_mean_file` reads it, or from a text file with one caption a line."""
    path = Path(source)
    if path.suffix.lower() in _TENSORS:
        return load_mean_file(path)
    if not path.is_file():
        raise InputError(
            f"text_mean {source!r} is no file; expected one of {', '.join(_TENSORS)} or a text file of captions"
        )
    captions = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not captions:
        raise InputError(f"{path}: holds no captions; expected one a line")
    return mean_embedding(embed_words(encoder, captions)).cpu()


def load_mean_file(path: Path) -> Tensor:
    """A single vector (d,), float32 on the CPU, from .safetensors, .npy, or what `torch.save` wrote; runs no code."""
    if not path.is_file():
        raise InputError(f"mean {str(path)!r} is neither a folder nor a file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            (mean,) = load_file(str(path)).values()
        elif path.suffix.lower() == ".npy":
            mean = torch.from_numpy(np.load(path, allow_pickle=False))
        else:
            # Published means are CUDA tensors with a leading dimension of 1.
            mean = torch.load(path, map_location="cpu", weights_only=True)
        mean = mean.detach().float().squeeze()
    except Exception as error:  # both readers raise many types on files that are something else
        raise InputError(
            f"{path}: expected a file with one tensor, {', '.join(_TENSORS)} ({type(error).__name__})"
        ) from None
    if mean.ndim != 1 or not torch.isfinite(mean).all():
        raise InputError(f"{path}: expected one finite vector (d,), got shape {tuple(mean.shape)}")
    return mean


def _check_rows(rows: Tensor, words: Sequence[str], problem: str) -> None:
    bad = ~torch.isfinite(rows).all(dim=1) | (rows == 0).all(dim=1)
    if bad.any():
        index = int(bad.nonzero()[0])
        raise InputError(f"vocabulary word {words[index]!r} (number {index + 1}) {problem}")
