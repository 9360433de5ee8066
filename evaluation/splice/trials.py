"""Trials of explanations: are the named words what z_hat lives of, do they survive noise, do they hang on the encoder?

Each trial adds metrics to a report. A part of an explanation is a word, and its value is the cosine of z with what the
words that are left recompose to.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
import pandas as pd

from conceptry.evaluation.data import LabelledImage
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.reports import Report
from conceptry.evaluation.scores import faithfulness as f
from conceptry.evaluation.scores import robustness as r
from conceptry.evaluation.scores.randomisation import stages
from conceptry.evaluation.splice.client import ImageExplanations, explain_images
from conceptry.evaluation.splice.experiments import REFUSALS, classes_of, embed_prompts
from conceptry.evaluation.splice.metrics import zero_shot_hits
from conceptry.evaluation.splice.published import AnnotatedImage

FAITHFUL = 48  # images whose words are taken away one by one
RANDOM_ORDERS = 2
CHANGED, DRAWS, NOISE = 16, 4, 0.05  # images and noises of each; of white

Share = Callable[[float], None]


def faithfulness(
    predict: Predict, images: Sequence[AnnotatedImage], explained: ImageExplanations, report: Report, progress: Share
) -> None:
    """Cosine, and the class of labelled images, as words are put in and taken out: heaviest first, and by chance."""
    classes = classes_of(images)
    prompts = None
    if len(classes) > 1:
        with suppress(*REFUSALS):  # of class names, of which basic metrics have a note
            prompts = embed_prompts(predict, classes)
    rows, keys = [], []
    for i, image in enumerate(images[:FAITHFUL]):
        words = list(explained.weights[i])
        if len(words) < 2:
            continue
        orders = [np.arange(len(words)), *f.random_orders(len(words), RANDOM_ORDERS, image.key)]
        nested = [f.nested(order) for order in orders]
        masks = np.concatenate([*nested, *(~each for each in nested)])
        different, place = np.unique(masks, axis=0, return_inverse=True)
        left = [_left(predict, explained.z[i], words, mask) for mask in different]
        shape = (2, len(orders), len(words) + 1)
        areas = f.Curves.of(np.array([cosine for cosine, _ in left])[place.ravel()].reshape(shape)).areas()
        if prompts is not None and image.label:
            found = zero_shot_hits(np.stack([z_hat for _, z_hat in left]), prompts, [classes[image.label]] * len(left))
            _, removed = found[place.ravel()].reshape(shape)
            heights = [f.area(curve.astype(float)) for curve in removed]
            areas |= {"deletion_zero_shot": heights[0], "deletion_zero_shot_random": float(np.mean(heights[1:]))}
        rows.append(areas)
        keys.append(image.key)
        progress((i + 1) / min(FAITHFUL, len(images)))
    if not rows:
        report.notes.append("faithfulness is left out: no picture has two words or more")
        return
    table = pd.DataFrame(rows)
    report.add_samples(keys, {str(name): table[name].to_numpy(float) for name in table})


def _left(predict: Predict, z: np.ndarray, words: Sequence[str], kept: np.ndarray) -> tuple[float, np.ndarray]:
    """Cosine of z with what the words that are kept recompose to, and that itself (d,)."""
    suppressed = [word for word, stays in zip(words, kept, strict=True) if not stays]
    asked = {"suppress": suppressed, "return_embedding": True}
    row = predict(pd.DataFrame({"embedding": [z]}), asked).rows.iloc[0]
    return float(row["cosine"]), np.asarray(row["recomposed"], dtype=np.float64)


def robustness(
    predict: Predict, images: Sequence[LabelledImage], explained: ImageExplanations, report: Report, progress: Share
) -> None:
    """How far the words of images with a little noise are from those without."""
    chosen = images[:CHANGED]
    noisy = [_with_noise(image, draw) for image in chosen for draw in range(DRAWS)]
    moved = explain_images(predict, noisy, progress)
    rows = []
    for i in range(len(chosen)):
        others = moved.weights[i * DRAWS : (i + 1) * DRAWS]
        start, *vectors = f.aligned(explained.weights[i], *others)
        same = [len({*explained.weights[i]} & {*o}) / (len({*explained.weights[i], *o}) or 1) for o in others]
        change = 1 - moved.z[i * DRAWS : (i + 1) * DRAWS] @ explained.z[i]
        rows.append((r.sensitivity_max(start, np.stack(vectors)), np.mean(same), change.max()))
    names = ("sensitivity_max", "stable_words", "output_change")
    report.add_samples([image.key for image in chosen], dict(zip(names, np.array(rows).T, strict=True)))


def _with_noise(image: LabelledImage, draw: int) -> LabelledImage:
    return LabelledImage(r.noisy_image(image.content(), r.noise_of(image.key, draw), NOISE))


def randomisation(
    predict: Predict, images: Sequence[LabelledImage], explained: ImageExplanations, report: Report, progress: Share
) -> None:
    """Cosine of the weights with those by an image tower drawn anew: 1 is an explanation of nothing."""
    chosen, rows = images[:CHANGED], []
    cosines: list[float] = []
    for share, random in stages(predict, progress):
        others = explain_images(random, chosen, lambda share: None).weights
        cosines = [abs(f.cosine(*f.aligned(*pair))) for pair in zip(explained.weights, others, strict=False)]
        rows.append({"share": share, "cosine": float(np.mean(cosines))})
    report.add_samples([image.key for image in chosen], {"randomisation": cosines})
    report.tables["randomisation"] = pd.DataFrame(rows)
