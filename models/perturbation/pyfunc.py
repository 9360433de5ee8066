"""Sparse perturbations behind MLflow's pyfunc interface: one row is one question about one picture.

| mode | image | target | source |
|---|---|---|---|
| probe | start; noise or grey where it is not given | class to look for | - |
| counterfactual | picture to change | class to reach; none: away from the source | class to leave, or the predicted |
| explain_error | misread picture | its true class | the wrong class, or the predicted |
| invert | picture to match | - | picture to start from; noise or grey where it is not given |

Pictures are bytes of a file, or base64; classes names or indices. A row is checked cell by cell. All columns are typed
"any": with other types MLflow itself would refuse a null, in sentences that name no row. The answer has for each row

| column | what |
|---|---|
| target, source | the class that was wanted, else the one that was reached; the class given, else that of the start |
| image | the result, PNG |
| delta | its difference from the start, PNG: grey is none, amplified so that the largest one is black or white |
| before, after | the 5 most probable classes of start and result, list of {class, probability} |
| changed | fraction of pixels that changed |
| l1, l2 | norms of the difference, pixels in [0, 1] |
| loss | criterion of the result |
| gap | Frank-Wolfe gap of the last step; 0 of projected steps, which have none |
| q, epsilon | those used; q is 0 where the steps have none |
| success | whether the result is read as wanted |
| no_gradient | whether the gradient was 0 in every pixel at every step, so that nothing could be tried |
| clipped | whether pixels were kept in [0, 1]: then all figures are those of the PNG; else `image` shows them clipped |
| steps | gradient steps behind the result |
| other | of explain_error, one entry: the same toward the wrong class; else empty |

Pictures are bytes in this process; the server makes base64 of them. MLflow's `spark_udf` knows no bytes in a struct and
would fail, so there they are base64 as well, which Spark's `unbase64` undoes, and the signature calls them strings.

With `details` also `start` (PNG), `history` (losses of the steps) and `path` (attempts of the sparsest search).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, Object, Property

from conceptry.models.explained.hooks import redraw
from conceptry.models.explainer import Explainer, in_spark, is_given
from conceptry.models.perturbation.method import METHOD
from conceptry.models.perturbation.model import PARAMS, Perturbation
from conceptry.models.perturbation.record import answer
from conceptry.models.perturbation.rows import decoded, read_row
from conceptry.models.perturbation.settings import EXPLAIN_ERROR, WORK
from conceptry.models.perturbation.solvers.sparsest import ROUNDS, SLOTS

_PROBABILITY = Object([Property("class", DataType.string), Property("probability", DataType.double)])
_RESULT = {
    "target": DataType.string,
    "image": DataType.string,
    "delta": DataType.string,
    "after": Array(_PROBABILITY),
    "changed": DataType.double,
    "l1": DataType.double,
    "l2": DataType.double,
    "loss": DataType.double,
    "success": DataType.boolean,
    "no_gradient": DataType.boolean,
    "steps": DataType.long,
}
_OF_THE_ROW = {
    "source": DataType.string,
    "before": Array(_PROBABILITY),
    "gap": DataType.double,
    "q": DataType.double,
    "epsilon": DataType.double,
    "clipped": DataType.boolean,
    "other": Array(Object([Property(name, kind) for name, kind in _RESULT.items()])),
}
_TYPES = {str: DataType.string, float: DataType.double, int: DataType.long, bool: DataType.boolean}


class PerturbationExplainer(Explainer):
    """Serves one registered version of perturbations."""

    signature = ModelSignature(
        inputs=Schema([ColSpec(AnyType(), name, required=False) for name in ("image", "target", "source")]),
        outputs=Schema([ColSpec(kind, name) for name, kind in (_RESULT | _OF_THE_ROW).items()]),
        params=ParamSchema(
            [ParamSpec(name, _TYPES[kind], None) for name, kind in PARAMS.items()]
            + [ParamSpec("details", DataType.boolean, False)]
        ),
    )
    explainer: Perturbation
    work = WORK

    def load(self, directory: Path, device: torch.device) -> None:
        self.explainer = METHOD.read(directory, device)

    def redraw(self, share: float, seed: int) -> int:
        """Draw layers of the network anew; see `Explainer.redraw`."""
        return redraw([self.explainer.scores.model.module], share, seed)

    def explain(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
        explainer = self.explainer
        settings = explainer.override({name: params.get(name) for name in PARAMS})
        attempts = ROUNDS * SLOTS if settings.sparsest else 1
        directions = 2 if settings.mode == EXPLAIN_ERROR else 1
        self.check_work(len(rows) * settings.steps * settings.restarts * attempts * directions)
        cells = [{name: value for name, value in row.items() if is_given(value)} for row in rows.to_dict("records")]
        asked = [read_row(explainer.scores, settings, i, values, decoded) for i, values in enumerate(cells)]
        details, text = bool(params.get("details")), in_spark()
        answers: list[dict[str, Any]] = [{}] * len(asked)
        for batch in explainer.explain_rows(asked, settings, self.progress):  # tensors of one batch at a time
            for i, row in enumerate(batch.rows):
                answers[row] = answer(explainer.scores, batch.explanations, i, details=details, text=text)
        return pd.DataFrame(answers)
