"""Ask a SpLiCE version about images, texts and embeddings, batch by batch; images are read as their batch comes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from conceptry.evaluation.data import LabelledImage
from conceptry.evaluation.isolation.client import Predict, named_rows

BATCH = 64


@dataclass(frozen=True)
class ImageExplanations:
    """Answers of a version to n images: unit embeddings z and z_hat (n, d), weights of words, and certificates.

    sure: share of such answers that are right, (n,), of encoders whose answers have been judged; else None.
    """

    z: np.ndarray
    z_hat: np.ndarray
    weights: list[dict[str, float]]
    l0: np.ndarray
    cosine: np.ndarray
    gap: np.ndarray
    sure: np.ndarray | None = None

    @property
    def words(self) -> list[list[str]]:
        """The words of each image, the heaviest first."""
        return [list(weights) for weights in self.weights]


def answers(
    predict: Predict,
    column: str,
    values: Sequence[Any] | np.ndarray,
    params: Mapping[str, Any] | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[pd.DataFrame]:
    """Answers to `values` (of type LabelledImage: to what they contain) of one column, at most BATCH rows each."""
    for start in range(0, len(values), BATCH):
        asked = list(values[start : start + BATCH])
        batch = [v.content() if isinstance(v, LabelledImage) else v for v in asked]
        with named_rows(asked, start):
            rows = predict(pd.DataFrame({column: batch}), params).rows
        yield rows
        progress(min(1.0, (start + BATCH) / len(values)))


def explain_images(
    predict: Predict, images: Sequence[LabelledImage], progress: Callable[[float], None]
) -> ImageExplanations:
    """Words, certificates and embeddings of all images."""
    parts = answers(predict, "image", images, {"return_embedding": True}, progress)
    rows = pd.concat(list(parts), ignore_index=True)
    return ImageExplanations(
        z=np.stack(rows["embedding"].tolist()),
        z_hat=np.stack(rows["recomposed"].tolist()),
        weights=[{entry["concept"]: float(entry["weight"]) for entry in concepts} for concepts in rows["concepts"]],
        l0=rows["l0"].to_numpy(float),
        cosine=rows["cosine"].to_numpy(float),
        gap=rows["gap"].to_numpy(float),
        sure=rows["sure"].to_numpy(float) if "sure" in rows else None,
    )


def embed_texts(predict: Predict, texts: Sequence[str]) -> np.ndarray:
    """Unit embeddings (texts, d)."""
    return _stacked(answers(predict, "text", texts, {"return_embedding": True}), "embedding")


def recompose_without(predict: Predict, z: np.ndarray, word: str) -> np.ndarray:
    """z_hat (n, d) of image embeddings (n, d) with the weight of `word` set to zero."""
    return _stacked(answers(predict, "embedding", z, {"suppress": [word], "return_embedding": True}), "recomposed")


def _stacked(parts: Iterator[pd.DataFrame], column: str) -> np.ndarray:
    return np.stack([vector for part in parts for vector in part[column]])
