"""Evaluate perturbation versions: the network itself, its counterfactuals, and whether its probes look like the class.

Everything is asked through `predict`, as a user would. What a version delivers is what is judged: images of 8 bits,
and the figures that belong to them. A robust and a standard network, each behind a version of its own, are compared by
the same rule.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from conceptry.evaluation.harness import BASIC, Evaluation, Metric, MetricGroup
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.perturbation import metrics as m
from conceptry.evaluation.perturbation import trials
from conceptry.evaluation.perturbation.client import PROBE, CaseExplanation, explain_cases, record_of, with_mean
from conceptry.evaluation.perturbation.data import Case, CaseData, load_cases, table_cases
from conceptry.evaluation.perturbation.judges import Judgement
from conceptry.evaluation.perturbation.plots import draw_grid
from conceptry.evaluation.perturbation.summary import describe_summary, draw_summary, summarise
from conceptry.evaluation.reports import Report, trial_reports
from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.method import Progress

PROBES_A_CLASS, MAX_CLASSES = 20, 10
UNJUDGED_PROBES = 20  # in all, where nobody judges them: large networks take seconds for each
DRAWN = 10

METRICS = {
    "accuracy": Metric("higher", ".3f", "accuracy of the network on the labelled pictures"),
    "accuracy_attacked": Metric(
        "higher", ".3f", "the same after 20 L2 steps away from the label, radius 1.25 at 8 x 8, 2 at 16 x 16, else 3"
    ),
    "success": Metric("higher", ".3f", "share of counterfactuals that the network takes for their target"),
    "confidence": Metric("higher", ".3f", "probability of the target after the perturbation, mean"),
    "changed": Metric("lower", ".3f", "share of pixels that a counterfactual changes, mean"),
    "l1": Metric("lower", ".2f", "L1 norm of the change, pixels from 0 to 1, mean"),
    "l2": Metric("lower", ".2f", "L2 norm of the change, mean"),
    "loss": Metric("lower", ".3g", "cross-entropy of the target after it, mean"),
    "gap": Metric("lower", ".2g", "Frank-Wolfe gap of the last step, mean; 0 proves an optimum of a convex loss"),
    "steps": Metric("lower", ".1f", "gradient steps behind a counterfactual, mean"),
    "seconds": Metric("lower", ".4f", "seconds per counterfactual, mean over requests of 64"),
    "probe_success": Metric("higher", ".3f", "share of probes from noise that the network takes for their class"),
    "probe_confidence": Metric("higher", ".3f", "probability of the class in a probe, mean"),
    "probe_knn": Metric("higher", ".3f", "share of probes in which 5-NN over real pictures sees the class"),
    "probe_svc": Metric("higher", ".3f", "share of probes in which an SVC fitted on real pictures sees the class"),
    "probe_margin": Metric(
        "higher", ".2f", "distance of a probe to the nearest real picture of another class less that to its own, mean"
    ),
    "insertion_auc": Metric("higher", ".3f", "height of the target's probability as changes are put in, largest first"),
    "insertion_random": Metric(None, ".3f", "the same by chance"),
    "deletion_auc": Metric("lower", ".3f", "height of the target's probability as changes are undone, largest first"),
    "deletion_random": Metric(None, ".3f", "the same by chance"),
    "sensitivity_max": Metric("lower", ".3f", "largest change of the perturbation under noise, over its size, mean"),
    "output_change": Metric(None, ".3f", "largest change of the loss under the same noise, mean"),
    "randomisation": Metric("lower", ".3f", "cosine of the changes with those of a network drawn anew, mean"),
}
HEADLINE = (
    "accuracy",
    "accuracy_attacked",
    "probe_knn",
    "probe_svc",
    "probe_margin",
    "probe_success",
    "success",
    "confidence",
    "changed",
    "l1",
    "l2",
    "insertion_auc",
    "deletion_auc",
    "sensitivity_max",
    "randomisation",
    "seconds",
)


def measure(
    predict: Predict, data: CaseData, progress: Progress, groups: Collection[str]
) -> Iterator[tuple[str, Report]]:
    """Measure groups of metrics of a version, and of the network behind it, on images."""
    if BASIC in groups:
        yield BASIC, _basic(predict, data, progress)
    if TRIALS.keys() & set(groups):
        cases = data.toward_others()[: trials.FAITHFUL]
        explained = explain_cases(
            predict, cases, trials.COUNTERFACTUAL, lambda share: progress("counterfactuals", share)
        )
        yield from trial_reports(TRIALS, groups, progress, predict, explained)
    progress("done", 1.0)


TRIALS = {
    "faithfulness": trials.faithfulness,
    "robustness": trials.robustness,
    "randomisation": trials.randomisation,
}
GROUPS = {
    BASIC: MetricGroup("the network itself, its counterfactuals and its probes"),
    "faithfulness": MetricGroup("whether the changed pixels make the class"),
    "robustness": MetricGroup("how far changes move under noise", by_default=False),
    "randomisation": MetricGroup("whether changes depend on the network's parameters", by_default=False),
}


def _basic(predict: Predict, data: CaseData, progress: Progress) -> Report:
    report = Report()
    cases, params = data.toward_others(), {"mode": "counterfactual"}
    warm = explain_cases(predict, cases[:1], params)  # what happens once only is not timed
    done = explain_cases(predict, cases, params, lambda share: progress("counterfactuals", 0.4 * share))
    report.add_samples([case.key for case in cases], m.counterfactual_metrics(done))
    report.metrics["seconds"] = float(np.mean([e.seconds for e in done]))
    report.tables["counterfactuals"] = m.counterfactual_table(done)
    report.figures["counterfactuals"] = draw_grid(_records(done[:DRAWN]))
    if untargeted := sum(not case.target for case in cases):
        report.notes.append(f"{untargeted} counterfactuals have no target: they leave the class they are in")
    attacked = [Case(case.image, case.label, source=case.label) for case in cases if case.label]
    if attacked:
        after = explain_cases(
            predict, attacked, m.attack(warm[0].image), lambda share: progress("attack", 0.4 + 0.2 * share)
        )
        accurate = {"accuracy": m.is_accurate(after, "before"), "accuracy_attacked": m.is_accurate(after, "after")}
        report.add_samples([case.key for case in attacked], accurate)
    else:
        report.notes.append("no picture has a label: the accuracy of the network is left out")
    if data.classes:
        _probe(predict, data, report, progress)
    else:
        report.notes.append("the data names no class: probes are left out")
    return report


def _probe(predict: Predict, data: CaseData, report: Report, progress: Progress) -> None:
    classes = data.classes[:MAX_CLASSES]
    each = PROBES_A_CLASS if data.reference else max(1, UNJUDGED_PROBES // len(classes))
    cases = [Case(None, target=name) for name in classes * each]
    # One request: within it each row has noise of its own.
    try:
        probes = explain_cases(
            predict, cases, PROBE, lambda share: progress("probes", 0.6 + 0.4 * share), rows=len(cases)
        )
    except ConceptryError as error:  # classes of another network, or one that takes pictures of any size
        report.notes.append(f"probes are left out: {error}")
        return
    keys = [f"probe {row} of {case.target}" for row, case in enumerate(cases)]
    report.add_samples(keys, m.probe_metrics(probes))
    judged: Judgement | None = None
    if data.reference is None:
        report.notes.append(f"{data.name} has no pictures that judge probes: what 5-NN and SVC see is left out")
    else:
        try:
            judged = m.judge_probes(probes, data.reference)
        except InputError as error:
            report.notes.append(f"what 5-NN and SVC see in probes is left out: {error}")
        else:
            report.add_samples(keys, m.judgement_metrics(judged))
    report.tables["probes"] = m.probe_table(probes, judged)
    records = _records(probes[: len(classes)])
    means = [with_mean(record, probes[k :: len(classes)]) for k, record in enumerate(records)]
    report.figures["probes"] = draw_grid(means if data.reference else records)


def _records(explained: Sequence[CaseExplanation]) -> list[dict]:
    return [record_of(e, e.case.label or "") for e in explained]


EVALUATION = Evaluation(
    revision=1,
    metrics=METRICS,
    headline=HEADLINE,
    load_data=load_cases,
    table_data=lambda table, labels, name, params: table_cases(table, labels, name),
    measure=measure,
    summarise=summarise,
    draw_summary=draw_summary,
    describe_summary=describe_summary,
    groups=GROUPS,
)
