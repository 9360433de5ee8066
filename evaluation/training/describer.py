"""Train a describer, score it on held-out units, write down how it was made, and log the run to MLflow.

On annotated units of the emoji world, made as they are needed; `annotation_training` trains on others. The features of
all units are computed once; with a state folder they are kept there, beside the state of the training after its last
epoch, and a training that was killed goes on from both.

Train a describer on annotated units that are there already, such as MILANNOTATIONS, a tenth of them held out.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from conceptry.evaluation.progress import bar
from conceptry.evaluation.training.fitting import (
    DEFINITIONS,
    PACKAGES,
    Work,
    annotated_scores,
    by_temperature,
    one_training,
    projected,
    unit_scores,
)
from conceptry.evaluation.training.tracking import circumstances, command_line, tracked
from conceptry.models.errors import InputError
from conceptry.models.explained.base import without_folders
from conceptry.models.folders import check_new, new_folder
from conceptry.models.manifest import write_json
from conceptry.models.milan.describer.features import load_feature_encoder
from conceptry.models.milan.emoji_units.annotated import EmojiUnits
from conceptry.models.training.describer import DescriberTraining
from conceptry.models.training.feature_cache import AnnotatedUnits
from conceptry.models.zoo.emoji_world.emoji import ATTRIBUTION, OBJECTS

HELD_OUT = 0.1  # of the units: for early stopping, and for the score


def run_annotations(
    settings: DescriberTraining,
    units: AnnotatedUnits,
    encoder_name: str,
    directory: Path,
    tracking: bool = True,
    command: str | None = None,
    state: Path | None = None,
    source: str = "annotated units",
    units_sha256: str = "",
) -> dict[str, Any]:
    """As `milan_training.run`, on any annotated units: a tenth, drawn by the seed, is held out to stop and score by.

    source: what provenance calls the units. units_sha256: a digest that tells them from others, for `state`.
    """
    check_new(directory)
    if len(units) < 2:
        raise InputError(f"{source}: training needs at least 2 annotated units, got {len(units)}")
    order = np.random.default_rng(np.random.SeedSequence([settings.seed, 7])).permutation(len(units))
    count = max(1, round(HELD_OUT * len(units)))
    parts = {"validation": _Chosen(units, order[:count].tolist()), "train": _Chosen(units, order[count:].tolist())}
    encoder = load_feature_encoder(encoder_name)
    definition = {"source": source, "units": len(units), "seed": settings.seed, "k": len(units[0].exemplars.images)}
    definition["units_sha256"] = units_sha256
    with (
        one_training(state),
        new_folder(directory) as partial,
        tracked("milan", asdict(settings) | {"encoder": encoder.public_name}, tracking) as log,
        bar("training a describer") as show,
    ):
        work = Work(partial, state, log, show)
        started = time.perf_counter()
        caches = {name: work.cached(encoder, found, name, definition | {"part": name}) for name, found in parts.items()}
        _, bleu = work.describer(settings, encoder, caches["train"], caches["validation"])
        provenance = {
            **circumstances(partial, PACKAGES, time.perf_counter() - started),
            "command": command,
            "settings": asdict(settings),
            "encoder": encoder.public_name,
            "data": f"{source}: {len(parts['train'])} units to train on, {count} held out",
            "data_sha256": {name: cache.digest() for name, cache in caches.items()},
            "scores": {"validation_bleu": bleu},
            "score_definitions": {"validation_bleu": "greedy BLEU on the held-out units, of the epoch that was kept"},
        }
        write_json(partial / "provenance.json", provenance)
        log.finish(provenance["scores"], partial / "provenance.json")
    return provenance


@dataclass(frozen=True)
class _Chosen:
    """Some of the units, in an order."""

    units: AnnotatedUnits
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int, /) -> Any:
        return self.units[self.rows[index]]


ENCODER = "zoo:emoji-clip+surroundings"
EMOJI = DescriberTraining(
    hidden_size=224,
    embedding_size=64,
    attention_size=64,
    dropout=0.3,
    learning_rate=3e-3,
    epochs=12,  # the best of 4, 7 and 12 on validation units; 24 are no better
    exemplars=8,
    cosine=True,
    projection=True,
    evidence=True,
    lm_hidden_size=96,
    lm_embedding_size=64,
    lm_learning_rate=3e-3,
    lm_epochs=3,
)


@dataclass(frozen=True)
class EmojiData:
    """How many annotated units of the emoji world, of how many objects, from how large pools of scenes.

    The most units (of 8,000 to 32,000) and scenes (of 16,384 and 32,768) that were tried: both name more validation
    units right.

    units: to train on; validation: to stop by; held_out: to score by, in each of so many `draws` of their own, whose
    mean is the score. scenes: that the exemplars of planted neurons and of colour arithmetic are chosen from; 0 leaves
    these scores out. seed: of all of it.
    """

    units: int = 32000
    validation: int = 400
    held_out: int = 1000
    draws: int = 4
    n_objects: int = 136
    pool: int = 32768
    scenes: int = 2048
    seed: int = 0

    def splits(self) -> dict[str, EmojiUnits]:
        """The units by name: train, validation, heldout-1 and on.

        The draw of held-out ones by `seed` itself is left out: it was looked at while the method was chosen.
        """
        names = tuple(OBJECTS)
        objects = [names[i * len(names) // self.n_objects] for i in range(self.n_objects)]

        def units(split: str, size: int, seed: int) -> EmojiUnits:
            return EmojiUnits(split, size, seed, pool=self.pool, objects=objects)

        found = {
            "train": units("train", self.units, self.seed),
            "validation": units("validation", self.validation, self.seed),
        }
        draws = range(1, self.draws + 1)
        return found | {f"{_HELD_OUT}-{draw}": units(_HELD_OUT, self.held_out, self.seed + draw) for draw in draws}


SMALL = EmojiData(units=800, validation=100, held_out=100, draws=1, n_objects=24, pool=2048, scenes=0)
_HELD_OUT = "heldout"
_SMALL_TRAINING = {"epochs": 3, "lm_epochs": 1, "hidden_size": 128}


def run(
    settings: DescriberTraining,
    data: EmojiData,
    directory: Path,
    tracking: bool = True,
    command: str | None = None,
    state: Path | None = None,
) -> dict[str, Any]:
    """Train on units of the emoji world, write the describer's folder, and return its provenance.

    directory: must not exist. tracking: log to MLflow's experiment `conceptry/train`. command: what to record as the
    way to repeat it. state: a folder to keep features and the state of training in, to go on from. Raises InputError
    where `directory` exists or `state` belongs to another training.
    """
    check_new(directory)
    units = data.splits()
    definitions = {name: found.definition() for name, found in units.items()}
    encoder = load_feature_encoder(ENCODER, "cpu")
    parameters = asdict(settings) | {f"data_{name}": value for name, value in asdict(data).items()}
    with (
        one_training(state),
        new_folder(directory) as partial,
        tracked("emoji-milan", parameters, tracking) as log,
        bar("training a describer") as show,
    ):
        work = Work(partial, state, log, show)
        started = time.perf_counter()
        caches = {name: work.cached(encoder, found, name, definitions[name]) for name, found in units.items()}
        describer, bleu = work.describer(settings, encoder, caches["train"], caches["validation"])
        seconds = time.perf_counter() - started
        show("scoring on held-out units", 1.0)
        ready = {name: projected(cache, describer.encoder) for name, cache in caches.items() if name != "train"}
        by_draw = [
            annotated_scores(describer, ready[name], units[name]) for name in ready if name.startswith(_HELD_OUT)
        ]
        means = {name: fmean(found[name] for found in by_draw) for name in by_draw[0]}
        scores = {"validation_bleu": bleu, **means}
        if data.scenes:
            scores |= unit_scores(describer, data.scenes, data.seed)
        (partial / "ATTRIBUTION.txt").write_text(ATTRIBUTION, encoding="utf-8")
        provenance = {
            **circumstances(partial, PACKAGES, seconds),
            "command": command,
            "settings": asdict(settings),
            "encoder": ENCODER,
            "data": "annotated units of the emoji world (conceptry.models.milan.emoji_units.annotated); no photographs",
            "data_settings": asdict(data),
            "data_definitions": definitions,
            "data_sha256": {name: cache.digest() for name, cache in caches.items()},
            "scores": scores,
            "score_definitions": {name: text for name, text in DEFINITIONS.items() if name in scores},
            "scores_by_draw": by_draw,
            "property_set_by_temperature_on_validation": by_temperature(
                describer, ready["validation"], units["validation"]
            ),
        }
        write_json(partial / "provenance.json", provenance)
        log.finish(provenance["scores"], partial / "provenance.json")
    return provenance


def train_command(
    output: Path,
    *,
    units: int | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    small: bool = False,
    annotations: str | None = None,
    imagenet: str | None = None,
    encoder: str | None = None,
    state: Path | None = None,
    probes: bool = False,
) -> str:
    """What `conceptry train milan` does; returns what to print. None keeps the setting of the shipped weights."""
    if probes:
        from conceptry.evaluation.training.planted import run as run_probes

        if small or any(value is not None for value in (units, epochs, annotations, imagenet, encoder, state)):
            raise InputError("--probes can only be combined with --seed")
        found = run_probes(output, **_only(seed=seed))
        return "\n".join([*_lines(found), f"saved {output}"])
    if state and state.resolve() == output.resolve():
        raise InputError(f"--state {state}: expected another folder than --output, which appears when all is done")
    given = {"units": units, "epochs": epochs, "seed": seed}
    given |= _without_folders(annotations, imagenet, encoder)
    command = command_line("milan", given | {"small": small})
    training, notes = _only(epochs=epochs, seed=seed), []
    if annotations:
        from conceptry.models.milan.annotations.annotations import CAPTIONS, load_annotations

        root, _, key = annotations.partition("#")
        if small or units is not None:
            raise InputError("--small and --units choose units of the emoji world; leave them out with --annotations")
        if not encoder:
            raise InputError("--annotations needs --encoder, such as torchvision:resnet101@FILE")
        annotated = load_annotations(Path(root), key or "base", Path(imagenet) if imagenet else None)
        settings = DescriberTraining(**training)
        name = f"milannotations:{key or 'base'}"
        digest = hashlib.sha256(repr(annotated.captions).encode()).hexdigest()
        provenance = run_annotations(settings, annotated, encoder, output, True, command, state, name, digest)
        notes = list(annotated.notes)
        if annotated.n_left_out:
            notes.append(f"units with fewer than {CAPTIONS} annotations, which are left out: {annotated.n_left_out:,}")
    else:
        if encoder or imagenet:
            raise InputError("--encoder and --imagenet need --annotations; units of the emoji world have their own")
        data = replace(SMALL if small else EmojiData(), **_only(units=units, seed=seed))
        settings = replace(EMOJI, **(_SMALL_TRAINING if small else {}) | training)
        provenance = run(settings, data, output, True, command, state)
    return "\n".join([*_lines(provenance), *notes, f"saved {output}: use it as describer:{output}"])


def _without_folders(annotations: str | None, imagenet: str | None, encoder: str | None) -> dict[str, str | None]:
    """These options as provenance shows them, which travels with the weights: no paths of the user's machine."""
    _, hash_, key = (annotations or "").partition("#")
    return {
        "annotations": annotations and f"ROOT{hash_}{key}",
        "imagenet": imagenet and "FOLDER",
        "encoder": encoder and without_folders(encoder),
    }


def _lines(provenance: dict[str, Any]) -> list[str]:
    return [f"{name:24}{value:8.3f}" for name, value in provenance["scores"].items()]


def _only(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
