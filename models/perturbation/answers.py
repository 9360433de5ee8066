"""One row of an answer: an explanation in names, numbers and PNG files."""

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from conceptry.models.images import png_bytes
from conceptry.models.perturbation.classifier import ClassScores
from conceptry.models.perturbation.explanation import Explanation

TOP = 5  # classes that are listed


def answer(
    scores: ClassScores, explanations: Sequence[Explanation], row: int, *, details: bool = False, text: bool = False
) -> dict[str, Any]:
    """Row `row` of the first explanation; that of a second one, toward the wrong class, is its `other`.

    text: pictures as base64 instead of bytes.
    """
    first, *others = explanations
    gap = float(first.gap[row])
    values = _result(scores, first, row, text) | {
        "source": scores.classes[first.sources[row]],
        "before": _top(scores, first.before[row]),
        "gap": 0.0 if gap != gap else gap,
        "q": float(first.q[row]),
        "epsilon": float(first.epsilon[row]),
        "clipped": first.clipped,
        "other": [_result(scores, other, row, text) for other in others],
    }
    if details:
        history = first.history[row]
        values |= {
            "start": _png(scores, first.start[row], text),
            "history": history[~history.isnan()].tolist(),
            "path": [dataclasses.asdict(point) for point in first.path[row]] if first.path else [],
        }
    return values


def amplified(delta: Tensor) -> Tensor:
    """1/2 + delta / (2 max |delta|): pixels (C, H, W) in which grey is no change."""
    return 0.5 + delta / (2 * delta.abs().max().clamp_min(torch.finfo(delta.dtype).tiny))


def _result(scores: ClassScores, explanation: Explanation, row: int, text: bool) -> dict[str, Any]:
    return {
        "target": scores.classes[explanation.targets[row]],
        "image": _png(scores, explanation.perturbed[row], text),
        "delta": _png(scores, amplified(explanation.delta[row]), text),
        "after": _top(scores, explanation.after[row]),
        "changed": float(explanation.changed[row]),
        "l1": float(explanation.l1[row]),
        "l2": float(explanation.l2[row]),
        "loss": float(explanation.loss[row]),
        "success": bool(explanation.success[row]),
        "steps": int(explanation.steps[row]),
    }


def _top(scores: ClassScores, probabilities: Tensor) -> list[dict[str, Any]]:
    top = probabilities.topk(min(TOP, len(probabilities)))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [{"class": scores.classes[i], "probability": p} for i, p in pairs]


def _png(scores: ClassScores, pixels: Tensor, text: bool) -> bytes | str:
    content = png_bytes(Image.fromarray(scores.model.to_pictures(pixels[None])[0]))
    return base64.b64encode(content).decode() if text else content
