"""MILAN on one thread: exemplars beside forward passes, memory, descriptions, training, what descriptions get right.

Each figure is the median over rounds in which everyone takes a turn. The targets are those of the method: exemplars at
most 1.2 times the forward passes that they need, in memory that does not grow with the images; descriptions ten times
as fast as the literal loop; epochs from cached features five times as fast as from images.

Epochs are of the describer's training. Each unit has one caption, so that the encoder sees every image once in an
epoch. Trained are what ships, as `conceptry train milan` does it, which the target is about, and a decoder of the
paper's sizes: its steps cost many times as much, beside an encoder that is much smaller than the paper's.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from conceptry.evaluation.benchmarks.measure import (
    Benchmark,
    Record,
    Target,
    median_ratio,
    one_thread,
    rounds_side_by_side,
)
from conceptry.evaluation.benchmarks.milan import exemplars
from conceptry.evaluation.benchmarks.milan.describe import descriptions
from conceptry.evaluation.benchmarks.milan.exemplars import IMAGENET, NETWORKS, Network
from conceptry.evaluation.milan.text_scores import property_set_score
from conceptry.models.errors import InputError
from conceptry.models.milan.describer.describer import Describer, load_describer
from conceptry.models.milan.describer.features import load_feature_encoder
from conceptry.models.milan.emoji_units.annotated import AnnotatedUnit, EmojiUnits
from conceptry.models.milan.settings import DecodingSettings
from conceptry.models.training.describer import DescriberTraining, FeaturesOfImages, train_decoder
from conceptry.models.training.feature_cache import cache_features

CACHED, IMAGES, FILLING = "cached features", "pictures", "filling the cache, once"
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
    from conceptry.evaluation.training.describer import EMOJI

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
            IMAGES: partial(epoch, FeaturesOfImages(encoder, units, texts)),
            FILLING: partial(cache_features, encoder, units),
        }
        seconds = rounds_side_by_side(turns, rounds)
        case = f"{CASE}, {what}, an epoch of {n_units} units"
        times.append(median_ratio(seconds[IMAGES], seconds[CACHED]))
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
    from conceptry.evaluation.training.fitting import unit_scores

    units = EmojiUnits("heldout", n_units)
    drawn = [(units[i], units.properties(i)) for i in range(n_units)]
    combined = [(unit.exemplars, truth) for unit, truth in drawn if len(truth) > 1]
    texts = [describer.describe(e.images[None], e.masks[None])[0].text for e, _ in combined]
    scores = {"property_set": property_set_score(texts, [truth for _, truth in combined])}
    scores |= unit_scores(describer, n_scenes)
    records = [Record(QUALITY, name, None, extra={SCORE: value}) for name, value in scores.items()]
    return records, [Target(f"{name} of {describer.name}", scores[name], *bound) for name, bound in BOUNDS.items()]


DESCRIBER = "zoo:emoji-milan"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured. rounds: of every comparison; the rest see the functions that are called."""

    rounds: int = 5
    images: int | None = None  # None: as each network says
    units: int = 64
    literal_units: int = 4
    training_units: int = 192
    quality_units: int = 400
    quality_scenes: int = 2000


FULL = Sizes()
QUICK = Sizes(rounds=3, images=500, units=32, training_units=64, quality_units=100)


def run(
    dictionary: Path | None = None,
    quick: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    networks: Sequence[Network] = (*NETWORKS, IMAGENET),
    sizes: Sizes | None = None,
) -> Benchmark:
    """Measure; six minutes, or one and a half if `quick` (fewer rounds, pictures and units).

    `networks` and `sizes` are what the targets are about; less is for trying things out. There is no dictionary here:
    InputError if one is given.
    """
    if dictionary is not None:
        raise InputError("--dictionary: the benchmark of milan draws its own scenes; leave it out")
    sizes = sizes or (QUICK if quick else FULL)
    notes = [
        "one thread; workers that read pictures ahead have threads of their own",
        f"'{exemplars.BARE}': the network alone over inputs prepared before, all of them and then the exemplars",
        "exemplars are written to files; they run the network once over each picture and keep the maps of the best",
        "as in every command, the C library keeps what is freed: else the pages of large maps are made anew each time",
        "memory is resident memory, with what is freed handed back at once by the C library",
        "'a hypothesis at a time' is the literal loop; 'a unit at a time' takes the hypotheses of one unit together",
    ]
    records: list[Record] = []
    targets: list[Target] = []

    def keep(found: tuple[list[Record], list[Target]]) -> None:
        records.extend(found[0])
        targets.extend(found[1])

    with one_thread():
        for network in networks:
            if not network.there:
                notes.append(f'{network.title} is not installed (pip install "conceptry[imagenet]"): not measured')
                continue
            progress(f"exemplars, {network.title}")
            images = min(network.images, sizes.images or network.images)
            with tempfile.TemporaryDirectory() as folder:
                small = dataclasses.replace(network, images=images)
                keep(exemplars.exemplars(small, sizes.rounds, Path(folder)))
        progress("memory")
        keep(exemplars.memory(quick))
        progress("descriptions")
        describer = load_describer(DESCRIBER, "cpu")
        units = EmojiUnits("heldout", sizes.units)
        drawn = [units[i].exemplars for i in range(sizes.units)]
        features = describer.features(np.stack([e.images for e in drawn]), np.stack([e.masks for e in drawn]))
        settings = DecodingSettings(alternatives=0)
        keep(descriptions(describer, features, sizes.rounds, sizes.units, sizes.literal_units, settings))
        progress("training")
        keep(training(describer, sizes.training_units, sizes.rounds))
        progress("quality")
        keep(quality(describer, sizes.quality_units, sizes.quality_scenes))
    return Benchmark("Descriptions of units", records, targets, notes)
