"""Harsanyi interactions behind MLflow's pyfunc interface: one row is one sample, one row of answer explains it.

The columns are those of the explained model, or `text`, `image` (bytes, or base64) or `points` (a list of [x, y, z]).
All are typed "any": with other types MLflow itself would refuse a null or a wrong number, in sentences that name no
row. The answer has for each row

| column | what |
|---|---|
| target | the output that is explained |
| patterns | list of {players, effect, kind}, by descending strength, without the empty one (see below) |
| v_full, v_empty | rewards of the sample and of the baseline |
| explain_ratio | kept strength over itself plus |sum of the removed effects| |
| square_error | squared error of the kept patterns over that of v |
| residual | largest error of the sum of all interactions against v, relative to the largest v |
| gap | how far the L1 of an AND-OR split can be from the least one, relative to it; else 0 |
| n_salient, n_kept | patterns above 5 % of the strongest; patterns with an effect that denoising keeps |
| l1, l1_start | sum of all strengths, with the baseline used and with the one that learning started from |
| shapley | list of {player, value} |
| graph | the And-Or graph as JSON |
| model_calls | masked inputs that the explained model was asked |
| engine | what has found the interactions: exact, trees or sampled |
| r2, r2_low, r2_high | R2 of a sampled answer on held-out masks, with its interval of 95 %; else 1 |
| believable | whether that interval lies at or above min_r2 |

and with `details` also `players`, `rewards`, `interactions`, `or_interactions`, `terms`, `learning` and `sample`:
tables over all subsets by the engine exact, `terms` as JSON by the others. Where the baseline is several rows, a
pattern has `spread` too, the standard deviation of its effect over them, by the engines exact and trees.

With `subsets`, a JSON list of lists of players by number, nothing is explained: the answer has `target` and `rewards`,
the reward of each of these subsets.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, Object, Property

from conceptry.models.errors import InputError, truncated_repr
from conceptry.models.explained.hooks import redraw
from conceptry.models.explained.protocol import ExplainedModel
from conceptry.models.explainer import Explainer, cell_error, is_given
from conceptry.models.harsanyi.inputs import fit_image, read_points
from conceptry.models.harsanyi.interactions.and_or import split
from conceptry.models.harsanyi.interactions.record import Interactions
from conceptry.models.harsanyi.model import Harsanyi
from conceptry.models.harsanyi.package import read_package
from conceptry.models.harsanyi.settings import WORK
from conceptry.models.images import decode_image, image_bytes

_PATTERN = Object(
    [
        Property("players", Array(DataType.string)),
        Property("effect", DataType.double),
        Property("kind", DataType.string),
        # Not `spread`, which some answers have: Spark reads every declared one from every answer.
    ]
)
_SHARE = Object([Property("player", DataType.string), Property("value", DataType.double)])
_NUMBERS = ("v_full", "v_empty", "explain_ratio", "square_error", "residual", "gap")
_OUTPUTS = Schema(
    [
        ColSpec(DataType.string, "target"),
        ColSpec(Array(_PATTERN), "patterns"),
        *(ColSpec(DataType.double, name) for name in _NUMBERS),
        ColSpec(DataType.long, "n_salient"),
        ColSpec(DataType.long, "n_kept"),
        ColSpec(DataType.double, "l1"),
        ColSpec(DataType.double, "l1_start"),
        ColSpec(Array(_SHARE), "shapley"),
        ColSpec(DataType.string, "graph"),
        ColSpec(DataType.long, "model_calls"),
        ColSpec(DataType.string, "engine"),
        *(ColSpec(DataType.double, name) for name in ("r2", "r2_low", "r2_high")),
        ColSpec(DataType.boolean, "believable"),
    ]
)
_PARAMS = ParamSchema(
    [
        ParamSpec("target", DataType.string, None),
        ParamSpec("top_k", DataType.long, None),
        ParamSpec("denoise", DataType.boolean, True),
        ParamSpec("details", DataType.boolean, False),
        ParamSpec("subsets", DataType.string, None),
    ]
)


class HarsanyiExplainer(Explainer):
    """Serves one registered Harsanyi version."""

    harsanyi: Harsanyi
    work = WORK

    def load(self, directory: Path, device: torch.device) -> None:
        self.harsanyi = read_package(directory, device)
        inputs = Schema([ColSpec(AnyType(), name, required=False) for name in columns_of(self.harsanyi.model)])
        self.signature = ModelSignature(inputs=inputs, outputs=_OUTPUTS, params=_PARAMS)
        # The kernels compile at their first use: better now than in the first request.
        i_or = split(np.arange(4.0)).i_or if self.harsanyi.settings.interactions == "and-or" else None
        Interactions(("x", "y"), "", np.zeros(4), np.zeros(4), i_or, 0.0, None, 0, {}).denoised()
        self.harsanyi.engines.warm_up()

    def redraw(self, share: float, seed: int) -> int:
        """Draw layers of an explained network anew, or leaves of an ensemble of trees; see `Explainer.redraw`."""
        model = self.harsanyi.model
        networks = [getattr(model, name, None) for name in ("module", "network")]
        return redraw(networks, share, seed) or self.harsanyi.engines.redraw(share, seed)

    def explain(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
        target = params.get("target") or None
        subsets = read_subsets(params.get("subsets"))
        calls = self.harsanyi.engines.calls if subsets is None else len(subsets) * self.harsanyi.engines.n_baselines
        self.check_work(len(rows) * calls)
        samples = [self._sample(row, values) for row, values in enumerate(rows.to_dict("records"))]
        if subsets is not None:
            return pd.DataFrame([self.harsanyi.ask(sample, subsets, target) for sample in samples])
        denoise = params.get("denoise")
        explanations = self.harsanyi.explain(
            samples,
            target,
            self.progress,
            top_k=params.get("top_k"),
            denoise=denoise is None or bool(denoise),
            details=bool(params.get("details")),
        )
        return pd.DataFrame(explanations.answers())

    def _sample(self, row: int, values: Mapping[Any, Any]) -> Any:
        """What the model is asked to explain: {column: value}, a text, pixels or points."""
        modality = self.harsanyi.model.modality
        if modality == "table":
            return values
        value = values.get(modality)
        if not is_given(value):
            raise cell_error(row, modality, f"is not given; expected one {modality} a row")
        if modality == "text":
            if not isinstance(value, str) or not value.strip():
                raise cell_error(row, "text", "expected a text that is not blank")
            return value
        try:
            # A cell of text is base64, never the name of a file.
            model = self.harsanyi.model
            return read_points(value) if modality == "points" else fit_image(decode_image(image_bytes(value)), model)
        except InputError as error:
            raise cell_error(row, modality, error) from None


def read_subsets(text: str | None) -> list[list[int]] | None:
    """The subsets that are asked about, None where they are not. Raises InputError for what is no list of lists."""
    if not text:
        return None
    try:
        subsets = json.loads(text)
    except (ValueError, RecursionError):
        subsets = None
    if (
        not isinstance(subsets, list)
        or not subsets
        or not all(isinstance(subset, list) and all(type(player) is int for player in subset) for subset in subsets)
    ):
        raise InputError(f"subsets: expected a JSON list of lists of players by number, got {truncated_repr(text)}")
    return subsets


def columns_of(model: ExplainedModel) -> list[str]:
    """The columns of a request."""
    return [column.name for column in model.columns] if model.modality == "table" else [model.modality]
