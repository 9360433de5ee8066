"""Metrics of perturbations: the network itself, counterfactuals, and probes.

Everything comes from the answers of a version, which are about the image that it delivers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from conceptry.evaluation.perturbation.client import CaseExplanation
from conceptry.evaluation.perturbation.data import grey_of
from conceptry.evaluation.perturbation.judges import Judgement, Reference, judge

MEASURED = ("success", "changed", "l1", "l2", "loss", "steps")
ATTACK_STEPS = 20
_RADII = {16: 2.0, 8: 1.25}  # by the larger side; the radii that the digits networks were trained for
_RADIUS = 3.0  # of robust ImageNet networks


def attack(image: Any) -> dict[str, Any]:
    """Parameters of an L2 attack on the network itself, for every version; `image` is a delivered one.

    All pixels may change and nothing stops it early, whatever the version was registered with; but `clip`, `use_best`
    and, of a version by l2_projected itself, `restarts` are its own, as no request can change them.
    """
    from conceptry.models.perturbation.optimizers.projected import usual_lr  # torch is slow to import

    radius = _RADII.get(max(image.size), _RADIUS)
    return {
        "mode": "counterfactual",
        "optimizer": "l2_projected",
        "epsilon": radius,
        "lr": usual_lr(radius, ATTACK_STEPS),
        "steps": ATTACK_STEPS,
        "max_changed": 1.0,
        "confidence": 1.0,
        "sparsest": False,
    }


def is_accurate(explained: Sequence[CaseExplanation], column: str) -> list[bool]:
    """Whether the label comes first in `column`, "before" or "after" the perturbation, of each labelled picture."""
    return [e.answer[column][0]["class"] == e.case.label for e in explained]


def counterfactual_metrics(explained: Sequence[CaseExplanation]) -> dict[str, list[float]]:
    """What is measured of each counterfactual, by metric."""
    found = {name: [float(e.answer[name]) for e in explained] for name in MEASURED}
    if any(e.answer["gap"] for e in explained):  # projected steps have none
        found["gap"] = [e.answer["gap"] for e in explained]
    return found | {"confidence": [e.confidence for e in explained]}


def probe_metrics(explained: Sequence[CaseExplanation]) -> dict[str, list[float]]:
    """Whether the network takes each probe for its class, and how surely."""
    return {
        "probe_success": [float(e.answer["success"]) for e in explained],
        "probe_confidence": [e.confidence for e in explained],
    }


def judge_probes(explained: Sequence[CaseExplanation], reference: Reference) -> Judgement:
    """Judge probes by classifiers that share nothing with the network. Raises InputError as `judge` does."""
    return judge(grey_of([e.image for e in explained]), [str(e.case.target) for e in explained], reference)


def judgement_metrics(judged: Judgement) -> dict[str, np.ndarray]:
    """What the judges say of each probe."""
    return {
        "probe_knn": judged.knn_classes == judged.targets,
        "probe_svc": judged.svc_classes == judged.targets,
        "probe_margin": judged.margins,
    }


def counterfactual_table(explained: Sequence[CaseExplanation]) -> pd.DataFrame:
    """One row for each picture."""
    return pd.DataFrame(
        [
            {"sample": e.case.key, "label": e.case.label or "", "before": e.answer["before"][0]["class"],
             "target": e.case.target or "", "after": e.answer["after"][0]["class"], "confidence": e.confidence}
            | {name: e.answer[name] for name in (*MEASURED, "gap", "q", "epsilon")}
            for e in explained
        ]
    )  # fmt: skip


def probe_table(explained: Sequence[CaseExplanation], judged: Judgement | None) -> pd.DataFrame:
    """One row for each probe; with what the judges say of it where there are some."""
    table = pd.DataFrame(
        [
            {"target": e.case.target, "after": e.answer["after"][0]["class"], "success": bool(e.answer["success"]),
             "confidence": e.confidence}
            for e in explained
        ]
    )  # fmt: skip
    if judged is None:
        return table
    return table.assign(knn=judged.knn_classes, svc=judged.svc_classes, margin=judged.margins)
