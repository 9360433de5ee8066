"""SpLiCE over a dual encoder: embeddings to words and back.

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
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from conceptry.models.encoders.protocol import DualEncoder
from conceptry.models.errors import InputError, closest
from conceptry.models.splice.decomposition import Decomposition, decompose

Modality = Literal["image", "text"]


@dataclass(frozen=True)
class Explanation:
    """A batch of embeddings in words.

    decomposition: weights, l0 and converged per row, after suppression; gap: duality gap of the solve, before
    it, (batch,); embedding: z, (batch, d); recomposed: z_hat, (batch, d); cosine: <z_hat, z>, (batch,).
    """

    decomposition: Decomposition
    gap: Tensor
    embedding: Tensor
    recomposed: Tensor
    cosine: Tensor


class Splice:
    """A dual encoder, a dictionary and two means.

    Parameters
    ----------
    encoder: an object with `encode_image` and `encode_text`, or None where only embeddings are decomposed.
    vocabulary: the words, in the order of the dictionary's rows.
    dictionary: (words, d), centred and of unit norm, as `build_dictionary` gives it.
    image_mean, text_mean: (d,), means of unit-norm embeddings; a modality without a mean cannot be decomposed.
    l1_penalty: lambda of `min_{w >= 0} ||v - C^T w||^2 + lambda ||w||_1`.
    return_weights: whether `encode_image` and `encode_text` return weights (batch, words) rather than z_hat.
    """

    def __init__(
        self,
        encoder: DualEncoder | None,
        vocabulary: Sequence[str],
        dictionary: Tensor,
        image_mean: Tensor | None = None,
        text_mean: Tensor | None = None,
        *,
        l1_penalty: float = 0.25,
        solver: str = "active_set",
        tolerance: float = 1e-6,
        return_weights: bool = False,
    ) -> None:
        words, d = dictionary.shape
        if len(vocabulary) != words:
            raise InputError(
                f"the vocabulary has {len(vocabulary)} words, the dictionary {words} rows; they must agree"
            )
        means = {"image": image_mean, "text": text_mean}
        for modality, mean in means.items():
            if mean is not None and tuple(mean.shape) != (d,):
                raise InputError(f"{modality}_mean must have shape ({d},) as the dictionary, got {tuple(mean.shape)}")
        self.encoder = encoder
        self.vocabulary = list(vocabulary)
        self.dictionary = dictionary
        self.means = {modality: None if mean is None else mean.to(dictionary) for modality, mean in means.items()}
        self.l1_penalty = l1_penalty
        self.solver = solver
        self.tolerance = tolerance
        self.return_weights = return_weights
        self._index = {word: i for i, word in enumerate(self.vocabulary)}

    # ---- embeddings -> words

    def decompose(
        self,
        embeddings: Tensor,
        modality: Modality | Sequence[Modality] = "image",
        l1_penalty: float | None = None,
    ) -> Decomposition:
        """Weights of encoder outputs (batch, d), of any norm; `modality` of all rows, or one for each.

        Raises InputError naming the row of a bad embedding.
        """
        return self._decompose(self._unit(embeddings), self._mean(modality), l1_penalty)

    def _decompose(self, z: Tensor, mean: Tensor, l1_penalty: float | None) -> Decomposition:
        v = normalize(z - mean, dim=1)
        penalty = self.l1_penalty if l1_penalty is None else l1_penalty
        return decompose(v, self.dictionary, penalty, self.solver, tolerance=self.tolerance)

    def explain(
        self,
        embeddings: Tensor,
        modality: Modality | Sequence[Modality] = "image",
        l1_penalty: float | None = None,
        suppress: Sequence[str | int] = (),
    ) -> Explanation:
        """Decompose, set the weights of the words in `suppress` to zero, recompose, and compare with the original."""
        suppressed = self.word_indices(suppress)
        z, mean = self._unit(embeddings), self._mean(modality)
        solved = self._decompose(z, mean, l1_penalty)
        kept = solved.suppress(suppressed) if suppressed else solved
        recomposed = self._recompose(kept, mean)
        return Explanation(kept, solved.gap, z, recomposed, (z * recomposed).sum(dim=1))

    def word_indices(self, words: Sequence[str | int]) -> list[int]:
        """Positions of words (or checked positions) in the vocabulary. Raises InputError listing near words."""
        indices = []
        for word in words:
            index = self._index.get(word) if isinstance(word, str) else word
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
        """`recompose_image` with the mean of text."""
        return self._recompose(weights, self._mean("text"))

    # ---- pictures and strings

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Preprocessed images (batch, 3, height, width) to z_hat (batch, d), or to dense weights (batch, words)."""
        return self._encoded(self._encoder().encode_image(pixels), "image")

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts to z_hat (batch, d), or to dense weights (batch, words)."""
        return self._encoded(self._encoder().encode_text(texts), "text")

    def intervene_image(self, pixels: Tensor, words: Sequence[str | int]) -> Tensor:
        """z_hat (batch, d) of images with the weights of `words` (or of vocabulary positions) set to zero."""
        return self.explain(self._encoder().encode_image(pixels), "image", suppress=words).recomposed

    def forward(self, pixels: Tensor | None = None, texts: Sequence[str] | None = None) -> tuple[Tensor | None, ...]:
        """(`encode_image(pixels)`, `encode_text(texts)`), None for what is not given."""
        return (
            None if pixels is None else self.encode_image(pixels),
            None if texts is None else self.encode_text(texts),
        )

    __call__ = forward

    # ---- parts

    def _encoded(self, embeddings: Tensor, modality: Modality) -> Tensor:
        weights = self.decompose(embeddings, modality)
        return weights.to_dense() if self.return_weights else self._recompose(weights, self._mean(modality))

    def _recompose(self, weights: Tensor | Decomposition, mean: Tensor) -> Tensor:
        weights = weights.weights if isinstance(weights, Decomposition) else weights
        if weights.ndim != 2 or weights.shape[1] != len(self.vocabulary):
            raise InputError(f"weights must have shape (batch, {len(self.vocabulary)}), got {tuple(weights.shape)}")
        with torch.autocast(self.dictionary.device.type, enabled=False):
            combined = weights.to(self.dictionary) @ self.dictionary
        # normalize() leaves the zero vector at zero, so w = 0 recomposes to the direction of the mean.
        return normalize(normalize(combined, dim=1) + mean, dim=1)

    def _unit(self, embeddings: Tensor) -> Tensor:
        d = self.dictionary.shape[1]
        if embeddings.ndim != 2 or embeddings.shape[1] != d:
            raise InputError(f"embeddings must have shape (batch, {d}), got {tuple(embeddings.shape)}")
        z = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        largest = z.abs().amax(dim=1, keepdim=True)  # NaN where the row holds one
        bad = ~largest.isfinite() | (largest == 0)
        if bad.any():
            row = int(bad.nonzero()[0, 0])
            problem = "is the zero vector" if largest[row] == 0 else "holds NaN or infinite values"
            raise InputError(f"row {row}: the embedding {problem}; expected {d} finite numbers, not all zero")
        # The squares of very large or very small entries would overflow or vanish.
        return normalize((z / largest).to(self.dictionary), dim=1)

    def _mean(self, modality: Modality | Sequence[Modality]) -> Tensor:
        """The mean (d,) of one modality, or the means (batch, d) of a modality for each row."""
        if not isinstance(modality, str):
            return torch.stack([self._mean(one) for one in modality])
        mean = self.means[modality]
        if mean is None:
            raise InputError(f"this model has no {modality} mean, so it cannot decompose or recompose {modality}s")
        return mean

    def _encoder(self) -> DualEncoder:
        if self.encoder is None:
            raise InputError("this model has no encoder; it decomposes embeddings only")
        return self.encoder
