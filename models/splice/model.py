"""SpLiCE over a dual encoder: images, texts and embeddings to words and back.

Bhalla et al., "Interpreting CLIP with Sparse Linear Concept Embeddings (SpLiCE)", 2024, arXiv:2402.10376.

| symbol | meaning | shape |
|---|---|---|
| C | dictionary of centred unit-norm concept embeddings | (words, d) |
| mu | mean of the modality, of images or of text | (d,) |
| z | unit-norm embedding | (batch, d) |
| v | normalise(z - mu) | (batch, d) |
| w | concept weights, w >= 0 | (batch, words) |
| z_hat | normalise(normalise(w C) + mu) | (batch, d) |

Differences from the published implementation: every solve returns a duality gap and warns where it did not converge;
one meaning of the penalty for all solvers; w = 0 recomposes to the mean instead of NaN; words are embedded in batches;
means over a loader are exact whatever the batch sizes.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from conceptry.models.encoders.protocol import DualEncoder, takes_texts
from conceptry.models.errors import InputError, closest
from conceptry.models.method import Package
from conceptry.models.splice.decomposition import Decomposition, centred_embeddings, decompose, unit_embeddings
from conceptry.models.splice.dictionary import distinct_atoms, gather_parts
from conceptry.models.splice.explanation import Explanation, certainty
from conceptry.models.splice.inputs import Input, Modality, embed, modalities_of, read_inputs
from conceptry.models.splice.settings import defaults_of

PARAMETERS = ("modality", "l1_penalty", "suppress", "top_k", "return_embedding")


class Splice(nn.Module):
    """Explainer of the embeddings of a dual encoder in words of a vocabulary.

    What is not given is computed: the dictionary and the mean of texts from the vocabulary, the mean of images from
    what ships or is published with the encoder.

    Args:
        encoder: the name of an encoder (see `conceptry.models.encoders.load_encoder`), an object with `encode_image`
            and `encode_text`, or None where only embeddings are decomposed.
        vocabulary: the name of a vocabulary, a text file with one entry a line, or the words themselves; in the order
            of the rows of the dictionary where that is given. By default "photos" for the encoders zoo:photos and
            textunlock:FOLDER, else "emoji".
        dictionary: (words, d), centred and of unit norm, as `build_dictionary` gives it.
        image_mean: (d,), mean of unit-norm image embeddings, or its file, a folder of images, or "published".
        text_mean: (d,), mean of unit-norm text embeddings, or its file, or a text file of captions. Where a dictionary
            is given, a modality without a mean cannot be decomposed.
        vocabulary_size: keep the last (most important) words only; None keeps all.
        l1_penalty: lambda of `min_{w >= 0} ||v - C^T w||^2 + lambda ||w||_1`; higher gives fewer words. By default
            .45 for the encoders zoo:photos and textunlock:FOLDER, else .25.
        solver: "active_set", "admm" or "sklearn".
        tolerance: largest duality gap of a converged solve.
        return_weights: whether `encode_image`, `encode_text` and `intervene_image` return weights (batch, words)
            rather than z_hat.
        device: where an encoder that is named goes: auto, cpu, cuda or cuda:INDEX.
        download_root: the folder for downloaded weights, vocabularies and means, instead of the caches of open_clip
            and of conceptry.

    Raises:
        InputError: where a name or a path is unknown, parts do not fit each other, or a mean cannot be computed.

    Example:
        >>> import conceptry
        >>> splice = conceptry.Splice("zoo:emoji-clip", "emoji", l1_penalty=0.3, device="cpu")
        >>> found = splice.explain(["a dog", "a red background"], top_k=1)
        >>> [answer["concepts"][0]["concept"] for answer in found.answers()]
        ['dog', 'red']
    """

    method: ClassVar[str] = "splice"
    dictionary: Tensor
    _kept: Tensor | None
    image_mean: Tensor | None
    text_mean: Tensor | None

    def __init__(
        self,
        encoder: str | DualEncoder | None = "zoo:emoji-clip",
        vocabulary: str | Path | Sequence[str] | None = None,
        dictionary: Tensor | None = None,
        image_mean: Tensor | str | Path | None = None,
        text_mean: Tensor | str | Path | None = None,
        *,
        vocabulary_size: int | None = None,
        l1_penalty: float | None = None,
        solver: str = "active_set",
        tolerance: float = 1e-6,
        return_weights: bool = False,
        device: str | torch.device = "auto",
        download_root: str | Path | None = None,
    ) -> None:
        super().__init__()
        defaults = defaults_of(encoder)
        vocabulary = defaults.vocabulary if vocabulary is None else vocabulary
        parts = gather_parts(
            encoder, vocabulary, dictionary, image_mean, text_mean, vocabulary_size, device, download_root
        )
        self.encoder: Any = parts.encoder
        if isinstance(self.encoder, nn.Module):
            self.encoder.eval()
        self.vocabulary = parts.words
        self.register_buffer("dictionary", parts.dictionary)
        self.register_buffer("image_mean", parts.image_mean)
        self.register_buffer("text_mean", parts.text_mean)
        self.sources = parts.sources
        self.l1_penalty = defaults.l1_penalty if l1_penalty is None else l1_penalty
        self.solver = solver
        self.tolerance = tolerance
        self.return_weights = return_weights
        # _kept: a buffer, which moves with the dictionary; None where no two words are equal
        kept, self._stands = distinct_atoms(parts.dictionary)
        self.register_buffer(
            "_kept", None if len(kept) == len(self.vocabulary) else kept.to(self.device), persistent=False
        )
        self._index = {word: i for i, word in enumerate(self.vocabulary)}

    @property
    def device(self) -> torch.device:
        """Where the dictionary and the means live; `to` moves them, and an encoder that is a module."""
        return self.dictionary.device

    @property
    def means(self) -> dict[str, Tensor | None]:
        """The means (d,) by modality, "image" and "text"."""
        return {"image": self.image_mean, "text": self.text_mean}

    def train(self, mode: bool = True) -> Self:
        """Set the mode of training, which changes nothing here: an encoder stays in evaluation."""
        super().train(mode)
        if isinstance(self.encoder, nn.Module):
            self.encoder.eval()
        return self

    # ---- anything -> words

    def explain(
        self,
        inputs: Any,
        modality: Modality | Sequence[Modality] = "image",
        l1_penalty: float | None = None,
        suppress: Sequence[str | int] = (),
        *,
        top_k: int | None = None,
        return_embedding: bool = False,
        **unknown: Any,
    ) -> Explanation:
        """Decompose, set the weights of the words in `suppress` to zero, recompose, and compare with the original.

        Args:
            inputs: images (PIL, paths, bytes or uint8 arrays), texts, preprocessed pixels, tokens or embeddings, one
                or a list that may mix them; `conceptry.models.splice.inputs` has the table. A string that looks like
                the name of an image file is one.
            modality: what embeddings are embeddings of, "image" or "text", or one for each input; images and texts
                have their own.
            l1_penalty: instead of that of the explainer.
            suppress: words, or positions in the vocabulary, whose weights become zero.
            top_k: how many words the answers list of each input.
            return_embedding: whether the answers hold the embedding and its recomposition too.

        Returns:
            An `Explanation`: `answers()` as a served version gives them, the tensors behind them, `plot()`.

        Raises:
            InputError: naming the input that cannot be explained, or the parameter that is not acceptable.
        """
        if unknown:
            raise InputError(
                f"splice has no parameter {next(iter(unknown))!r}; expected one of {', '.join(PARAMETERS)}"
            )
        if top_k is not None and top_k < 1:
            raise InputError(f"top_k must be at least 1, got {top_k}")
        suppressed = self.word_indices(suppress)
        read: list[Input] = []
        if isinstance(inputs, Tensor) and inputs.is_floating_point() and inputs.ndim == 2:
            embeddings = inputs  # as they are, of whatever dtype and device
        else:
            read = read_inputs(inputs)
            embeddings = embed(read, self.encoder, self.dictionary.shape[1], self.device)
            modality = modalities_of(read, modality)
        z, mean = unit_embeddings(embeddings, self.dictionary), self._mean(modality)
        v = normalize(z - mean, dim=1)
        solved = self._decompose(v, l1_penalty)
        kept = solved.suppress(self._stands[suppressed]) if suppressed else solved
        recomposed = self._recompose(kept, mean)
        cosine = (z * recomposed).sum(dim=1)
        sure = certainty(self.encoder, v, self.dictionary, modality)
        return Explanation(
            kept, solved.gap, z, recomposed, cosine, self.vocabulary, read, top_k, bool(return_embedding), sure
        )

    # ---- embeddings -> words

    def decompose(
        self,
        embeddings: Tensor,
        modality: Modality | Sequence[Modality] = "image",
        l1_penalty: float | None = None,
        *,
        centred: bool = False,
    ) -> Decomposition:
        """Weights of embeddings (batch, d).

        Args:
            embeddings: as the encoder gives them, of any norm; with `centred`, the mean has been taken off already and
                they are of unit norm, as `SPLICE.decompose` takes them.
            modality: of all rows, or one for each; not needed for centred ones.
            l1_penalty: instead of that of the explainer.
            centred: whether `embeddings` are v rather than any multiple of z.

        Raises:
            InputError: naming the row of a bad embedding, such as a centred one that is not of unit norm.
        """
        if centred:
            return self._decompose(centred_embeddings(embeddings, self.dictionary), l1_penalty)
        return self._decompose(
            normalize(unit_embeddings(embeddings, self.dictionary) - self._mean(modality), dim=1), l1_penalty
        )

    def word_indices(self, words: Sequence[str | int]) -> list[int]:
        """Positions of words (or checked positions) in the vocabulary. Raises InputError listing near words."""
        indices = []
        for word in [words] if isinstance(words, str) else words:
            index = self._index.get(word) if isinstance(word, str) else int(word)
            if index is None or not 0 <= index < len(self.vocabulary):
                near = closest(word, self.vocabulary)
                hint = f"; near words: {', '.join(near)}" if near else ""
                raise InputError(f"{word!r} is not one of the {len(self.vocabulary)} words of the vocabulary{hint}")
            indices.append(index)
        return indices

    # ---- words -> embeddings

    def recompose_image(self, weights: Tensor | Decomposition) -> Tensor:
        """z_hat (batch, d) of weights (batch, words), dense, sparse or a Decomposition."""
        return self._recompose(weights, self._mean("image"))

    def recompose_text(self, weights: Tensor | Decomposition) -> Tensor:
        """Recompose as `recompose_image` does, with the mean of texts."""
        return self._recompose(weights, self._mean("text"))

    # ---- pixels, texts and tokens -> z_hat or weights

    def encode_image(self, image: Tensor) -> Tensor:
        """Encode preprocessed images (batch, 3, height, width) as z_hat (batch, d) or dense weights (batch, words).

        A model without an encoder takes embeddings (batch, d).
        """
        return self._encoded(self.embed_image(image), "image")

    def encode_text(self, text: str | Sequence[str] | Tensor) -> Tensor:
        """Encode texts, or their tokens (batch, context), as z_hat (batch, d) or dense weights (batch, words).

        A string is one text. A model without an encoder takes embeddings (batch, d).
        """
        return self._encoded(self.embed_text(text), "text")

    def intervene_image(self, image: Tensor, intervention_indices: Sequence[str | int]) -> Tensor:
        """Encode images as `encode_image` does, the weights of these words (or vocabulary positions) set to zero."""
        found = self.explain(self.embed_image(image), "image", suppress=intervention_indices)
        return found.decomposition.to_dense() if self.return_weights else found.recomposed

    def forward(
        self, image: Tensor | None = None, text: str | Sequence[str] | Tensor | None = None
    ) -> tuple[Any | None, Any | None]:
        """Encode both: (`encode_image(image)`, `encode_text(text)`), None for what is not given."""
        return (
            None if image is None else self.encode_image(image),
            None if text is None else self.encode_text(text),
        )

    def embed_image(self, image: Tensor) -> Tensor:
        """Embeddings of preprocessed images (batch, 3, height, width), of any norm; without an encoder, the input."""
        if self.encoder is None:
            return self._embeddings(image)
        with torch.no_grad():
            return self.encoder.encode_image(image)

    def embed_text(self, text: str | Sequence[str] | Tensor) -> Tensor:
        """Embeddings of texts or tokens, of any norm; without an encoder, the embeddings (batch, d) that are given."""
        if self.encoder is None:
            return self._embeddings(text)
        with torch.no_grad():
            if isinstance(text, Tensor):
                return self.encoder.encode_text(text)
            return takes_texts(self.encoder).encode_text([text] if isinstance(text, str) else list(text))

    # ---- into the registry

    def to_package(self, directory: Path) -> Package:
        """Write all that a registered version needs into `directory`.

        Raises:
            InputError: where the encoder cannot be written: there is none, or it is an object of an unknown class.
        """
        from conceptry.models.splice.package import write_package

        splice: Any = self  # pyright knows this file by two names, one of them of the checkout
        return write_package(splice, directory)

    # ---- parts

    def _decompose(self, v: Tensor, l1_penalty: float | None) -> Decomposition:
        penalty = self.l1_penalty if l1_penalty is None else l1_penalty
        if self._kept is None:
            return decompose(v, self.dictionary, penalty, self.solver, tolerance=self.tolerance)
        found = decompose(v, self.dictionary[self._kept], penalty, self.solver, tolerance=self.tolerance)
        indices = self._kept.to(found.concept_indices.device)[found.concept_indices]
        return replace(found, concept_indices=indices, n_concepts=len(self.vocabulary))

    def _encoded(self, embeddings: Tensor, modality: Modality) -> Tensor:
        weights = Splice.decompose(self, embeddings, modality)
        return weights.to_dense() if self.return_weights else self._recompose(weights, self._mean(modality))

    def _recompose(self, weights: Tensor | Decomposition, mean: Tensor) -> Tensor:
        weights = weights.weights if isinstance(weights, Decomposition) else weights
        if weights.ndim != 2 or weights.shape[1] != len(self.vocabulary):
            raise InputError(f"weights must have shape (batch, {len(self.vocabulary)}), got {tuple(weights.shape)}")
        with torch.autocast(self.dictionary.device.type, enabled=False):
            combined = weights.to(self.dictionary) @ self.dictionary
        # normalize() leaves the zero vector at zero, so w = 0 recomposes to the direction of the mean.
        return normalize(normalize(combined, dim=1) + mean, dim=1)

    def _mean(self, modality: Modality | Sequence[Modality]) -> Tensor:
        """The mean (d,) of one modality, or the means (batch, d) of a modality for each row."""
        if not isinstance(modality, str):
            return torch.stack([self._mean(one) for one in modality])
        if modality not in ("image", "text"):
            raise InputError(f"modality must be image or text, got {modality!r}")
        mean = self.means[modality]
        if mean is None:
            raise InputError(f"this model has no {modality} mean, so it cannot decompose or recompose {modality}s")
        return mean

    def _embeddings(self, given: object) -> Tensor:
        d = self.dictionary.shape[1]
        if isinstance(given, Tensor) and given.is_floating_point() and given.ndim == 2:
            return given
        got = f"shape {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
        raise InputError(f"this model has no encoder; it decomposes embeddings (batch, {d}) only, got {got}")
