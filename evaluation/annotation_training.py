"""Train a describer on annotated units that are there already, such as MILANNOTATIONS, a tenth of them held out."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conceptry.evaluation.milan_fitting import PACKAGES, Work, one_training
from conceptry.evaluation.progress import bar
from conceptry.evaluation.training import circumstances, tracked
from conceptry.models.artifacts import write_json
from conceptry.models.errors import InputError
from conceptry.models.folders import check_new, new_folder
from conceptry.models.milan.feature_cache import AnnotatedUnits
from conceptry.models.milan.feature_encoders import load_feature_encoder
from conceptry.models.milan.training_settings import DescriberTraining

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
