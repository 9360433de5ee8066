"""Ask a Harsanyi version to explain samples, one at a time, with all details."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

from conceptry.evaluation.drawing.images import image_text
from conceptry.evaluation.harsanyi.data import Sample
from conceptry.evaluation.harsanyi.metrics import error_curve, residual, sparse_error_curve
from conceptry.evaluation.isolation.client import Predict
from conceptry.models.errors import ConceptryError
from conceptry.models.harsanyi.graph import AndOrGraph
from conceptry.models.harsanyi.interactions.moebius import subset_sizes
from conceptry.models.harsanyi.interactions.terms import Terms


@dataclass(frozen=True)
class SampleExplanation:
    """Answer of a version about one sample; `answer` by output column, `seconds` of its `predict`."""

    sample: Sample
    answer: Mapping[str, Any]
    seconds: float

    @cached_property
    def table(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Rewards (2^n,) and interactions (2^n,), or (2 * 2^n,) with the OR part last; None of a sparse answer."""
        if not len(self.answer["rewards"]):
            return None
        effects = np.concatenate([self.answer["interactions"], self.answer["or_interactions"]])
        return np.asarray(self.answer["rewards"], dtype=np.float64), effects.astype(np.float64)

    @cached_property
    def terms(self) -> Terms:
        """The interactions of a sparse answer, that of the empty set first."""
        found: tuple[dict, dict] = {}, {}
        for players, effect, kind in json.loads(self.answer["terms"]):
            found[kind == "or"][tuple(players)] = effect
        return Terms.of(self.n, *found)

    @cached_property
    def i(self) -> np.ndarray:
        """Interactions by row, row 0 that of the empty set."""
        return self.terms.effects if self.table is None else self.table[1]

    @cached_property
    def sizes(self) -> np.ndarray:
        """Number of players of each row of `i`."""
        return self.terms.sizes if self.table is None else subset_sizes(self.n)[np.arange(len(self.i)) % 2**self.n]

    @cached_property
    def is_or(self) -> np.ndarray:
        """Which rows of `i` are OR interactions."""
        return self.terms.is_or if self.table is None else np.arange(len(self.i)) >= 2**self.n

    def error_curve(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Errors and explain ratios of the strongest patterns; see `metrics.error_curve`."""
        if self.table is None:
            return sparse_error_curve(self.terms, most)
        return error_curve(*self.table, most)

    @property
    def residual(self) -> float:
        """The largest |v - sum of the interactions| of the subsets that were asked, over the largest |v|."""
        return float(self.answer["residual"]) if self.table is None else residual(*self.table)

    @property
    def n(self) -> int:
        return len(self.answer["players"])

    @cached_property
    def graph(self) -> AndOrGraph:
        return AndOrGraph.from_json(self.answer["graph"])


def explain_samples(
    predict: Predict,
    samples: Sequence[Sample],
    progress: Callable[[float], None] = lambda share: None,
    params: Mapping[str, Any] | None = None,
) -> list[SampleExplanation]:
    """Explanations of all samples, in their order. Raises ConceptryError naming the sample that is refused."""
    explained = []
    for number, sample in enumerate(samples):
        try:
            answer = predict(pd.DataFrame([dict(sample.values)]), {"details": True} | dict(params or {}))
        except (ConceptryError, MlflowException) as error:  # of a process of its own, and of one in this process
            sentence = getattr(error, "message", str(error))
            raise ConceptryError(sentence.replace("row 0", f"sample {number}", 1)) from None
        explained.append(SampleExplanation(sample, answer.rows.to_dict("records")[0], answer.seconds))
        progress(len(explained) / len(samples))
    return explained


def record_of(explained: SampleExplanation, source: str) -> dict[str, Any]:
    """One explanation for printing and drawing, JSON-ready; an explained image is in it as `picture`, base64 text."""
    answer, image = explained.answer, explained.sample.values.get("image")
    described = json.loads(answer["sample"])
    kept = ("target", "v_full", "v_empty", "explain_ratio", "square_error", "n_salient", "n_kept", "model_calls")
    return {
        "file": source,
        "modality": described["modality"],
        "sample": described["sample"],
        "groups": described["groups"],
        **{name: described[name] for name in ("unseen", "baselines") if name in described},
        **{name: answer[name] for name in kept},
        # Of versions that were registered before there were engines: all subsets.
        "engine": answer.get("engine", "exact"),
        **{name: answer.get(name, 1.0) for name in ("r2", "r2_low", "r2_high")},
        "believable": bool(answer.get("believable", True)),
        "patterns": [dict(p) | {"players": list(p["players"])} for p in answer["patterns"]],
        "shapley": [dict(entry) for entry in answer["shapley"]],
        "graph": answer["graph"],
        **({"picture": image_text(image)} if isinstance(image, bytes) else {}),
    }
