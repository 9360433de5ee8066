"""Ask a perturbation version about cases, some rows at a time, with all details."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from conceptry.evaluation.drawing.images import image_of, image_text
from conceptry.evaluation.isolation.client import Predict, ask_in_batches
from conceptry.evaluation.perturbation.data import Case
from conceptry.models.images import decode_image, png_bytes

# The search is of counterfactuals: a version that was registered with it probes without.
PROBE: Mapping[str, Any] = {"mode": "probe", "sparsest": False}
ROWS = 64  # of a request: a bounded number of pictures is in memory at once
_SIDE = ("target", "changed", "l1", "l2", "loss", "success", "steps")
_FIELDS = (*_SIDE, "source", "gap", "q", "epsilon", "clipped")


@dataclass(frozen=True)
class CaseExplanation:
    """What a version said of one case; `answer` by output column, `seconds`: its share of the request's time."""

    case: Case
    answer: Mapping[str, Any]
    seconds: float

    @cached_property
    def image(self) -> Image.Image:
        """Image that the version delivered."""
        return decode_image(self.answer["image"])

    @property
    def starts_from_noise(self) -> bool:
        """Whether another seed would give another result: grey is the same for all."""
        return start_of(self.answer) == "noise"

    @property
    def confidence(self) -> float:
        """Probability of the target after it; of an untargeted one, that it is not the class that was to be left.

        The loss is the cross-entropy, so it is known also where the class is not among those that are listed.
        """
        probability = float(np.exp(-self.answer["loss"]))
        return probability if self.case.target else 1.0 - probability


def explain_cases(
    predict: Predict,
    cases: Sequence[Case],
    params: Mapping[str, Any] | None = None,
    progress: Callable[[float], None] = lambda share: None,
    rows: int = ROWS,
) -> list[CaseExplanation]:
    """Explanations of all cases, in their order. Raises ConceptryError naming the row that is refused."""
    explained = []
    for answer in ask_in_batches(predict, cases, _table, {"details": True} | dict(params or {}), rows):
        explained.append(CaseExplanation(*answer))
        if len(explained) % rows == 0 or len(explained) == len(cases):
            progress(len(explained) / len(cases))
    return explained


def _table(cases: Sequence[Case]) -> pd.DataFrame:
    rows = [{"image": case.content, "target": case.target, "source": case.source} for case in cases]
    table = pd.DataFrame(rows, dtype=object)
    # A column that no case has is left out: the version then takes it as not given.
    return table.loc[:, table.notna().any()] if table.notna().any().any() else table


def record_of(explained: CaseExplanation, source: str) -> dict[str, Any]:
    """One explanation for printing and drawing, JSON-ready; pictures are base64 of PNG files."""
    answer = explained.answer
    return {
        "file": source,
        "probe": explained.case.image is None,
        **{name: answer[name] for name in _FIELDS},
        "start": image_text(answer["start"]),
        **_images(answer),
        "before": [dict(entry) for entry in answer["before"]],
        "no_gradient": bool(answer.get("no_gradient")),  # versions of earlier code do not say
        "other": [
            {name: side[name] for name in _SIDE} | {"no_gradient": bool(side.get("no_gradient"))} | _images(side)
            for side in answer["other"]
        ],
        "history": list(answer["history"]),
        "path": [dict(point) for point in answer["path"]],
    }


def start_of(record: Mapping[str, Any]) -> str:
    """What the probe of a record or an answer started from: grey, which is one colour, or noise."""
    return "noise" if np.ptp(np.asarray(image_of(record["start"]))) else "grey"


def with_mean(record: dict[str, Any], probes: Sequence[CaseExplanation]) -> dict[str, Any]:
    """The record of a probe, with the mean of probes of the same class from several noises: what they share."""
    mean = np.mean([np.asarray(probe.image, dtype=np.float64) for probe in probes], axis=0)
    image = png_bytes(Image.fromarray(np.rint(mean).astype(np.uint8)))
    return record | {"mean": image_text(image), "mean_of": len(probes)}


def _images(answer: Mapping[str, Any]) -> dict[str, Any]:
    after = [dict(entry) for entry in answer["after"]]
    return {"image": image_text(answer["image"]), "delta": image_text(answer["delta"]), "after": after}
