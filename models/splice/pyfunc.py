"""SpLiCE behind MLflow's pyfunc interface: decode a table of pictures, texts or embeddings, explain, encode.

| column | what |
|---|---|
| image | bytes of a picture, or base64 |
| text | a text that is not blank |
| embedding | an array of d doubles: an image embedding as the encoder gives it, of any norm |

Each row gives exactly one of the three. With the types binary and array MLflow itself would refuse a null in a table of
mixed rows, and in sentences that name no row. The answer has for each row

| column | what |
|---|---|
| concepts | list of {concept, weight}, by descending weight |
| l0 | number of concepts |
| cosine | of the embedding and its recomposition |
| gap | duality gap of the solve |

and with `return_embedding` also `embedding` and `recomposed`, both of unit norm.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, Object, Property
from torch import Tensor

from conceptry.models.encoders.protocol import encode_images, encode_texts
from conceptry.models.errors import InputError
from conceptry.models.explainer import Explainer, cell_error, is_given
from conceptry.models.images import decode_image, image_bytes
from conceptry.models.splice.method import read_package
from conceptry.models.splice.model import Explanation, Splice

COLUMNS = ("image", "text", "embedding")
_NOT_NUMBERS = {str, bytes, bool, np.bool_, np.str_, np.bytes_}  # numpy would convert them
_CONCEPT = Object([Property("concept", DataType.string), Property("weight", DataType.double)])


class SpliceExplainer(Explainer):
    """Serves one registered SpLiCE version."""

    signature = ModelSignature(
        inputs=Schema(
            [
                ColSpec(AnyType(), "image", required=False),
                ColSpec(DataType.string, "text", required=False),
                ColSpec(AnyType(), "embedding", required=False),
            ]
        ),
        outputs=Schema(
            [
                ColSpec(Array(_CONCEPT), "concepts"),
                ColSpec(DataType.long, "l0"),
                ColSpec(DataType.double, "cosine"),
                ColSpec(DataType.double, "gap"),
                # Not the columns of `return_embedding`: Spark reads every declared one from every answer.
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("l1_penalty", DataType.double, None),
                ParamSpec("top_k", DataType.long, None),
                ParamSpec("suppress", DataType.string, [], shape=(-1,)),
                ParamSpec("return_embedding", DataType.boolean, False),
            ]
        ),
    )
    model: Splice

    def load(self, directory: Path, device: torch.device) -> None:
        self.model = read_package(directory, device)
        # The solver's kernels compile at the first solve: better now than in the first request.
        self.model.decompose(torch.ones(1, self.model.dictionary.shape[1], device=device))

    def explain(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
        top_k = params.get("top_k")
        if top_k is not None and top_k < 1:
            raise InputError(f"top_k must be at least 1, got {top_k}")
        embeddings, modalities = self._embed(rows)
        explanation = self.model.explain(
            embeddings, modalities, params.get("l1_penalty"), list(params.get("suppress", ()))
        )
        return self._answer(explanation, top_k, bool(params.get("return_embedding")))

    def _embed(self, rows: pd.DataFrame) -> tuple[Tensor, list]:
        """Embeddings (rows, d) and the modality of each row; pictures are decoded one at a time."""
        columns = [_column_of(row, values) for row, values in enumerate(rows.to_dict("records"))]
        members = {name: [i for i, column in enumerate(columns) if column == name] for name in COLUMNS}
        d = self.model.dictionary.shape[1]
        encoder: Any = self.model.encoder
        embeddings = torch.empty(len(rows), d, device=self.model.dictionary.device)
        if indices := members["image"]:
            embeddings[indices] = encode_images(encoder, (_picture(i, rows["image"][i]) for i in indices))
        if indices := members["text"]:
            texts = [_text(i, rows["text"][i]) for i in indices]
            try:
                embeddings[indices] = encode_texts(encoder, texts)
            except InputError:
                _name_the_row(encoder, indices, texts)
                raise
        if indices := members["embedding"]:
            vectors = np.stack([_vector(i, rows["embedding"][i], d) for i in indices])
            embeddings[indices] = torch.from_numpy(vectors).to(embeddings)
        return embeddings, ["text" if column == "text" else "image" for column in columns]

    def _answer(self, explanation: Explanation, top_k: int | None, return_embedding: bool) -> pd.DataFrame:
        decomposition = explanation.decomposition
        concepts = []
        for i in range(len(explanation.cosine)):
            indices, weights = decomposition.row(i)
            pairs = zip(indices[:top_k].tolist(), weights[:top_k].tolist(), strict=True)
            concepts.append([{"concept": self.model.vocabulary[j], "weight": weight} for j, weight in pairs])
        answer = {
            "concepts": concepts,
            "l0": decomposition.l0.cpu().numpy(),
            "cosine": explanation.cosine.double().cpu().numpy(),
            "gap": explanation.gap.double().cpu().numpy(),
        }
        if return_embedding:
            answer["embedding"] = list(explanation.embedding.double().cpu().numpy())
            answer["recomposed"] = list(explanation.recomposed.double().cpu().numpy())
        return pd.DataFrame(answer)


def _column_of(row: int, values: Mapping[str, Any]) -> str:
    given = [name for name in COLUMNS if is_given(values.get(name))]
    if len(given) == 1:
        return given[0]
    if not given:
        raise InputError(
            f"row {row}: none of the columns 'image', 'text' and 'embedding' is given; expected exactly one"
        )
    raise InputError(f"row {row}: columns {' and '.join(map(repr, given))} are both given; expected exactly one")


def _picture(row: int, value: object):
    try:
        return decode_image(image_bytes(value))
    except InputError as error:
        raise cell_error(row, "image", error) from None


def _text(row: int, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise cell_error(row, "text", "expected a text that is not blank")
    return value


def _vector(row: int, value: Any, d: int) -> np.ndarray:
    """The direction of an embedding of any scale: float32 (d,), its largest entry 1 in magnitude."""
    entries = value.tolist() if isinstance(value, np.ndarray) else value
    try:
        if not isinstance(entries, (list, tuple)) or not _NOT_NUMBERS.isdisjoint(map(type, entries)):
            raise TypeError
        vector = np.asarray(entries, dtype=np.float64)
    except (TypeError, ValueError):
        raise cell_error(row, "embedding", f"expected {d} numbers") from None
    except OverflowError:  # an integer beyond float64; JSON's 1e400 arrives as infinity
        raise cell_error(row, "embedding", f"expected {d} finite numbers, got NaN or infinite values") from None
    if vector.shape != (d,):
        raise cell_error(row, "embedding", f"expected {d} numbers, got shape {vector.shape}")
    if not np.isfinite(vector).all():
        raise cell_error(row, "embedding", f"expected {d} finite numbers, got NaN or infinite values")
    if not vector.any():
        raise cell_error(
            row, "embedding", "the zero vector has no direction; expected at least one number that is not 0"
        )
    return (vector / np.abs(vector).max()).astype(np.float32)


def _name_the_row(encoder: Any, rows: list[int], texts: list[str]) -> None:
    """Raise the encoder's refusal again for the one text that it is about."""
    for row, text in zip(rows, texts, strict=True):
        try:
            encoder.tokenize([text])
        except InputError as error:
            raise cell_error(row, "text", error) from None
