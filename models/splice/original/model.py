"""The class SPLICE, and `load`, as their users know them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from conceptry.models.devices import resolve_device
from conceptry.models.encoders.load import ALIASES, load_encoder
from conceptry.models.splice.decomposition import unit_embeddings
from conceptry.models.splice.dictionary import PUBLISHED_MEANS
from conceptry.models.splice.model import Splice
from conceptry.models.splice.vocabulary import load_vocabulary

_SOLVERS = {"skl": "sklearn"}  # the published names that differ


class SPLICE(Splice):
    """SpLiCE as its users know it.

    Args:
        image_mean: (d,), mean of unit-norm image embeddings.
        dictionary: (words, d), centred and of unit norm.
        clip: an object with `encode_image` and `encode_text`; None where embeddings are given instead of images.
        solver: "active_set" (exact, fast), "skl" or "admm"; one meaning of the penalty for all.
        l1_penalty: lambda, as published for the solver "skl".
        return_weights: whether weights (batch, words) are returned rather than dense embeddings (batch, d).
        return_cosine: whether `encode_image` returns a pair, whose second entry is the sum of the cosines of z and
            z_hat over the batch.
        decomp_text: whether `encode_text` decomposes; that needs a `text_mean`.
        text_mean: (d,), mean of unit-norm text embeddings.
        device: where everything goes: cpu, cuda or cuda:INDEX.
        vocabulary: the words of the dictionary; without them, words go by their position.
        tolerance: largest duality gap of a converged solve.

    Example:
        >>> import torch
        >>> from conceptry.models import splice
        >>> dictionary = torch.eye(4)[:3]
        >>> model = splice.SPLICE(torch.zeros(4), dictionary, l1_penalty=0.2, return_weights=True)
        >>> model.encode_image(torch.tensor([[3.0, 4.0, 0.0, 0.0]]))
        tensor([[0.5000, 0.7000, 0.0000]])
    """

    def __init__(
        self,
        image_mean: Tensor | None,
        dictionary: Tensor,
        clip: Any = None,
        solver: str = "active_set",
        l1_penalty: float = 0.01,
        return_weights: bool = False,
        return_cosine: bool = False,
        decomp_text: bool = False,
        text_mean: Tensor | None = None,
        device: str | torch.device = "cpu",
        *,
        vocabulary: Sequence[str] | None = None,
        tolerance: float = 1e-6,
    ) -> None:
        super().__init__(
            clip,
            [str(i) for i in range(len(dictionary))] if vocabulary is None else vocabulary,
            dictionary,
            image_mean,
            text_mean,
            l1_penalty=l1_penalty,
            solver=_SOLVERS.get(solver, solver),
            tolerance=tolerance,
            return_weights=return_weights,
        )
        self.return_cosine = return_cosine
        self.decomp_text = decomp_text
        self.to(resolve_device(str(device)))

    @property
    def clip(self) -> Any:
        """The network behind the encoder, or the encoder where it is none of conceptry's; None without one."""
        network = getattr(self.encoder, "model", None)
        return network if isinstance(network, nn.Module) else self.encoder

    def decompose(  # pyright: ignore[reportIncompatibleMethodOverride]  # as published; see the table above
        self, embedding: Tensor
    ) -> Tensor:
        """Decompose embeddings (batch, d), centred and of unit norm, into dense weights (batch, words).

        Raises InputError naming the first row that is not of unit norm, as the encoder's own output.
        """
        return super().decompose(embedding, centred=True).to_dense()

    def encode_image(self, image: Tensor) -> Any:
        """Encode preprocessed images as z_hat (batch, d) or weights (batch, words), with `return_cosine` in a pair."""
        found = self.explain(self.embed_image(image), "image")
        answer = found.decomposition.to_dense() if self.return_weights else found.recomposed
        return (answer, found.cosine.sum()) if self.return_cosine else answer

    def encode_text(self, text: str | Sequence[str] | Tensor) -> Tensor:
        """Encode tokens or texts: unit embeddings (batch, d), with `decomp_text` z_hat or weights (batch, words)."""
        if self.decomp_text:
            return super().encode_text(text)
        return unit_embeddings(self.embed_text(text), self.dictionary)


def available_models() -> list[str]:
    """Encoders that `load` takes without an `image_mean`; any other open_clip name works with one."""
    return ["zoo:emoji-clip", "zoo:photos", *PUBLISHED_MEANS, *ALIASES]


def get_preprocess(name: str) -> Callable[[Image.Image], Tensor]:
    """The preprocessing of an encoder: RGB picture to pixels (3, height, width). Loads the encoder."""
    return load_encoder(name, "cpu").preprocess


def get_tokenizer(name: str) -> Callable[[str | Sequence[str]], Tensor]:
    """The tokeniser of an encoder: a string or n of them to token ids (n, context). Loads the encoder."""
    return load_encoder(name, "cpu").tokenize  # type: ignore[attr-defined]  # all built-in encoders have it


def get_vocabulary(name: str, vocabulary_size: int | None = None, download_root: str | Path | None = None) -> list[str]:
    """Load a vocabulary as `load_vocabulary` does, by its published name; -1 keeps all words."""
    return load_vocabulary(name, None if vocabulary_size == -1 else vocabulary_size, download_root=download_root)


def load(
    name: str = "zoo:emoji-clip",
    vocabulary: str | Path | Sequence[str] | None = None,
    vocabulary_size: int | None = None,
    device: str | torch.device | None = "auto",
    download_root: str | Path | None = None,
    *,
    image_mean: Tensor | str | None = None,
    text_mean: Tensor | str | None = None,
    l1_penalty: float | None = None,
    solver: str = "active_set",
    tolerance: float = 1e-6,
    return_weights: bool = False,
    return_cosine: bool = False,
    decomp_text: bool = False,
) -> SPLICE:
    """A SpLiCE model as its users know it, by the names of an encoder and a vocabulary.

    Args:
        name: an encoder, such as "open_clip:ViT-B-32", "clip:ViT-B/16", "zoo:photos" or "zoo:emoji-clip".
        vocabulary: a name, a text file with one entry a line, or the words; by default that of the encoder, else
            "emoji".
        vocabulary_size: keep the last (most important) words only; None or -1 keeps all.
        device: auto, cpu, cuda or cuda:INDEX; None is auto.
        download_root: the folder for published weights, vocabularies and means, instead of the caches of open_clip and
            of conceptry.
        image_mean: a tensor (d,), "published", a file or a folder of images; by default what ships with the encoder,
            else "published".
        text_mean: a tensor (d,), a file, or a text file of captions; by default the mean of the vocabulary.
        l1_penalty: as `SPLICE` takes it; by default that of the encoder, .45 for "zoo:photos", else .25.
        solver, tolerance, return_weights, return_cosine, decomp_text: as `SPLICE` takes them.

    Returns:
        A `SPLICE`.

    Raises:
        InputError: where a name, a path or a size is not acceptable.

    Example:
        >>> from conceptry.models import splice
        >>> model = splice.load("zoo:emoji-clip", "emoji", -1, "cpu", l1_penalty=0.25, decomp_text=True)
        >>> model.return_weights = True
        >>> weights = model.encode_text("a dog")
        >>> model.vocabulary[int(weights.argmax())]
        'dog'
    """
    parts = Splice(
        name,
        vocabulary,
        image_mean=image_mean,
        text_mean=text_mean,
        vocabulary_size=None if vocabulary_size == -1 else vocabulary_size,
        device="auto" if device is None else device,
        download_root=download_root,
    )
    model = SPLICE(
        parts.image_mean,
        parts.dictionary,
        parts.encoder,
        solver,
        parts.l1_penalty if l1_penalty is None else l1_penalty,
        return_weights,
        return_cosine,
        decomp_text,
        parts.text_mean,
        parts.device,
        vocabulary=parts.vocabulary,
        tolerance=tolerance,
    )
    model.sources = parts.sources
    return model
