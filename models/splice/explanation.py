"""What SpLiCE answers: embeddings in words, with the tensors that they were computed from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from conceptry.models.record import Record
from conceptry.models.splice.decomposition import Decomposition
from conceptry.models.splice.inputs import Input

UNSURE = 0.2  # `sure` below which an answer is shown as unsure


@dataclass(frozen=True, eq=False)
class Explanation(Record):
    """A batch of embeddings in words.

    Attributes:
        decomposition: weights, l0 and converged per row, after suppression.
        gap: duality gap of the solve, before suppression, (batch,).
        embedding: z, of unit norm, (batch, d).
        recomposed: z_hat, of unit norm, (batch, d).
        cosine: <z_hat, z>, (batch,).
        vocabulary: the words that the weights belong to.
        inputs: what was explained, where it was more than embeddings.
        top_k: how many words `answers` gives of each row, all for None.
        return_embedding: whether `answers` gives z and z_hat too.
        sure: share of answers like these that name what is in the picture among their first five words, (batch,), NaN
            for texts; None for encoders of which that has not been measured. Below `UNSURE`, pictures say so.
    """

    method: ClassVar[str] = "splice"

    decomposition: Decomposition
    gap: Tensor
    embedding: Tensor
    recomposed: Tensor
    cosine: Tensor
    vocabulary: list[str]
    inputs: Sequence[Input] = ()
    top_k: int | None = None
    return_embedding: bool = False
    sure: Tensor | None = None

    def __len__(self) -> int:
        return len(self.cosine)

    def words(self, row: int = 0) -> list[tuple[str, float]]:
        """Words of one row with their weights, the heaviest first; the first `top_k` of them."""
        indices, weights = self.decomposition.row(row)
        pairs = zip(indices[: self.top_k].tolist(), weights[: self.top_k].tolist(), strict=True)
        return [(self.vocabulary[index], weight) for index, weight in pairs]

    def answers(self) -> list[dict[str, Any]]:
        columns = {
            "l0": self.decomposition.l0.tolist(),
            "cosine": self.cosine.double().tolist(),
            "gap": self.gap.double().tolist(),
        }
        if self.sure is not None:
            columns["sure"] = [None if math.isnan(share) else share for share in self.sure.tolist()]
        if self.return_embedding:
            columns |= {"embedding": self.embedding.double().tolist(), "recomposed": self.recomposed.double().tolist()}
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return [
            {"concepts": [{"concept": word, "weight": weight} for word, weight in self.words(i)]} | row
            for i, row in enumerate(rows)
        ]

    def drawable(self) -> list[dict[str, Any]]:
        inputs: Sequence[Input | None] = self.inputs or [None] * len(self)
        return [answer | _shown(one) for answer, one in zip(self.answers(), inputs, strict=True)]


def certainty(encoder: Any, v: Tensor, dictionary: Tensor, modality: str | Sequence[str]) -> Tensor | None:
    """How often answers like these are right, (batch,), NaN for texts; None where that is not known of the encoder.

    It goes by the largest cosine of v (batch, d) with a word, which the first weight follows and no penalty changes.
    """
    calibration = getattr(encoder, "calibration", None)
    if calibration is None:
        return None
    sure = calibration(torch.cat([(part @ dictionary.T).amax(dim=1) for part in v.split(1024)]))
    of_images = [modality == "image"] * len(v) if isinstance(modality, str) else [m == "image" for m in modality]
    return torch.where(torch.tensor(of_images), sure, torch.nan)


def _shown(one: Input | None) -> dict[str, Any]:
    if one is not None and one.kind == "image":
        return {"image": one.image()}
    return {"text": one.value} if one is not None and one.kind == "text" else {}
