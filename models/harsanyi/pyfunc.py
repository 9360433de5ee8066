"""Harsanyi interactions behind MLflow's pyfunc interface: one row is one sample, one row of answer explains it.

The columns are those of the explained model, or `text`, `image` (bytes, or base64) or `points` (a list of [x, y, z]).
All are typed "any": with other types MLflow itself would refuse a null or a wrong number, in sentences that name no
row. The answer has for each row

| column | what |
|---|---|
| target | the output that is explained |
| patterns | list of {players, effect, kind}, by descending strength, without the empty one |
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

and with `details` also `players`, `rewards`, `interactions`, `or_interactions`, `learning` and `sample`.
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

from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import ExplainedModel
from conceptry.models.explainer import Explainer, cell_error, is_given
from conceptry.models.harsanyi.interactions.and_or import split
from conceptry.models.harsanyi.interactions.record import Interactions
from conceptry.models.harsanyi.method import read_package
from conceptry.models.harsanyi.model import Harsanyi
from conceptry.models.images import decode_image, image_bytes

_PATTERN = Object(
    [
        Property("players", Array(DataType.string)),
        Property("effect", DataType.double),
        Property("kind", DataType.string),
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
    ]
)
_PARAMS = ParamSchema(
    [
        ParamSpec("target", DataType.string, None),
        ParamSpec("top_k", DataType.long, None),
        ParamSpec("denoise", DataType.boolean, True),
        ParamSpec("details", DataType.boolean, False),
    ]
)


MAX_LISTED = 2**16


class HarsanyiExplainer(Explainer):
    """Serves one registered Harsanyi version."""

    harsanyi: Harsanyi

    def load(self, directory: Path, device: torch.device) -> None:
        self.harsanyi = read_package(directory, device)
        inputs = Schema([ColSpec(AnyType(), name, required=False) for name in columns_of(self.harsanyi.model)])
        self.signature = ModelSignature(inputs=inputs, outputs=_OUTPUTS, params=_PARAMS)
        # The kernels compile at their first use: better now than in the first request.
        i_or = split(np.arange(4.0)).i_or if self.harsanyi.settings.interactions == "and-or" else None
        Interactions(("x", "y"), "", np.zeros(4), np.zeros(4), i_or, 0.0, None, 0, {}).denoised()

    def explain(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
        top_k = params.get("top_k")
        if top_k is not None and top_k < 1:
            raise InputError(f"top_k must be at least 1, got {top_k}")
        target, denoise = params.get("target") or None, params.get("denoise")
        keep = denoise is None or bool(denoise)
        samples = [self._sample(row, values) for row, values in enumerate(rows.to_dict("records"))]
        answers = []
        for row, sample in enumerate(samples):
            try:
                if not keep and top_k is None:
                    self._check_listed(sample)
                interactions = self.harsanyi.explain(sample, target, self.progress)
            except InputError as error:
                raise InputError(f"row {row}: {error}") from None
            answer = self._answer(interactions, top_k, keep)
            answers.append(answer | (_details(interactions) if params.get("details") else {}))
        return pd.DataFrame(answers)

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
            return _points(value) if modality == "points" else _pixels(value, self.harsanyi.model)
        except InputError as error:
            raise cell_error(row, modality, error) from None

    def _check_listed(self, sample: Any) -> None:
        """Refuse to list all patterns of many players: each is an object of the answer, 100 bytes and more."""
        n = len(self.harsanyi.problem(sample).players)
        if 2**n > MAX_LISTED:
            raise InputError(
                f"denoise is false, and {n} players have {2**n - 1:,} patterns; at most {MAX_LISTED:,} are listed, "
                "so ask for the strongest by top_k, or for all numbers by details"
            )

    def _answer(self, interactions: Interactions, top_k: int | None, keep: bool) -> dict[str, Any]:
        settings = self.harsanyi.settings
        denoised = interactions.denoised(**settings.denoising())
        rows = interactions.strongest(denoised.kept if keep else None, top_k)
        shown = rows[: settings.max_patterns]  # a graph of more could not be read
        patterns = zip(
            interactions.masks(rows), interactions.effects[rows].tolist(), interactions.kinds(rows), strict=True
        )
        names = interactions.players
        return {
            "target": interactions.target,
            "patterns": [
                {"players": [names[k] for k in np.flatnonzero(mask)], "effect": effect, "kind": kind}
                for mask, effect, kind in patterns
            ],
            "v_full": interactions.v_full,
            "v_empty": interactions.v_empty,
            "explain_ratio": float(denoised.explain_ratio),
            "square_error": float(denoised.square_error),
            "residual": interactions.residual,
            "gap": interactions.gap,
            "n_salient": len(interactions.salient),
            "n_kept": len(interactions.strongest(denoised.kept)),
            "l1": interactions.l1,
            "l1_start": interactions.learned.initial_l1 if interactions.learned else interactions.l1,
            "shapley": [{"player": p, "value": v} for p, v in zip(names, interactions.shapley.tolist(), strict=True)],
            "graph": interactions.graph(shown).to_json(),
            "model_calls": interactions.calls,
        }


def columns_of(model: ExplainedModel) -> list[str]:
    """The columns of a request."""
    return [column.name for column in model.columns] if model.modality == "table" else [model.modality]


def _details(interactions: Interactions) -> dict[str, Any]:
    learned = interactions.learned
    return {
        "players": list(interactions.players),
        "rewards": interactions.v.tolist(),
        "interactions": interactions.i_and.tolist(),
        "or_interactions": [] if interactions.i_or is None else interactions.i_or.tolist(),
        "learning": [] if learned is None else np.asarray(learned.l1).tolist(),
        "sample": json.dumps(interactions.description),
    }


def _pixels(value: object, model: Any) -> np.ndarray:
    """RGB pixels uint8 (H, W, 3), at the size that the model states, where it does."""
    picture = decode_image(image_bytes(value))
    size = getattr(model, "call_size", None)
    if size is not None and picture.size != (size[1], size[0]):
        picture = picture.resize((size[1], size[0]))
    return np.asarray(picture)


def _points(value: Any) -> np.ndarray:
    try:
        points = np.asarray(value.tolist() if isinstance(value, np.ndarray) else value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("expected a list of [x, y, z]") from None
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise InputError(f"expected a list of [x, y, z], got shape {points.shape}")
    if not np.isfinite(points).all():
        raise InputError("expected finite coordinates, got NaN or infinite values")
    return points
