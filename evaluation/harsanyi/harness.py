"""Evaluate Harsanyi versions: how sparse, how faithful, how stable their patterns are, and what they cost.

Everything is asked through `predict`, as a user would. Rewards and interactions come back with each explanation, and
what is measured of them is computed here, by the same rule for every version, whatever code it carries.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from conceptry.evaluation.harness import BASIC, Evaluation, Metric, MetricGroup
from conceptry.evaluation.harsanyi import metrics as m
from conceptry.evaluation.harsanyi import plots, trials
from conceptry.evaluation.harsanyi.client import SampleExplanation, explain_samples
from conceptry.evaluation.harsanyi.data import SampleData, known_of, load_samples, table_samples
from conceptry.evaluation.harsanyi.summary import describe_summary, draw_summary, summarise
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.reports import Report, trial_reports
from conceptry.models.method import Progress

CURVE = 80  # patterns, as many as denoising keeps at most
ERROR_AT = (5, 10, 20, 40)
MAX_ORDER = 4  # salient patterns of more players are counted together

METRICS = {
    "salient": Metric("lower", ".1f", "patterns above 5 % of the strongest, mean"),
    **{f"salient_order_{k}": Metric(None, ".2f", f"of them with {k} players") for k in range(1, MAX_ORDER + 1)},
    f"salient_order_over_{MAX_ORDER}": Metric(None, ".2f", f"of them with more than {MAX_ORDER} players"),
    "kept": Metric("lower", ".1f", "patterns that denoising keeps, mean"),
    "explain_ratio": Metric("higher", ".3f", "kept strength over itself plus |sum of the removed effects|, mean"),
    "square_error": Metric("lower", ".4f", "squared error of the kept patterns over that of v, mean"),
    **{
        f"error_at_{k}": Metric("lower", ".4f", f"squared error of the {k} strongest patterns over that of v, mean")
        for k in ERROR_AT
    },
    "residual_max": Metric("lower", ".1e", "error of v as the sum of the interactions, over the largest |v|, largest"),
    "r2_terms": Metric("higher", ".3f", "R2 of sampled terms on held-out masks, by the version itself, mean"),
    "believable": Metric("higher", ".2f", "share of samples whose R2 is high enough to be believed"),
    "gap_max": Metric("lower", ".1e", "relative duality gap of the AND-OR split, largest"),
    "l1": Metric("lower", ".2f", "sum of all |I|, in units of the reward, mean"),
    "l1_start": Metric(None, ".2f", "the same at the baseline that learning started from"),
    "l1_ratio": Metric("lower", ".3f", "L1 of the AND interactions after learning the baseline over that before, mean"),
    "total_effect": Metric(None, ".2f", "|v(N) - v(empty)|, mean: a baseline close to the sample leaves little of it"),
    "graph_nodes": Metric("lower", ".1f", "nodes of the And-Or graph, mean"),
    "graph_edges": Metric("lower", ".1f", "edges of the And-Or graph, mean"),
    "players": Metric(None, ".1f", "players, mean"),
    "model_calls": Metric("lower", ",.0f", "masked inputs the model was asked per sample, mean"),
    "seconds": Metric("lower", ".3f", "seconds per sample, median"),
    "r2_masks": Metric("higher", ".3f", "R2 of v by the kept patterns, on masks drawn for it, mean"),
    "insertion_auc": Metric("higher", ".3f", "height of the reward as players are put in, by the kept patterns"),
    "insertion_shapley": Metric(None, ".3f", "the same by Shapley values"),
    "insertion_random": Metric(None, ".3f", "the same by chance"),
    "deletion_auc": Metric("lower", ".3f", "height of the reward as players are taken out, by the kept patterns"),
    "deletion_shapley": Metric(None, ".3f", "the same by Shapley values"),
    "deletion_random": Metric(None, ".3f", "the same by chance"),
    **{
        f"comprehensiveness_{k}": Metric("higher", ".3f", f"height of the reward lost without the first {k} players")
        for k in trials.TOP
    },
    **{
        f"sufficiency_{k}": Metric("lower", ".3f", f"height of the reward that the first {k} players do not bring")
        for k in trials.TOP
    },
    "sensitivity_max": Metric("lower", ".3f", "largest change of the effects under noise, over their size, mean"),
    "stable_patterns": Metric("higher", ".3f", "Jaccard index of the kept patterns with those under noise, mean"),
    "output_change": Metric(None, ".3f", "largest change of the reward under the same noise, mean"),
    "stability_input": Metric("lower", ".2f", "log of relative input stability of the Shapley values, mean"),
    "stability_output": Metric("lower", ".2f", "log of relative output stability of the Shapley values, mean"),
    "randomisation": Metric("lower", ".3f", "cosine of the effects with those of a model drawn anew, mean"),
}
GROUPS = {
    BASIC: MetricGroup("sparsity, errors, counts and time"),
    "faithfulness": MetricGroup("whether the kept patterns say what the model does"),
    "robustness": MetricGroup("how far explanations move under noise", by_default=False),
    "randomisation": MetricGroup("whether explanations depend on the model's parameters", by_default=False),
}
HEADLINE = (
    "salient",
    "kept",
    "explain_ratio",
    "square_error",
    "error_at_10",
    "error_at_20",
    "l1",
    "l1_ratio",
    "total_effect",
    "residual_max",
    "r2_masks",
    "insertion_auc",
    "deletion_auc",
    "sensitivity_max",
    "randomisation",
    "graph_nodes",
    "graph_edges",
    "model_calls",
    "seconds",
)


def measure(
    predict: Predict, data: SampleData, progress: Progress, groups: Collection[str]
) -> Iterator[tuple[str, Report]]:
    """Measure groups of metrics of a version on samples."""
    explain_samples(predict, data.samples[:1])  # what happens once only is not timed
    explained = explain_samples(predict, data.samples, lambda share: progress("explaining samples", share))
    if BASIC in groups:
        yield BASIC, _basic(explained)
    yield from trial_reports(TRIALS, groups, progress, predict, explained)


TRIALS = {
    "faithfulness": trials.faithfulness,
    "robustness": trials.robustness,
    "randomisation": trials.randomisation,
}


def _basic(explained: Sequence[SampleExplanation]) -> Report:
    curves = [e.error_curve(CURVE) for e in explained]
    errors, ratios = (np.mean([curve[k] for curve in curves], axis=0) for k in (0, 1))
    report = Report()
    report.add_samples([e.sample.key for e in explained], _means(explained, curves))
    report.metrics |= _measured(explained)
    curve = pd.DataFrame({"kept": np.arange(CURVE + 1), "error": errors, "ratio": ratios})
    sums = _order_sums(explained)
    report.tables |= {"error_curve": curve, "patterns": _patterns(explained), "orders": _order_table(sums)}
    effects = [e.i for e in explained]
    report.figures |= {
        "strengths": plots.draw_strengths(effects),
        "cumulative": plots.draw_cumulative(effects),
        "error_curve": plots.draw_error_curve(
            curve, report.metrics["kept"], (report.metrics["square_error"], report.metrics["explain_ratio"])
        ),
        "orders": _draw_orders(explained, sums),
    }
    learning = [np.asarray(e.answer["learning"], dtype=np.float64) for e in explained]
    if all(map(len, learning)):
        report.figures["optimisation"] = plots.draw_optimisation(learning)
    return report


def agreement(tables: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Mean Jaccard index of the kept patterns of each two versions, from their tables `patterns`.

    The tables are of the same samples; one of which a version keeps nothing is not in its table.
    """
    kept = {number: _by_sample(table) for number, table in tables.items()}
    samples = sorted({sample for patterns in kept.values() for sample in patterns})
    numbers = sorted(kept)
    patterns = {number: [kept[number].get(sample, set()) for sample in samples] for number in numbers}
    values = [[m.mean_jaccard(patterns[a], patterns[b]) for b in numbers] for a in numbers]
    return pd.DataFrame(values, index=pd.Index(numbers), columns=numbers)


def _means(
    explained: Sequence[SampleExplanation], curves: Sequence[tuple[np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray | list[float]]:
    """Metrics that are means over samples: the values that they are means of."""
    orders = np.zeros((len(explained), MAX_ORDER + 2))
    for row, e in enumerate(explained):
        by_order = m.salient_by_order(e.i, e.sizes, e.n)
        orders[row, : len(by_order)] = by_order[: MAX_ORDER + 2]
        orders[row, MAX_ORDER + 1] = by_order[MAX_ORDER + 1 :].sum()
    answers = [e.answer for e in explained]
    found: dict[str, np.ndarray | list[float]] = {"salient": orders.sum(axis=1)}
    found |= {f"salient_order_{k}": orders[:, k] for k in range(1, MAX_ORDER + 1)}
    found |= {f"salient_order_over_{MAX_ORDER}": orders[:, -1], "kept": [a["n_kept"] for a in answers]}
    found |= {name: [a[name] for a in answers] for name in ("explain_ratio", "square_error", "l1", "model_calls")}
    found |= {f"error_at_{k}": [errors[k] for errors, _ in curves] for k in ERROR_AT}
    if any(len(a["learning"]) for a in answers):
        found["l1_start"] = [a["l1_start"] for a in answers]
        learning = [np.asarray(a["learning"], dtype=np.float64) for a in answers]
        found["l1_ratio"] = [steps.min() / (steps[0] or 1.0) for steps in learning]
    if any(a.get("engine") == "sampled" for a in answers):
        found["r2_terms"] = [a["r2"] for a in answers]
        found["believable"] = [float(a["believable"]) for a in answers]
    return found | {
        "players": [e.n for e in explained],
        "total_effect": [abs(a["v_full"] - a["v_empty"]) for a in answers],
        "graph_nodes": [e.graph.n_nodes for e in explained],
        "graph_edges": [e.graph.n_edges for e in explained],
    }


def _measured(explained: Sequence[SampleExplanation]) -> dict[str, float]:
    """The other metrics: the worst of all samples, and times."""
    found = {}
    if any(len(e.answer["or_interactions"]) for e in explained):  # of the engine exact, which splits v
        found["gap_max"] = max(e.answer["gap"] for e in explained)
    return found | {
        "residual_max": max(e.residual for e in explained),
        "seconds": float(np.median([e.seconds for e in explained])),
    }


def _patterns(explained: Sequence[SampleExplanation]) -> pd.DataFrame:
    """One row for each kept pattern of each sample."""
    return pd.DataFrame(
        [
            {"sample": e.sample.key, "target": e.answer["target"], "kind": p["kind"], "effect": p["effect"],
             "players": " & ".join(p["players"])}
            for e in explained
            for p in e.answer["patterns"]
        ],
        columns=["sample", "target", "kind", "effect", "players"],
    )  # fmt: skip


def _by_sample(table: pd.DataFrame) -> dict[str, set[tuple[str, str]]]:
    kept: dict[str, set[tuple[str, str]]] = {}
    for sample, kind, players in zip(table["sample"], table["kind"], table["players"], strict=True):
        kept.setdefault(str(sample), set()).add((str(kind), str(players)))
    return kept


def _order_sums(explained: Sequence[SampleExplanation]) -> dict[str, np.ndarray]:
    """Mean number and mean strength of salient patterns by order, AND and OR apart: (largest n + 1,) each."""
    most = max(e.n for e in explained)
    sums = {name: np.zeros(most + 1) for name in ("counts", "strengths", "or_counts", "or_strengths")}
    for e in explained:
        rows = m.salient(e.i)
        orders, is_or = e.sizes[rows], e.is_or[rows]
        for prefix, chosen in (("", ~is_or), ("or_", is_or)):
            strength = m.strengths(e.i)[rows[chosen]]
            sums[f"{prefix}counts"] += np.bincount(orders[chosen], minlength=most + 1)
            sums[f"{prefix}strengths"] += np.bincount(orders[chosen], strength, minlength=most + 1)
    return {name: values / len(explained) for name, values in sums.items()}


def _order_table(sums: Mapping[str, np.ndarray]) -> pd.DataFrame:
    return pd.DataFrame({"order": np.arange(len(sums["counts"]))} | dict(sums))


def _draw_orders(explained: Sequence[SampleExplanation], sums: Mapping[str, np.ndarray]) -> Figure:
    split = any(e.is_or.any() for e in explained)
    return plots.draw_orders(**{name: values for name, values in sums.items() if split or not name.startswith("or_")})


EVALUATION = Evaluation(
    revision=2,
    metrics=METRICS,
    headline=HEADLINE,
    load_data=load_samples,
    known_of=known_of,
    table_data=table_samples,
    measure=measure,
    summarise=summarise,
    draw_summary=draw_summary,
    describe_summary=describe_summary,
    agreement=agreement,
    groups=GROUPS,
)
