"""The group `activations`: scores of descriptions by activations, beside baselines and controls.

| describer | says of a unit |
|---|---|
| this version | its description |
| CLIP-Dissect, Network Dissection | theirs, see `metrics.baselines` |
| constant | one text for all units, a word or else a unit's description: the one that does best on these units |
| shuffled | the version's description of another unit, the mean over `SHUFFLES` seeded derangements |
| random network | the version's description, with the activations of a network whose parameters are drawn anew |

Everything is scored on the same pictures. A description that names nothing gets 0, and 1/2 of CoSy's AUC.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from conceptry.evaluation.harness import Metric
from conceptry.evaluation.intervals import mean_intervals
from conceptry.evaluation.milan.activations.scores import Score, auprc, correlation, cosy_auc, cosy_mad
from conceptry.evaluation.milan.activations.units import ScoredUnits
from conceptry.evaluation.milan.text_scores import derangement
from conceptry.evaluation.reports import Report

SHUFFLES = 20
SCORED = ("correlation", "auprc", "cosy_auc", "cosy_mad")  # the first two lead: they pass both sanity tests
LEADING = SCORED[:2]
DESCRIBERS = {
    "{}": "this version",
    "clip_dissect_{}": "CLIP-Dissect",
    "net_dissect_{}": "Network Dissection",
    "constant_{}": "constant",
    "{}_shuffled": "shuffled",
    "{}_random": "random network",
}  # names of their metrics, by that of a score
METRICS = {
    "correlation": Metric(
        "higher", ".3f", "correlation of a unit's activations with the presence of what is said of it, mean over units"
    ),
    "auprc": Metric("higher", ".3f", "average precision of that presence for the most active 2 % of pictures, mean"),
    "cosy_auc": Metric(
        "higher", ".3f", "share of pairs where a scene drawn for the description activates the unit more than a control"
    ),
    "cosy_mad": Metric(
        "higher", ".2f", "mean activation on scenes drawn for the description less controls, in their deviations"
    ),
    "correlation_max": Metric("higher", ".3f", "correlation, with maps pooled by their maximum in place of their mean"),
    **{
        f"{baseline}_{name}": Metric(None, ".2f" if name == "cosy_mad" else ".3f", f"{name} of {title} on these units")
        for baseline, title in (("clip_dissect", "CLIP-Dissect"), ("net_dissect", "Network Dissection"))
        for name in SCORED
    },
    **{f"constant_{n}": Metric(None, ".3f", f"{n} of the best single text for all units: a control") for n in LEADING},
    **{f"{n}_shuffled": Metric("lower", ".3f", f"{n} with other units' descriptions: chance") for n in LEADING},
    **{f"{n}_random": Metric("lower", ".3f", f"{n} with a network of random parameters: chance") for n in LEADING},
}


def activation_report(
    scored: ScoredUnits, keys: Sequence[str], texts: Sequence[str], baselines: Mapping[str, Sequence[str]]
) -> Report:
    """Score the descriptions `texts` of units, and those of `baselines` and controls.

    keys: of the units in tables; texts: one for each, "" for an inactive one; baselines: texts by name.
    """
    constants = scored.image_set.constants(texts)
    scores = _Scores(scored, [*texts, *(text for said in baselines.values() for text in said), *constants])
    report, columns = Report(notes=list(scored.image_set.notes)), {}
    for name, said in (("", texts), *((f"{name}_", said) for name, said in baselines.items())):
        columns |= {f"{name}{score}": scores.of(score, said) for score in LEADING}
        columns |= {f"{name}{score}": values for score, values in scores.cosy(said).items()}
    columns["correlation_max"] = scores.of("correlation_max", texts)
    best = {score: scores.best_constant(score, constants) for score in LEADING}
    columns |= {f"constant_{score}": scores.of(score, [text] * len(texts)) for score, text in best.items()}
    columns |= {f"{score}_shuffled": scores.shuffled(score, texts, scored.seed) for score in LEADING}
    columns |= {f"{score}_random": scores.of(f"{score}_random", texts) for score in LEADING}
    report.add_samples(keys, {name: columns[name] for name in METRICS if name in columns})
    report.tables["activation_scores"] = describers_table(report.samples, best, scored.image_set.about)
    return report


def describers_table(samples: pd.DataFrame, constants: Mapping[str, str], presence: str = "known") -> pd.DataFrame:
    """A row for each describer, with mean and interval of each score, and the number of units that it is a mean over.

    constants: what the constant says, by score; presence: where c comes from.
    """
    intervals = mean_intervals(samples)
    rows = []
    for pattern, title in DESCRIBERS.items():
        found = {score: intervals[name] for score in SCORED if (name := pattern.format(score)) in intervals}
        if not found:
            continue
        said = ", ".join(dict.fromkeys(constants.values())) if title == "constant" else ""
        row: dict[str, object] = {"describer": title, "says": said}
        row |= {"presence": presence, "units": max(each.count for each in found.values())}
        for score, each in found.items():
            row |= {score: each.mean, f"{score}_low": each.low, f"{score}_high": each.high}
        rows.append(row)
    return pd.DataFrame(rows)


class _Scores:
    """Scores of units and descriptions, NaN for units without activations."""

    def __init__(self, scored: ScoredUnits, texts: Sequence[str]) -> None:
        self.scored = scored
        self._column = {text: j for j, text in enumerate(dict.fromkeys(texts))}
        self._known = scored.has_activations
        self._names = scored.image_set.names(list(self._column))
        self._c = scored.image_set.presence(list(self._column))
        mean, maximum, random = scored.activations.mean, scored.activations.maximum, scored.random.mean
        self._matrices = {
            "correlation": self._matrix(correlation, mean),
            "auprc": self._matrix(auprc, mean),
            "correlation_max": self._matrix(correlation, maximum),
            "correlation_random": self._matrix(correlation, random),
            "auprc_random": self._matrix(auprc, random),
        }

    def _matrix(self, score: Score, a: np.ndarray) -> np.ndarray:
        found = np.full((a.shape[1], len(self._column)), np.nan)
        known = ~np.isnan(a).any(axis=0)
        found[known] = np.where(self._names, score(a[:, known], self._c), 0.0)
        return found

    def of(self, score: str, texts: Sequence[str]) -> np.ndarray:
        """Score of the description of each unit (U,)."""
        return self._matrices[score][np.arange(len(texts)), [self._column[text] for text in texts]]

    def best_constant(self, score: str, texts: Sequence[str]) -> str:
        """The text that does best where it is said of all units."""
        means = [np.nanmean(self._matrices[score][:, self._column[text]]) for text in texts]
        return texts[int(np.argmax(means))]

    def shuffled(self, score: str, texts: Sequence[str], seed: int) -> np.ndarray:
        """Mean score of each unit with descriptions of other units that have activations; NaN for a single unit."""
        found, rows = np.full(len(texts), np.nan), np.flatnonzero(self._known).tolist()
        if len(rows) > 1:
            said = [self._column[texts[row]] for row in rows]
            orders = [derangement([str(j) for j in said], seed + k) for k in range(SHUFFLES)]
            found[rows] = np.mean([self._matrices[score][rows, [int(j) for j in order]] for order in orders], axis=0)
        return found

    def cosy(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """CoSy's scores of the description of each unit: pictures drawn for it against the scored ones without.

        Where none can be drawn the scored pictures with the concept stand in for them.
        """
        found = {"cosy_auc": np.full(len(texts), np.nan), "cosy_mad": np.full(len(texts), np.nan)}
        rendered = self.scored.rendered(texts)
        for row in np.flatnonzero(self._known).tolist():
            drawn, a, c = rendered[row], self.scored.activations.mean[:, row], self._c[:, self._column[texts[row]]]
            if drawn is not None:
                controls = a[c == 0]
                a, c = np.concatenate([drawn, controls]), np.repeat([1.0, 0.0], [len(drawn), len(controls)])
            found["cosy_auc"][row], found["cosy_mad"][row] = cosy_auc(a, c), cosy_mad(a, c)
        return found
