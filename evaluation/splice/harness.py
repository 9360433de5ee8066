"""Evaluate SpLiCE versions: sparsity, fidelity, what the words say, what the recomposition still knows, and speed.

Everything is asked through `predict`, as a user would: images, prompts and captions go in, decompositions and
embeddings come out, so the same code judges a version in any runtime and with any code of its own.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from conceptry.evaluation.harness import BASIC, Evaluation, Metric, MetricGroup
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.reports import Report, trial_reports
from conceptry.evaluation.splice import experiments, trials
from conceptry.evaluation.splice.client import ImageExplanations, explain_images
from conceptry.evaluation.splice.data import (
    DEFAULT,
    AnnotatedImage,
    ImageData,
    load_images,
    parted,
    table_images,
    without,
)
from conceptry.evaluation.splice.plots import draw_frontier, draw_summary
from conceptry.evaluation.splice.summary import describe_summary, summarise
from conceptry.models.errors import InputError
from conceptry.models.method import Progress

FRONTIER_IMAGES = 256
PHOTOS, CLASSIFIER = "zoo:photos", "imagenet:efficientnet-lite0"

METRICS = {
    "l0": Metric("lower", ".2f", "words per picture, mean"),
    "l0_std": Metric(None, ".2f", "words per picture, standard deviation"),
    "cosine": Metric("higher", ".3f", "cosine of z and z_hat, mean"),
    "cosine_std": Metric(None, ".3f", "cosine of z and z_hat, standard deviation"),
    "gap": Metric("lower", ".1e", "duality gap, mean"),
    "gap_std": Metric(None, ".1e", "duality gap, standard deviation"),
    "gap_max": Metric("lower", ".1e", "duality gap, largest"),
    "zero_shot": Metric("higher", ".3f", "zero-shot accuracy with z"),
    "zero_shot_recomposed": Metric("higher", ".3f", "zero-shot accuracy with z_hat"),
    "zero_shot_ratio": Metric("higher", ".3f", "zero-shot accuracy with z_hat over that with z"),
    "zero_shot_at_5": Metric("higher", ".3f", "zero-shot accuracy at 5 with z"),
    "label_at_5": Metric("higher", ".3f", "share of labelled pictures whose label is among the first five words"),
    "label_at_5_shuffled": Metric(None, ".3f", "the same with the words of pictures of other labels"),
    "label_first": Metric("higher", ".3f", "share of labelled pictures whose label is the first word"),
    "sure": Metric(None, ".3f", "share of right answers that the version states, mean"),
    "sure_error": Metric("lower", ".3f", "distance of stated and found shares of right answers, over fifths"),
    "sure_order": Metric("higher", ".3f", "share of pairs where a right answer is stated to be surer than a wrong one"),
    "classifier_agreement": Metric("higher", ".3f", "share of pictures whose nearest class name is the classifier's"),
    "classifier_agreement_at_5": Metric("higher", ".3f", "share where the classifier's is among the five nearest"),
    "suppressed_accuracy": Metric(None, ".3f", "zero-shot accuracy with z_hat, the word of the class suppressed"),
    "suppressed_accuracy_drop": Metric("higher", ".3f", "zero-shot accuracy that suppressing the class's word costs"),
    **{
        f"{kind}{at}{suffix}": Metric("higher", ".3f", f"{title} recall at {k} with {embedding}")
        for kind, title in (
            ("retrieval", "picture-to-caption"),
            ("caption_retrieval", "caption-to-picture"),
            ("label_retrieval", "label-to-picture"),
        )
        for k, at in experiments.AT.items()
        for suffix, embedding in (("", "z"), ("_recomposed", "z_hat"))
    },
    "concept_precision": Metric("higher", ".3f", "share of named words that are true"),
    "encode_ms": Metric("lower", ".2f", "milliseconds per picture to decode and encode it, batch 64"),
    "solve_ms": Metric("lower", ".3f", "milliseconds per picture to solve and recompose, batch 64"),
    "insertion_auc": Metric("higher", ".3f", "height of the cosine as words are put in, the heaviest first"),
    "insertion_random": Metric(None, ".3f", "the same by chance"),
    "deletion_auc": Metric("lower", ".3f", "height of the cosine as words are taken out, the heaviest first"),
    "deletion_random": Metric(None, ".3f", "the same by chance"),
    "deletion_zero_shot": Metric(None, ".3f", "zero-shot accuracy as words are taken out, the heaviest first, mean"),
    "deletion_zero_shot_random": Metric(None, ".3f", "the same by chance"),
    "sensitivity_max": Metric("lower", ".3f", "largest change of the weights under noise, over their size, mean"),
    "stable_words": Metric("higher", ".3f", "Jaccard index of the words with those under noise, mean"),
    "output_change": Metric(None, ".3f", "largest 1 - cosine of z under the same noise, mean"),
    "randomisation": Metric("lower", ".3f", "cosine of the weights with those by an encoder drawn anew, mean"),
    "probe_accuracy": Metric("higher", ".3f", "held-out accuracy of a sparse probe over words (conceptry probe)"),
    "probe_concepts": Metric("lower", ".0f", "words that the probe reads"),
    "probe_accuracy_embedding": Metric(None, ".3f", "held-out accuracy of a probe over z"),
    "probe_accuracy_recomposed": Metric("higher", ".3f", "held-out accuracy of a probe over z_hat"),
    "probe_accuracy_edited": Metric(None, ".3f", "held-out accuracy of the sparse probe without the edited words"),
}
GROUPS = {
    BASIC: MetricGroup("sparsity, fidelity, what the words say, and time"),
    "labels": MetricGroup("whether first words name the label, and whether `sure` says when"),
    "classifier": MetricGroup("whether encoder and classifier agree, where one is made of the other", by_default=False),
    "faithfulness": MetricGroup("whether the named words are what z_hat consists of"),
    "robustness": MetricGroup("how far explanations move under noise", by_default=False),
    "randomisation": MetricGroup("whether explanations depend on the encoder's parameters", by_default=False),
}
HEADLINE = (
    "l0",
    "cosine",
    "gap_max",
    "zero_shot_recomposed",
    "zero_shot_ratio",
    "label_at_5",
    "label_at_5_shuffled",
    "sure_error",
    "sure_order",
    "retrieval_recomposed",
    "recall_objects_all",
    "recall_colour",
    "concept_precision",
    "insertion_auc",
    "deletion_auc",
    "sensitivity_max",
    "randomisation",
    "probe_accuracy",
    "encode_ms",
    "solve_ms",
)


def recall_metric(name: str) -> Metric | None:
    """Metric of a kind of true words that data bring along, `recall_KIND` or `recall_KIND_all`; None for others."""
    kind = name.removeprefix("recall_")
    if kind == name:
        return None
    if kind.endswith("_all"):
        return Metric("higher", ".3f", f"share of pictures whose {kind.removesuffix('_all')} words are all named")
    return Metric("higher", ".3f", f"share of true {kind} words that are named")


def measure(
    predict: Predict, data: ImageData, progress: Progress, groups: Collection[str]
) -> Iterator[tuple[str, Report]]:
    """Measure groups of metrics of a version on images."""
    images, predict = data.images, data.through(predict)
    explained = explain_images(predict, images, lambda share: progress("explaining pictures", 0.6 * share))
    if BASIC in groups:
        yield BASIC, _basic(predict, images, explained, progress)
    if "labels" in groups:
        report = Report()
        experiments.labels(predict, images, explained, report)
        yield "labels", report
    if "classifier" in groups:
        report = Report()
        if data.classifier:
            experiments.agreement(predict, images, explained, report, data.classifier)
        else:
            report.notes.append(
                f"agreement is left out: it is measured for versions of {PHOTOS}; the provenance of a map has its own"
            )
        yield "classifier", report
    yield from trial_reports(TRIALS, groups, progress, predict, images, explained)
    progress("done", 1.0)


def load_data(name: str | None, params: Mapping[str, str], size: int | None, seed: int) -> ImageData:
    """Read the images called `name`; `params` of the version say which classifier its encoder is made of.

    Raises InputError for no name where the encoder is one of photographs: none ship with labels.
    """
    of_classifier = params.get("encoder") == PHOTOS
    plain, suppressed = parted(name or "")
    if of_classifier and not plain:
        raise InputError(
            f"the encoder is {PHOTOS}, and no labelled photographs ship with conceptry: name some of yours, as "
            "folder:PATH with a folder for each label"
        )
    return replace(
        load_images(without(plain or DEFAULT, suppressed), size, seed), classifier=CLASSIFIER if of_classifier else ""
    )


TRIALS = {
    "faithfulness": trials.faithfulness,
    "robustness": trials.robustness,
    "randomisation": trials.randomisation,
}


def _basic(
    predict: Predict, images: Sequence[AnnotatedImage], explained: ImageExplanations, progress: Progress
) -> Report:
    report = Report()
    certificates = {"l0": explained.l0, "cosine": explained.cosine, "gap": explained.gap}
    report.add_samples([image.key for image in images], certificates)
    report.metrics |= {f"{name}_std": float(values.std()) for name, values in certificates.items()}
    report.metrics["gap_max"] = float(explained.gap.max())
    progress("zero-shot and retrieval", 0.6)
    with _noted(report, "zero-shot accuracy"):
        experiments.zero_shot(predict, images, explained, report)
    with _noted(report, "retrieval"):
        experiments.retrieval(predict, images, explained, report)
    experiments.concepts(images, explained, report)
    progress("timing", 0.7)
    report.metrics |= experiments.timing(predict, images, explained)
    z = explained.z[:FRONTIER_IMAGES]
    frontier = experiments.frontier(predict, z, lambda share: progress("frontier", 0.8 + 0.2 * share))
    report.tables["frontier"] = frontier
    report.figures["frontier"] = draw_frontier(frontier, report.metrics["l0"], report.metrics["cosine"])
    return report


@contextmanager
def _noted(report: Report, what: str) -> Iterator[None]:
    """Leave out metrics where the version refuses a class name or a caption, and say why."""
    try:
        yield
    except experiments.REFUSALS as error:
        report.notes.append(f"{what} is left out: {getattr(error, 'message', error)}")


EVALUATION = Evaluation(
    revision=1,
    metrics=METRICS,
    headline=HEADLINE,
    load_data=load_data,
    table_data=lambda table, labels, name, params: table_images(table, labels, name),
    measure=measure,
    summarise=summarise,
    draw_summary=draw_summary,
    describe_summary=describe_summary,
    family=recall_metric,
    groups=GROUPS,
)
