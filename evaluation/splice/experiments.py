"""Experiments on answers: what z_hat still knows, whether its words are true and carry the class, what they cost.

Each experiment adds metrics to a report, none where the images lack the annotations that it needs.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.reports import Report
from conceptry.evaluation.splice import metrics as m
from conceptry.evaluation.splice.client import BATCH, ImageExplanations, embed_texts, recompose_without
from conceptry.evaluation.splice.data import AnnotatedImage
from conceptry.models.errors import ConceptryError

PROMPT = "a photo of a {}"
PENALTIES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)
SUPPRESSED_CLASSES = 12
TIMING_REPEATS = 5
FIRST = 5  # words of a picture that are to name its label
AT = {1: "", 5: "_at_5", 10: "_at_10"}  # ranks that count as found, and what names of metrics say of them

REFUSALS = (ConceptryError, MlflowException)  # of a version in a process of its own, and of one in this process


def zero_shot(predict: Predict, images: Sequence[AnnotatedImage], explained: ImageExplanations, report: Report) -> None:
    """Accuracy of z and z_hat over the labelled pictures, and of z_hat once the word of the class is taken away.

    And the other direction: whether a picture of the class is among those nearest to its sentence.
    """
    classes = classes_of(images)
    if len(classes) < 2:
        return
    labelled = [i for i, image in enumerate(images) if image.label]
    labels = [image.label for image in images if image.label]
    z, z_hat = explained.z[labelled], explained.z_hat[labelled]
    prompts = embed_prompts(predict, classes)
    truth = np.array([classes[label] for label in labels])
    hits = {"zero_shot": m.zero_shot_hits(z, prompts, truth)}
    hits["zero_shot_recomposed"] = m.zero_shot_hits(z_hat, prompts, truth)
    if len(classes) > FIRST:
        hits["zero_shot_at_5"] = m.retrieval_ranks(z, prompts, m.belonging([[k] for k in truth], len(prompts))) <= FIRST
    report.add_samples([images[i].key for i in labelled], hits)
    report.add_samples([f"label: {label}" for label in classes], _label_hits(z, z_hat, prompts, truth))
    if dense := float(hits["zero_shot"].mean()):
        report.metrics["zero_shot_ratio"] = float(hits["zero_shot_recomposed"].mean()) / dense
    report.metrics |= _suppression(predict, z, z_hat, prompts, truth, labels)


def _label_hits(z: np.ndarray, z_hat: np.ndarray, prompts: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """By metric and class, with z and with z_hat."""
    is_true = m.belonging([[k] for k in truth], len(prompts)).T.tocsr()
    ranks = {"": m.retrieval_ranks(prompts, z, is_true), "_recomposed": m.retrieval_ranks(prompts, z_hat, is_true)}
    return {f"label_retrieval{at}{suffix}": ranks[suffix] <= k for suffix in ranks for k, at in AT.items()}


def classes_of(images: Sequence[AnnotatedImage]) -> dict[str, int]:
    """Number of each class among the labels."""
    return {label: k for k, label in enumerate(sorted({image.label for image in images if image.label}))}


def embed_prompts(predict: Predict, classes: Iterable[str]) -> np.ndarray:
    """Unit embeddings (classes, d) of a sentence about each class."""
    return embed_texts(predict, [PROMPT.format(_word(label)) for label in classes])


def _suppression(predict: Predict, z, z_hat, prompts, truth: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """Over the classes with the most pictures whose label is a word of the version; it refuses words it lacks."""
    chosen, recomposed = [], []
    for label, _ in sorted(Counter(labels).items(), key=lambda item: (-item[1], item[0])):
        rows = [i for i, other in enumerate(labels) if other == label]
        try:
            without = recompose_without(predict, z[rows], _word(label))
        except REFUSALS:
            continue
        chosen += rows
        recomposed.append(without)
        if len(recomposed) == SUPPRESSED_CLASSES:
            break
    if not chosen:
        return {}
    before = float(m.zero_shot_hits(z_hat[chosen], prompts, truth[chosen]).mean())
    after = float(m.zero_shot_hits(np.concatenate(recomposed), prompts, truth[chosen]).mean())
    return {"suppressed_accuracy": after, "suppressed_accuracy_drop": before - after}


def _word(label: str) -> str:
    return label.replace("_", " ")


def retrieval(predict: Predict, images: Sequence[AnnotatedImage], explained: ImageExplanations, report: Report) -> None:
    """Recall of the captions of pictures, and of the pictures of captions, with z and with z_hat."""
    captions = {text: k for k, text in enumerate(dict.fromkeys(text for p in images for text in p.captions))}
    if len(captions) < 2:
        return
    captioned = [i for i, image in enumerate(images) if image.captions]
    texts = embed_texts(predict, list(captions))
    is_true = m.belonging(
        [[captions[text] for text in dict.fromkeys(images[i].captions)] for i in captioned], len(texts)
    )
    for suffix, embedded in (("", explained.z[captioned]), ("_recomposed", explained.z_hat[captioned])):
        of_images = m.retrieval_ranks(embedded, texts, is_true)
        of_captions = m.retrieval_ranks(texts, embedded, is_true.T.tocsr())
        report.add_samples(
            [images[i].key for i in captioned], {f"retrieval{at}{suffix}": of_images <= k for k, at in AT.items()}
        )
        report.add_samples(
            [f"caption: {text}" for text in captions],
            {f"caption_retrieval{at}{suffix}": of_captions <= k for k, at in AT.items()},
        )


def concepts(
    images: Sequence[AnnotatedImage], explained: ImageExplanations, report: Report | None = None
) -> dict[str, float]:
    """Recall of true words by kind, and the share of named words that are true; `report` gets them, image by image."""
    found = Report()
    columns = {}
    for kind in dict.fromkeys(kind for image in images for kind in image.concepts):
        true = [image.concepts.get(kind, ()) for image in images]
        columns[f"recall_{kind}"] = shares = m.concept_recall(explained.words, true)
        several = np.array([len(words) > 1 for words in true])
        if several.any():
            columns[f"recall_{kind}_all"] = np.where(several, shares == 1.0, np.nan)
    if columns:
        found.add_samples([image.key for image in images], columns)
        # Of a picture without annotations nothing is known, so its words are neither true nor false.
        known = [i for i, image in enumerate(images) if any(image.concepts.values())]
        everything = [[word for words in images[i].concepts.values() for word in words] for i in known]
        precision = m.concept_precision([explained.words[i] for i in known], everything)
        if np.isfinite(precision):
            found.metrics["concept_precision"] = precision
    if report is not None:
        report.add(found)
    return found.metrics


def labels(predict: Predict, images: Sequence[AnnotatedImage], explained: ImageExplanations, report: Report) -> None:
    """Whether the first words name the label, beside the words of other labels, and whether `sure` says when."""
    labelled = [i for i, image in enumerate(images) if image.label]
    if not labelled:
        return
    names = [_word(images[i].label or "") for i in labelled]
    words = [explained.words[i][:FIRST] for i in labelled]
    hits = np.array([m.names_label(row, name) for row, name in zip(words, names, strict=True)], dtype=float)
    columns: dict[str, Any] = {"label_at_5": hits, "label_at_5_shuffled": m.shuffled_share(words, names)}
    columns["label_first"] = [m.names_label(row[:1], name) for row, name in zip(words, names, strict=True)]
    if explained.sure is not None:
        sure = explained.sure[labelled]
        columns["sure"] = sure
        found = {"sure_error": m.calibration_error(sure, hits), "sure_order": m.order_of(sure, hits)}
        report.metrics |= {name: value for name, value in found.items() if np.isfinite(value)}
    report.add_samples([images[i].key for i in labelled], columns)


def agreement(
    predict: Predict, images: Sequence[AnnotatedImage], explained: ImageExplanations, report: Report, classifier: str
) -> None:
    """Whether the name of a class that is nearest to a picture is the one that the classifier itself finds in it."""
    from conceptry.models.explained.load import load_explained
    from conceptry.models.images import decode_image

    model = load_explained(classifier, outputs="logits")
    prompts = embed_texts(predict, [name.replace("_", " ") for name in model.classes])
    own = [int(model(np.asarray(decode_image(image.content()))[None])[0].argmax()) for image in images]
    ranks = m.retrieval_ranks(explained.z, prompts, m.belonging([[k] for k in own], len(prompts)))
    columns = {"classifier_agreement": ranks <= 1, "classifier_agreement_at_5": ranks <= FIRST}
    report.add_samples([image.key for image in images], columns)


def timing(predict: Predict, images: Sequence[AnnotatedImage], explained: ImageExplanations) -> dict[str, float]:
    """Medians over a few batches: a request of embeddings costs the solve, one of pictures encoding as well."""
    n = min(BATCH, len(images))
    contents = pd.DataFrame({"image": [image.content() for image in images[:n]]})
    embeddings = pd.DataFrame({"embedding": list(explained.z[:n])})
    seconds = [(predict(contents).seconds, predict(embeddings).seconds) for _ in range(TIMING_REPEATS)]
    whole, solve = np.median(seconds, axis=0) / n * 1000
    return {"encode_ms": float(max(whole - solve, 0.0)), "solve_ms": float(solve)}


def frontier(predict: Predict, z: np.ndarray, progress: Callable[[float], None]) -> pd.DataFrame:
    """Mean l0 and cosine and the largest gap of embeddings (n, d) for each of PENALTIES."""
    rows = []
    frame = pd.DataFrame({"embedding": list(z)})
    for done, penalty in enumerate(PENALTIES, start=1):
        answer = predict(frame, {"l1_penalty": penalty}).rows
        rows.append(
            {
                "l1_penalty": penalty,
                "l0": float(np.mean(answer["l0"])),
                "cosine": float(np.mean(answer["cosine"])),
                "gap_max": float(np.max(answer["gap"])),
            }
        )
        progress(done / len(PENALTIES))
    return pd.DataFrame(rows)
