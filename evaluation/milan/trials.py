"""Trials of descriptions: do they survive noise in the exemplars, do they hang on what the network has learned?

Each trial adds metrics to a report. A part of an explanation is a word, and its weight is how often the description
says it. Two descriptions of anything share a few words, so what is alike by chance stands beside what is alike.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from conceptry.evaluation.harness import Metric, MetricGroup
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.milan.client import SHOWN, CaseDescription, UnitCase, describe_cases
from conceptry.evaluation.milan.data import UnitData
from conceptry.evaluation.milan.metrics import word_counts
from conceptry.evaluation.reports import Report
from conceptry.evaluation.scores import faithfulness as f
from conceptry.evaluation.scores import robustness as r
from conceptry.models.errors import ConceptryError

CHANGED, DRAWS, NOISE = 16, 4, 0.05  # units and noises of each; of white
METRICS = {
    "sensitivity_max": Metric("lower", ".3f", "largest change of the words under noise, over their number, mean"),
    "stable_words": Metric("higher", ".3f", "Jaccard index of the words with those under noise, mean"),
    "randomisation": Metric("lower", ".3f", "cosine of the words with those of a network drawn anew, mean"),
    "randomisation_shuffled": Metric(None, ".3f", "cosine of the words with those for other units, mean: chance"),
}
GROUPS = {
    "robustness": MetricGroup("how far descriptions move under noise in the exemplars", by_default=False),
    "randomisation": MetricGroup("whether descriptions depend on the network's parameters", by_default=False),
}

Share = Callable[[float], None]


def robustness(
    predict: Predict, data: UnitData, described: Sequence[CaseDescription], report: Report, progress: Share
) -> None:
    """How far the words of units whose exemplars have a little noise are from those without."""
    active = _active(described)
    places = np.linspace(0, len(active) - 1, min(CHANGED, len(active))).round().astype(int)
    chosen, rows = [active[place] for place in places], []
    for done, d in enumerate(chosen):
        moved = describe_cases(predict, [_with_noise(d, draw) for draw in range(DRAWS)])
        own, *others = counts = [word_counts(each.description) for each in (d, *moved)]
        start, *vectors = f.aligned(*counts)
        same = [len({*own} & {*other}) / (len({*own} | {*other}) or 1) for other in others]
        rows.append((r.sensitivity_max(start, np.stack(vectors)), np.mean(same)))
        progress((done + 1) / len(chosen))
    names = ("sensitivity_max", "stable_words")
    report.add_samples([d.case.key for d in chosen], dict(zip(names, np.array(rows).T, strict=True)))


def _active(described: Sequence[CaseDescription]) -> list[CaseDescription]:
    active = [d for d in described if d.active]
    if not active:
        raise ConceptryError("no unit is active on any of its exemplars")
    return active


def _with_noise(d: CaseDescription, draw: int) -> UnitCase:
    held = d.exemplars if d.case.images is None else d.case
    assert held is not None  # the version's own units are asked about with their exemplars
    images, masks = held.images, held.masks
    assert images is not None
    return UnitCase(SHOWN, d.case.key, images=r.noisy_pixels(images, r.noise_of(d.case.key, draw), NOISE), masks=masks)


def randomisation(
    predict: Predict, data: UnitData, described: Sequence[CaseDescription], report: Report, progress: Share
) -> None:
    """Cosine of the words with those for the same unit once its network is drawn anew: 1 describes no network.

    Exemplars of the changed units are chosen from the same pictures.
    """
    changed = data.redrawn_cases
    chosen = _active([d for d in described if d.case.key in changed])
    progress(0.5)
    others = describe_cases(
        predict, [changed[d.case.key] for d in chosen], progress=lambda share: progress((1 + share) / 2)
    )
    counts = [word_counts(d.description) for d in (*chosen, *others)]
    vectors = f.aligned(*counts)
    own, random = vectors[: len(chosen)], vectors[len(chosen) :]
    alike = [f.cosine(one, other) for one, other in zip(own, random, strict=True)]
    cosines = np.array([[f.cosine(one, other) for other in own] for one in own])
    chance = (cosines.sum(axis=1) - cosines.diagonal()) / (len(own) - 1) if len(own) > 1 else [np.nan] * len(own)
    report.add_samples([d.case.key for d in chosen], {"randomisation": alike, "randomisation_shuffled": chance})
    said = [[d.case.key, d.description, other.description] for d, other in zip(chosen, others, strict=True)]
    report.tables["randomisation"] = pd.DataFrame(said, columns=["sample", "description", "of a random network"])


TRIALS = {"robustness": robustness, "randomisation": randomisation}
