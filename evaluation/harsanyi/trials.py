"""Experiments on explanations: do the kept patterns say what the model does, do they survive noise, do they hang on it?

Each experiment adds metrics to a report. Rewards of subsets come from the explanation where it has all of them, else
from the version, which is asked about them.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from conceptry.evaluation.harsanyi.client import SampleExplanation, explain_samples
from conceptry.evaluation.harsanyi.data import Sample
from conceptry.evaluation.harsanyi.metrics import jaccard
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.reports import Report
from conceptry.evaluation.scores import faithfulness as f
from conceptry.evaluation.scores import robustness as r
from conceptry.evaluation.scores.randomisation import stages
from conceptry.models.errors import ConceptryError
from conceptry.models.harsanyi.interactions.terms import Terms

MASKS = 512  # that R2 is measured on
RANDOM_ORDERS = 3
TOP = (1, 5, 10)
CHANGED, DRAWS, NOISE = 16, 4, 0.05  # samples and noises of each; of the spread of a column, or of white

Rewards = Callable[[np.ndarray], np.ndarray]


def faithfulness(
    predict: Predict, explained: Sequence[SampleExplanation], report: Report, progress: Callable[[float], None]
) -> None:
    """R2 of the kept patterns on drawn masks; insertion and deletion by them, by Shapley values and by chance."""
    rows = []
    for done, e in enumerate(explained):
        rows.append(scores_of(e, kept_terms(e), rewards_of(predict, e)))
        progress((done + 1) / len(explained))
    report.add_samples([e.sample.key for e in explained], {name: [row[name] for row in rows] for name in rows[0]})


def kept_terms(e: SampleExplanation) -> Terms:
    """The patterns that denoising keeps, with v(empty) as that of the empty set."""
    number = {name: k for k, name in enumerate(e.answer["players"])}
    parts: tuple[dict, dict] = {(): float(e.answer["v_empty"])}, {}
    for pattern in e.answer["patterns"]:
        players = tuple(sorted(number[name] for name in pattern["players"]))
        parts[pattern["kind"] == "or"][players] = float(pattern["effect"])
    return Terms.of(e.n, *parts)


def rewards_of(predict: Predict, e: SampleExplanation) -> Rewards:
    """The rewards of masks (m, n): from the table of all of them, or from the version.

    Raises ConceptryError where a version of a former release cannot be asked.
    """
    if e.table is not None:
        v, weights = e.table[0], 1 << np.arange(e.n, dtype=np.int64)[::-1]
        return lambda masks: v[masks @ weights]

    def ask(masks: np.ndarray) -> np.ndarray:
        subsets = json.dumps([np.flatnonzero(mask).tolist() for mask in masks])
        params = {"subsets": subsets, "target": e.answer["target"]}
        (answer,) = predict(pd.DataFrame([dict(e.sample.values)]), params).rows.to_dict("records")
        if "rewards" not in answer or len(answer["rewards"]) != len(masks):
            raise ConceptryError("the version is of a release that cannot be asked about subsets; register it again")
        return np.asarray(answer["rewards"], dtype=np.float64)

    return ask


def scores_of(e: SampleExplanation, terms: Terms, rewards: Rewards) -> dict[str, float]:
    """Scores of one explanation, `terms`, of the sample of `e`."""
    n, total = e.n, float(e.answer["v_full"]) - float(e.answer["v_empty"])
    shapley = {entry["player"]: entry["value"] for entry in e.answer["shapley"]}
    orders = [
        _order(terms.shapley_values(), total),
        _order(np.array([shapley[name] for name in e.answer["players"]]), total),
        *f.random_orders(n, RANDOM_ORDERS, e.sample.key),
    ]
    drawn = np.random.default_rng(np.random.SeedSequence([*e.sample.key.encode(), 47])).random((MASKS, n)) < 0.5
    nested = [f.nested(order) for order in orders]
    masks = np.concatenate([drawn, *nested, *(~each for each in nested)])
    different, place = np.unique(masks, axis=0, return_inverse=True)
    values = rewards(different)[place.ravel()]
    curves = f.Curves.of(values[MASKS:].reshape(2, len(orders), n + 1))
    found = {"r2_masks": f.r2(values[:MASKS], terms.values(drawn))}
    for kind, areas in (("insertion", curves.insertion), ("deletion", curves.deletion)):
        own, by_shapley, *by_chance = areas.tolist()
        found |= {f"{kind}_auc": own, f"{kind}_shapley": by_shapley, f"{kind}_random": float(np.mean(by_chance))}
    for k in TOP:
        found |= {f"comprehensiveness_{k}": curves.comprehensiveness(k), f"sufficiency_{k}": curves.sufficiency(k)}
    return found


def _order(contributions: np.ndarray, total: float) -> np.ndarray:
    """Players by what they contribute in the direction of the total effect, the most first."""
    return np.argsort(-contributions * (np.sign(total) or 1.0), kind="stable")


def robustness(
    predict: Predict,
    explained: Sequence[SampleExplanation],
    report: Report,
    progress: Callable[[float], None],
) -> None:
    """How far explanations of samples with a little noise are from those without."""
    chosen = explained[:CHANGED]
    if any("text" in e.sample.values for e in chosen):
        report.notes.append("robustness is left out: words have no small noise")
        return
    spreads = _spreads([e.sample for e in explained])
    keys, rows = [], []
    for done, e in enumerate(chosen):
        noisy = [_with_noise(e.sample, spreads, draw) for draw in range(DRAWS)]
        moved = explain_samples(predict, noisy, params={"target": e.answer["target"]})
        rows.append(_moved(e, moved))
        keys.append(e.sample.key)
        progress((done + 1) / len(chosen))
    report.add_samples(keys, {name: [row[name] for row in rows] for name in rows[0]})


def _moved(e: SampleExplanation, moved: Sequence[SampleExplanation]) -> dict[str, float]:
    effects = [_effects(each) for each in (e, *moved)]
    start, *others = f.aligned(*effects)
    shapley = [np.array([entry["value"] for entry in each.answer["shapley"]]) for each in (e, *moved)]
    outputs = np.array([[each.answer["v_full"]] for each in (e, *moved)], dtype=np.float64)
    x = [_numbers(each.sample) for each in (e, *moved)]
    with np.errstate(divide="ignore"):
        found = {
            "sensitivity_max": r.sensitivity_max(start, np.stack(others)),
            "stable_patterns": float(np.mean([jaccard(effects[0], other) for other in effects[1:]])),
            "output_change": float(np.abs(outputs[1:] - outputs[0]).max()),
            "stability_output": float(
                np.log(r.relative_output_stability(shapley[0], np.stack(shapley[1:]), outputs[0], outputs[1:]))
            ),
        }
        if len(x[0]):
            ratio = r.relative_input_stability(shapley[0], np.stack(shapley[1:]), x[0], np.stack(x[1:]))
            found["stability_input"] = float(np.log(ratio))
    return {name: value if np.isfinite(value) else np.nan for name, value in found.items()}


def _effects(e: SampleExplanation) -> dict[tuple, float]:
    """Effects of the kept patterns by kind and players."""
    return {(p["kind"], *sorted(p["players"])): float(p["effect"]) for p in e.answer["patterns"]}


def _numbers(sample: Sample) -> np.ndarray:
    return np.array([float(v) for v in sample.values.values() if _is_number(v)])


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, (bool, np.bool_))
    return is_number and bool(np.isfinite(value))


def _spreads(samples: Sequence[Sample]) -> dict[str, float]:
    """Standard deviation of each column of numbers over the samples."""
    columns: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in sample.values.items():
            if _is_number(value):
                columns.setdefault(name, []).append(float(value))
    return {name: float(np.std(values)) for name, values in columns.items()}


def _with_noise(sample: Sample, spreads: dict[str, float], draw: int) -> Sample:
    rng = r.noise_of(sample.key, draw)
    values: dict[str, Any] = {}
    for name, value in sample.values.items():
        if name == "image":
            values[name] = r.noisy_image(value, rng, NOISE)
        elif name == "points":
            points = np.asarray(value, dtype=np.float64)
            values[name] = (points + rng.normal(scale=NOISE * points.std(), size=points.shape)).tolist()
        elif _is_number(value) and spreads.get(name):
            noise = rng.normal(scale=NOISE * spreads[name])
            values[name] = round(value + noise) if isinstance(value, (int, np.integer)) else float(value + noise)
        else:
            values[name] = value
    return replace(sample, values=values)


def randomisation(
    predict: Predict,
    explained: Sequence[SampleExplanation],
    report: Report,
    progress: Callable[[float], None],
) -> None:
    """Cosine of the effects with those of the model once its layers are drawn anew: 1 is an explanation of nothing."""
    chosen, rows = explained[:CHANGED], []
    cosines: list[float] = []
    for share, random in stages(predict, progress):
        others = []
        for e in chosen:
            others += explain_samples(random, [e.sample], params={"target": e.answer["target"]})
        pairs = [f.aligned(_effects(e), _effects(other)) for e, other in zip(chosen, others, strict=True)]
        cosines = [abs(f.cosine(*pair)) for pair in pairs]
        same = [jaccard(_effects(e), _effects(other)) for e, other in zip(chosen, others, strict=True)]
        rows.append({"share": share, "cosine": float(np.mean(cosines)), "same_patterns": float(np.mean(same))})
    report.add_samples([e.sample.key for e in chosen], {"randomisation": cosines})
    report.tables["randomisation"] = pd.DataFrame(rows)
