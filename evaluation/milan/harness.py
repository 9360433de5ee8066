"""Evaluate MILAN versions: whether descriptions of units say what is true, how they are worded, and how fast they come.

Everything is asked through `predict`, as a user would: exemplars and masks of units that the version has never seen
go in, descriptions come out. So a describer with another training, another decoding, or none at all (CLIP-Dissect) is
judged by the same rule, and the baselines on the same units stand beside it.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

from conceptry.evaluation.harness import BASIC, Evaluation, MetricGroup
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.milan import metrics as m
from conceptry.evaluation.milan import trials
from conceptry.evaluation.milan.activations import metrics as activation
from conceptry.evaluation.milan.client import EXEMPLARS, CaseDescription, describe_cases, record_of
from conceptry.evaluation.milan.data import UnitData, known_of, load_units, table_units
from conceptry.evaluation.milan.plots import draw, draw_activation_scores, draw_scores
from conceptry.evaluation.milan.summary import describe_summary, draw_summary, summarise
from conceptry.evaluation.reports import Report, trial_reports
from conceptry.models.errors import ConceptryError
from conceptry.models.method import Progress

DRAWN = 8
ACTIVATIONS = "activations"
HEADLINE = (
    "correlation",
    "auprc",
    "clip_dissect_correlation",
    "constant_correlation",
    "property_set",
    "property_set_single",
    "clip_dissect_property_set_single",
    "net_dissect_property_set_single",
    "planted",
    "planted_shuffled",
    "colour_units",
    "clip_score",
    "sensitivity_max",
    "randomisation",
    "bleu",
    "rougeL",
    "vocabulary",
    "length",
    "units_per_second",
)


def measure(
    predict: Predict, data: UnitData, progress: Progress, groups: Collection[str]
) -> Iterator[tuple[str, Report]]:
    """Measure groups of metrics of a version on units."""
    params = {} if data.cases[0].images is not None else EXEMPLARS  # of the version's own units, to be scored
    describe_cases(predict, data.cases[:1])  # what happens once only is not timed
    units = describe_cases(predict, data.cases, params, _part(progress, "describing units", 0.0, 0.7))
    if BASIC in groups:
        yield BASIC, _basic(predict, data, units, progress)
    if ACTIVATIONS in groups:
        progress("scoring by activations", 0.9)
        yield ACTIVATIONS, _activations(data, units)
    yield from trial_reports(trials.TRIALS, groups, progress, predict, data, units)
    progress("done", 1.0)


def _basic(predict: Predict, data: UnitData, units: Sequence[CaseDescription], progress: Progress) -> Report:
    report = Report()
    keys = [d.case.key for d in units]
    report.add_samples(keys, m.right_names([d.description for d in units], units))
    report.add_samples(keys, {"inactive": [not d.active for d in units], "length": m.lengths(units)})
    report.metrics |= {"vocabulary": float(m.vocabulary(units))} | m.speed(units)
    report.tables["descriptions"] = m.descriptions_table(units)
    if data.controls:
        random = describe_cases(predict, data.controls, progress=_part(progress, "random pictures", 0.7, 0.8))
        report.metrics |= m.controls(units, random)
    wording, notes = m.wording(units)
    report.metrics |= wording
    report.notes += notes
    _baselines(data, units, report, progress)
    if any(name in report.metrics for name in m.NAMED):
        report.figures["scores"] = draw_scores(report.metrics)
    report.figures["units"] = draw(_records(units))
    return report


def _activations(data: UnitData, units: Sequence[CaseDescription]) -> Report:
    keys, texts = [d.case.key for d in units], [d.description for d in units]
    try:
        report = activation.activation_report(data.scored, keys, texts, data.baselines)
    except ConceptryError as error:  # no network is known, it cannot be had, or what its pictures show is not known
        return Report(notes=[f"{ACTIVATIONS} is left out: {error}"])
    report.figures["activation_scores"] = draw_activation_scores(report.tables["activation_scores"])
    return report


def _baselines(data: UnitData, units: Sequence[CaseDescription], report: Report, progress: Progress) -> None:
    progress("baselines", 0.8)
    try:
        if data.encoder:
            report.add_samples([d.case.key for d in units], {"clip_score": _clip_scores(data, units)})
        else:
            report.notes.append("clip_score is left out: the version has no clip_encoder, or it is not known here")
    except ConceptryError as error:  # an encoder that cannot be had, or whose words are others
        report.notes.append(f"clip_score is left out: {error}")
    for name, texts in data.baselines.items():
        right = m.right_names(texts, units)
        report.add_samples([d.case.key for d in units], {f"{name}_{key}": scores for key, scores in right.items()})
        report.tables["descriptions"][name] = texts


def _part(progress: Progress, what: str, start: float, end: float) -> Callable[[float], None]:
    return lambda share: progress(what, start + (end - start) * share)


def _records(units: Sequence[CaseDescription]) -> list[dict]:
    """Records of a few units, as many of each group, with their truth."""
    groups = {d.case.group: [e for e in units if e.case.group == d.case.group] for d in units}
    each = -(-DRAWN // len(groups))
    shown = [d for members in groups.values() for d in members[:each]][:DRAWN]
    return [record_of(d) | {"truth": sorted(d.case.truth or ()), "right": m.is_right(d)} for d in shown]


def _clip_scores(data: UnitData, units: Sequence[CaseDescription]) -> list[float]:
    texts = [d.description for d in units]
    if data.cases[0].images is not None:
        return m.clip_scores(data.encoder, texts, data.embedded)
    exemplars = [d.exemplars for d in units if d.exemplars is not None]
    assert len(exemplars) == len(units)  # they were asked for
    return m.clip_scores(data.encoder, texts, m.mean_embeddings(data.encoder, ((e.images, e.masks) for e in exemplars)))


EVALUATION = Evaluation(
    revision=1,
    metrics=m.METRICS | activation.METRICS | trials.METRICS,
    headline=HEADLINE,
    load_data=load_units,
    table_data=table_units,
    measure=measure,
    summarise=summarise,
    draw_summary=draw_summary,
    describe_summary=describe_summary,
    groups={
        BASIC: MetricGroup("whether descriptions say what is true, how they are worded, how fast they come"),
        ACTIVATIONS: MetricGroup("whether units respond to the pictures that show what is said of them"),
        **trials.GROUPS,
    },
    known_of=known_of,
)
