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
| sure | share of answers like this one that are right; only where the encoder has it measured, null for texts |

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

from conceptry.models.errors import InputError
from conceptry.models.explained.hooks import redraw
from conceptry.models.explainer import Explainer, is_given
from conceptry.models.splice.inputs import Input, Kind
from conceptry.models.splice.model import Splice
from conceptry.models.splice.package import read_package
from conceptry.models.splice.settings import WORK

COLUMNS: tuple[Kind, ...] = ("image", "text", "embedding")
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
    work = WORK

    def load(self, directory: Path, device: torch.device) -> None:
        self.model = read_package(directory, device)
        # The solver's kernels compile at the first solve: better now than in the first request.
        self.model.decompose(torch.ones(1, self.model.dictionary.shape[1], device=device))
        if getattr(self.model.encoder, "calibration", None) is not None:
            known = self.signature
            outputs = Schema([*known.outputs.inputs, ColSpec(DataType.double, "sure", required=False)])
            self.signature = ModelSignature(known.inputs, outputs, known.params)

    def redraw(self, share: float, seed: int) -> int:
        """Draw layers of the encoder's image tower anew; see `Explainer.redraw`."""
        tower = getattr(getattr(self.model.encoder, "model", None), "visual", None)
        return redraw([tower], share, seed)

    def explain(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
        asked = params.get("l1_penalty")
        fraction = asked / self.model.l1_penalty if asked is not None and 0 < asked < self.model.l1_penalty else 1.0
        self.check_work(len(rows) / max(fraction, 1e-9) ** 2)
        inputs = [_input(row, values) for row, values in enumerate(rows.to_dict("records"))]
        answers = self.model.explain(inputs, **params).answers()
        answer = pd.DataFrame(answers)
        if "sure" in answer:  # null where there is none, as JSON has it, and not NaN
            answer["sure"] = pd.Series([one["sure"] for one in answers], dtype=object)
        for name in ("embedding", "recomposed"):
            if name in answer:
                answer[name] = [np.array(values) for values in answer[name]]
        return answer


def _input(row: int, values: Mapping[str, Any]) -> Input:
    kind = _column_of(row, values)
    return Input(kind, values[kind], f"row {row}, column {kind!r}")


def _column_of(row: int, values: Mapping[str, Any]) -> Kind:
    given: list[Kind] = [name for name in COLUMNS if is_given(values.get(name))]
    if len(given) == 1:
        return given[0]
    if not given:
        raise InputError(
            f"row {row}: none of the columns 'image', 'text' and 'embedding' is given; expected exactly one"
        )
    raise InputError(f"row {row}: columns {' and '.join(map(repr, given))} are both given; expected exactly one")
