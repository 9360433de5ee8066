"""MILAN on one thread: exemplars beside forward passes, memory, descriptions, training, what descriptions get right.

Each figure is the median over rounds in which everyone takes a turn. The targets are those of the method: exemplars at
most 1.2 times the forward passes that they need, in memory that does not grow with the pictures; descriptions ten times
as fast as the literal loop; epochs from cached features five times as fast as from pictures.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from conceptry.evaluation.benchmarks import milan_exemplars, milan_training
from conceptry.evaluation.benchmarks.measure import Benchmark, Record, Target, one_thread
from conceptry.evaluation.benchmarks.milan_descriptions import descriptions
from conceptry.evaluation.benchmarks.milan_exemplars import IMAGENET, NETWORKS, Network
from conceptry.models.errors import InputError
from conceptry.models.milan.describer import load_describer
from conceptry.models.milan.settings import DecodingSettings
from conceptry.models.zoo.annotated_units import EmojiUnits

DESCRIBER = "zoo:emoji-milan"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured. rounds: of every comparison; the rest see the functions that are called."""

    rounds: int = 5
    pictures: int | None = None  # None: as each network says
    units: int = 64
    literal_units: int = 4
    training_units: int = 192
    quality_units: int = 400
    quality_scenes: int = 2000


FULL = Sizes()
QUICK = Sizes(rounds=3, pictures=500, units=32, training_units=64, quality_units=100)


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
        f"'{milan_exemplars.BARE}': the network alone over inputs prepared before, all of them and then the exemplars",
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
            pictures = min(network.pictures, sizes.pictures or network.pictures)
            with tempfile.TemporaryDirectory() as folder:
                small = dataclasses.replace(network, pictures=pictures)
                keep(milan_exemplars.exemplars(small, sizes.rounds, Path(folder)))
        progress("memory")
        keep(milan_exemplars.memory(quick))
        progress("descriptions")
        describer = load_describer(DESCRIBER, "cpu")
        units = EmojiUnits("heldout", sizes.units)
        drawn = [units[i].exemplars for i in range(sizes.units)]
        features = describer.features(np.stack([e.images for e in drawn]), np.stack([e.masks for e in drawn]))
        settings = DecodingSettings(alternatives=0)
        keep(descriptions(describer, features, sizes.rounds, sizes.units, sizes.literal_units, settings))
        progress("training")
        keep(milan_training.training(describer, sizes.training_units, sizes.rounds))
        progress("quality")
        keep(milan_training.quality(describer, sizes.quality_units, sizes.quality_scenes))
    return Benchmark("Descriptions of units", records, targets, notes)
