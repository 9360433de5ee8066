"""What SpLiCE answers: embeddings in words, with the tensors that they were computed from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from conceptry.models.record import Record
from conceptry.models.splice.decomposition import Decomposition
from conceptry.models.splice.inputs import Input


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


def _shown(one: Input | None) -> dict[str, Any]:
    if one is not None and one.kind == "image":
        return {"image": one.image()}
    return {"text": one.value} if one is not None and one.kind == "text" else {}
