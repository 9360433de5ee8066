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
from conceptry.evaluation.isolation.client import Predict
from conceptry.models.errors import ConceptryError
from conceptry.models.harsanyi.graph import AndOrGraph


@dataclass(frozen=True)
class SampleExplanation:
    """Answer of a version about one sample; `answer` by output column, `seconds` of its `predict`."""

    sample: Sample
    answer: Mapping[str, Any]
    seconds: float

    @cached_property
    def v(self) -> np.ndarray:
        """Rewards (2^n,)."""
        return np.asarray(self.answer["rewards"], dtype=np.float64)

    @cached_property
    def i(self) -> np.ndarray:
        """Interactions (2^n,), or (2 * 2^n,) with the OR part last."""
        return np.concatenate([self.answer["interactions"], self.answer["or_interactions"]]).astype(np.float64)

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
        **({"unseen": described["unseen"]} if "unseen" in described else {}),
        **{name: answer[name] for name in kept},
        "patterns": [dict(p) | {"players": list(p["players"])} for p in answer["patterns"]],
        "shapley": [dict(entry) for entry in answer["shapley"]],
        "graph": answer["graph"],
        **({"picture": image_text(image)} if isinstance(image, bytes) else {}),
    }
