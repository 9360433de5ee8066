"""Trials of words: real ones score better than by chance, and hang on the encoder."""

from itertools import pairwise

import numpy as np
import pytest

from conceptry.evaluation.isolation.client import VersionProcess
from conceptry.evaluation.reports import Report
from conceptry.evaluation.scores import faithfulness as f
from conceptry.evaluation.splice import trials
from conceptry.evaluation.splice.client import embed_texts, explain_images
from conceptry.evaluation.splice.data import load_images
from conceptry.registry import register


def quiet(share: float) -> None:
    assert 0 <= share <= 1


@pytest.fixture(scope="module")
def trial(store):
    """The encoder of the emoji world over twelve scenes: a running version, images, explanations."""
    version = register("splice", {}, name="trials-splice").version
    images = load_images("zoo:emoji-scenes", 12, 3).images
    with VersionProcess(version.uri, "cpu") as predict:
        yield predict, images, explain_images(predict, images, quiet)


def test_words_are_put_in_and_taken_out_by_weight(trial) -> None:
    predict, images, explained = trial
    trials.faithfulness(predict, images, explained, report := Report(), quiet)
    found = report.metrics
    assert found["insertion_auc"] > found["insertion_random"]
    assert found["deletion_auc"] < found["deletion_random"]
    # One picture, word by word.
    words, z = list(explained.weights[0]), explained.z[0]
    by_weight = f.nested(np.arange(len(words)))
    values = [trials._left(predict, z, words, mask)[0] for mask in by_weight]
    assert values[-1] == pytest.approx(explained.cosine[0], abs=1e-5)
    others = [f.nested(order) for order in f.random_orders(len(words), trials.RANDOM_ORDERS, images[0].key)]
    masks = [mask for each in (by_weight, *others) for way in (each, ~each) for mask in way]
    every = [trials._left(predict, z, words, mask)[0] for mask in masks]
    area = sum((a + b) / 2 - min(every) for a, b in pairwise(values)) / len(words)
    row = report.samples.set_index("sample").loc[images[0].key]
    assert row["insertion_auc"] == pytest.approx(area / (max(every) - min(every)), abs=1e-4)
    # The class of the same one, with fewer and fewer words.
    classes = sorted({image.label for image in images if image.label})
    prompts = embed_texts(predict, [f"a photo of a {label}" for label in classes])
    hits = [
        classes[int(np.argmax(prompts @ trials._left(predict, z, words, ~mask)[1]))] == images[0].label
        for mask in by_weight
    ]
    assert row["deletion_zero_shot"] == pytest.approx(sum((a + b) / 2 for a, b in pairwise(hits)) / len(words))
    assert 0 <= found["deletion_zero_shot_random"] < 1  # the heaviest words of a scene need not be those of its class


def test_words_move_little_under_noise_and_much_without_the_encoder(trial) -> None:
    predict, images, explained = trial
    trials.robustness(predict, images, explained, report := Report(), quiet)
    trials.randomisation(predict, images, explained, report, quiet)
    found = report.metrics
    assert found["stable_words"] > 0.7
    assert 0 < found["sensitivity_max"] < 0.6
    assert 0 <= found["output_change"] < 0.2
    assert found["randomisation"] < 0.3
    assert report.tables["randomisation"]["cosine"].between(0, 1).all()
