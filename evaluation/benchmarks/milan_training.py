"""An epoch of the describer's training from cached features beside one from pictures, and what describers get right.

Each unit has one caption, so that the encoder sees every picture once in an epoch. Trained is what ships, as `conceptry
train milan` does it, which the target is about, and a decoder of the paper's sizes: its steps cost many times as much,
beside an encoder that is much smaller than the paper's.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from conceptry.evaluation.benchmarks.measure import Record, Target, median_ratio, rounds_side_by_side
from conceptry.evaluation.milan.word_sets import property_set_score
from conceptry.models.milan.describer import Describer
from conceptry.models.milan.feature_cache import cache_features
from conceptry.models.milan.feature_encoders import load_feature_encoder
from conceptry.models.milan.training import FeaturesOfPictures, train_decoder
from conceptry.models.milan.training_settings import DescriberTraining
from conceptry.models.zoo.annotated_units import AnnotatedUnit, EmojiUnits

CACHED, PICTURES, FILLING = "cached features", "pictures", "filling the cache, once"
CASE, TIMES, QUALITY, SCORE = "training", f"x {CACHED}", "quality, zoo:emoji-milan", "score"
# What a describer of the emoji world is trained for: the least, or with "max" the most that is allowed.
BOUNDS: dict[str, tuple[float, Any]] = {
    "property_set": (0.67, "min"),
    "planted": (0.85, "min"),
    "planted_shuffled": (0.05, "max"),
    "colour_units": (1.0, "min"),
}


def training(describer: Describer, n_units: int, rounds: int) -> tuple[list[Record], list[Target]]:
    """Seconds of one epoch over n_units, its validation by a few others included."""
    from conceptry.evaluation.milan_training import EMOJI

    units, few = (_once(EmojiUnits(split, n)) for split, n in (("train", n_units), ("validation", 8)))
    texts = [unit.captions for unit in units]
    plain = load_feature_encoder("zoo:emoji-clip", "cpu")
    cases = (
        ("as zoo:emoji-milan", describer.encoder, dataclasses.replace(EMOJI, epochs=1)),
        ("the paper's sizes", plain, DescriberTraining(epochs=1)),
    )
    records, times = [], []
    for what, encoder, settings in cases:
        cached, held = cache_features(encoder, units), cache_features(encoder, few)
        epoch = partial(train_decoder, validation=held, vocabulary=describer.vocabulary, settings=settings)
        turns: dict[str, Callable[[], Any]] = {
            CACHED: partial(epoch, cached),
            PICTURES: partial(epoch, FeaturesOfPictures(encoder, units, texts)),
            FILLING: partial(cache_features, encoder, units),
        }
        seconds = rounds_side_by_side(turns, rounds)
        case = f"{CASE}, {what}, an epoch of {n_units} units"
        times.append(median_ratio(seconds[PICTURES], seconds[CACHED]))
        records += [
            Record(case, name, sorted(taken)[len(taken) // 2], extra={TIMES: median_ratio(taken, seconds[CACHED])})
            for name, taken in seconds.items()
        ]
    return records, [Target("epochs from cached features, times those from pictures", times[0], 5, "min")]


def _once(units: EmojiUnits) -> list[AnnotatedUnit]:
    """The units, each with the first of its captions."""
    drawn = [units[i] for i in range(len(units))]
    return [dataclasses.replace(unit, captions=unit.captions[:1]) for unit in drawn]


def quality(describer: Describer, n_units: int, n_scenes: int) -> tuple[list[Record], list[Target]]:
    """Property sets of n_units held-out combinations; planted neurons and colour arithmetic over n_scenes scenes."""
    from conceptry.evaluation.milan_scores import unit_scores

    units = EmojiUnits("heldout", n_units)
    drawn = [(units[i], units.properties(i)) for i in range(n_units)]
    combined = [(unit.exemplars, truth) for unit, truth in drawn if len(truth) > 1]
    texts = [describer.describe(e.images[None], e.masks[None])[0].text for e, _ in combined]
    scores = {"property_set": property_set_score(texts, [truth for _, truth in combined])}
    scores |= unit_scores(describer, n_scenes)
    records = [Record(QUALITY, name, None, extra={SCORE: value}) for name, value in scores.items()]
    return records, [Target(f"{name} of {describer.name}", scores[name], *bound) for name, bound in BOUNDS.items()]
