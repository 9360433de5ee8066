"""Trials of counterfactuals: do the changed pixels make the class, does the change survive noise, does it hang on the
network?

Each trial adds metrics to a report. A part of an explanation is a changed pixel, and its value is the probability of
the target, from the picture with these changes alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from PIL import Image

from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.perturbation.client import CaseExplanation, explain_cases
from conceptry.evaluation.perturbation.data import Case
from conceptry.evaluation.reports import Report
from conceptry.evaluation.scores import faithfulness as f
from conceptry.evaluation.scores import robustness as r
from conceptry.evaluation.scores.randomisation import stages
from conceptry.models.errors import ConceptryError
from conceptry.models.images import decode_image, png_bytes

FAITHFUL = 32  # pictures
STEPS = 10  # of an order of pixels: as many parts, of as many pixels each
RANDOM_ORDERS = 2
CHANGED, DRAWS, NOISE = 16, 4, 0.02  # pictures and noises of each; of white
COUNTERFACTUAL = {"mode": "counterfactual"}

Share = Callable[[float], None]


def faithfulness(predict: Predict, explained: Sequence[CaseExplanation], report: Report, progress: Share) -> None:
    """Probability of the target as changes are put in and taken out: from the largest on, and by chance."""
    asked: list[Case] = []
    plan: list[tuple[CaseExplanation, int]] = []
    for e in [e for e in explained if e.case.target][:FAITHFUL]:
        start, end = _pixels(e.case.content), np.asarray(e.image)
        size = np.abs(end.astype(int) - start).max(axis=-1).ravel()
        changed = np.flatnonzero(size)
        if len(changed) < 2 or start.shape != end.shape:
            continue
        parts = min(STEPS, len(changed))
        by_size = changed[np.argsort(-size[changed], kind="stable")]
        orders = [by_size, *(by_size[o] for o in f.random_orders(len(by_size), RANDOM_ORDERS, e.case.key))]
        cuts = np.linspace(0, len(changed), parts + 1).round().astype(int)
        for present in (True, False):
            for order in orders:
                asked += [_mixed(e.case, start, end, order[:cut], present) for cut in cuts]
        plan.append((e, parts))
    if not plan:
        report.notes.append("faithfulness is left out: no targeted counterfactual changes two pixels or more")
        return
    # The first loss of a search is that of the picture it starts from: one step is the cheapest that can be asked.
    params = COUNTERFACTUAL | {"steps": 1, "sparsest": False}
    answers = explain_cases(predict, asked, params, progress)
    values = np.exp(-np.array([each.answer["history"][0] for each in answers]))
    rows, start_at = [], 0
    for _, parts in plan:
        count = 2 * (1 + RANDOM_ORDERS) * (parts + 1)
        curves = f.Curves.of(values[start_at : start_at + count].reshape(2, 1 + RANDOM_ORDERS, parts + 1))
        rows.append(curves.areas())
        start_at += count
    report.add_samples([e.case.key for e, _ in plan], {name: [row[name] for row in rows] for name in rows[0]})


def _mixed(case: Case, start: np.ndarray, end: np.ndarray, chosen: np.ndarray, present: bool) -> Case:
    """The picture with the chosen pixels changed, or with all changed but these."""
    first, second = (start, end) if present else (end, start)
    pixels = first.reshape(-1, first.shape[-1]).copy()
    pixels[chosen] = second.reshape(-1, second.shape[-1])[chosen]
    return replace(case, image=png_bytes(Image.fromarray(pixels.reshape(start.shape))))


def robustness(predict: Predict, explained: Sequence[CaseExplanation], report: Report, progress: Share) -> None:
    """How far the changes of pictures with a little noise are from those without."""
    chosen = explained[:CHANGED]
    noisy = [_with_noise(e.case, draw) for e in chosen for draw in range(DRAWS)]
    moved = explain_cases(predict, noisy, COUNTERFACTUAL, progress)
    rows = []
    for i, e in enumerate(chosen):
        others = moved[i * DRAWS : (i + 1) * DRAWS]
        change = np.stack([_change(each) for each in others])
        outputs = np.array([each.answer["history"][0] - e.answer["history"][0] for each in others])
        rows.append((r.sensitivity_max(_change(e), change), np.abs(outputs).max()))
    names = ("sensitivity_max", "output_change")
    report.add_samples([e.case.key for e in chosen], dict(zip(names, np.array(rows).T, strict=True)))


def _with_noise(case: Case, draw: int) -> Case:
    assert case.content is not None  # a counterfactual has a picture
    return replace(case, image=r.noisy_image(case.content, r.noise_of(case.key, draw), NOISE))


def randomisation(predict: Predict, explained: Sequence[CaseExplanation], report: Report, progress: Share) -> None:
    """Cosine of the changes with those of a network drawn anew: 1 is an explanation of nothing."""
    chosen, rows = explained[:CHANGED], []
    cosines: list[float] = []
    for share, random in stages(predict, progress):
        others = explain_cases(random, [e.case for e in chosen], COUNTERFACTUAL)
        cosines = [abs(f.cosine(_change(e), _change(o))) for e, o in zip(chosen, others, strict=True)]
        rows.append({"share": share, "cosine": float(np.mean(cosines))})
    report.add_samples([e.case.key for e in chosen], {"randomisation": cosines})
    report.tables["randomisation"] = pd.DataFrame(rows)


def _change(e: CaseExplanation) -> np.ndarray:
    """What was changed, of the size that the version delivers, as one vector."""
    start, end = _pixels(e.case.content), np.asarray(e.image)
    if start.shape != end.shape:
        raise ConceptryError("the version delivers pictures of another size than those that it was given")
    return (end.astype(np.float64) - start).ravel()


def _pixels(content: bytes | None) -> np.ndarray:
    assert content is not None  # a counterfactual has a picture
    return np.asarray(decode_image(content))
