"""Units that milan versions are evaluated on: exemplars with masks, and what is known of each.

| name | what | truth |
|---|---|---|
| `zoo:emoji-units` | annotated units of held-out combinations, planted concepts, arithmetic of colours | all of it |
| `milannotations:ROOT#KEY` | units of MILANNOTATIONS; `ROOT#KEY@IMAGENET` where they need that folder | texts |
| `units:own` | the version's own registered units | none |
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from PIL import Image

from conceptry.evaluation.data import EvaluationData, sampled
from conceptry.evaluation.milan.baselines import baselines
from conceptry.evaluation.milan.clip_scores import EMOJI, mean_embeddings
from conceptry.models.errors import InputError
from conceptry.models.images import png_bytes

if TYPE_CHECKING:  # torch is slow to import
    from conceptry.models.milan.dissect import Segmentation

DEFAULT = "zoo:emoji-units"
DEFAULT_SIZE = 200
OWN_UNITS = "units:own"
SCHEMES = (DEFAULT, "milannotations:ROOT#KEY", OWN_UNITS)
_IDENTITY = ("model", "layers", "data", "size", "k", "quantile", "exemplars")  # hyperparameters: whose units they are
ANNOTATED, PLANTED, COLOURS, OWN = "annotated", "planted", "colour arithmetic", "own"


@dataclass(frozen=True, eq=False)
class UnitCase:
    """A unit to describe, and what is known of it.

    group: what kind of unit it is; key: what identifies it in tables; layer, unit: of the registered network, where
    it is one of its own; otherwise images uint8 (k, 3, H, W) and masks uint8 (k, 1, H, W). references: what people
    wrote; truth: the properties that a right description names, None where that is not known; segmentations: the
    pixels of every concept in each exemplar, or () where they are not known.
    """

    group: str
    key: str
    layer: str = ""
    unit: int = -1
    images: np.ndarray | None = field(default=None, repr=False)
    masks: np.ndarray | None = field(default=None, repr=False)
    references: tuple[str, ...] = ()
    truth: frozenset[str] | None = None
    segmentations: "tuple[Segmentation, ...]" = field(default=(), repr=False)

    @property
    def label(self) -> str | None:
        """Its layer in the registered network, or the group of units that it belongs to."""
        return self.layer if self.group == OWN else self.group

    @cached_property
    def image_files(self) -> list[bytes]:
        """PNG files of the exemplars."""
        return [] if self.images is None else [_png(pixels.transpose(1, 2, 0)) for pixels in self.images]

    @cached_property
    def mask_files(self) -> list[bytes]:
        """PNG files of the masks, white where the unit is active."""
        return [] if self.masks is None else [_png((mask[0] != 0) * np.uint8(255)) for mask in self.masks]


@dataclass(frozen=True)
class UnitData(EvaluationData):
    """Units to evaluate on.

    controls: units of random pictures, with the truth of planted ones; encoder: the dual encoder of the CLIP score.
    """

    unit: ClassVar[str] = "units"
    cases: Sequence[UnitCase]
    controls: Sequence[UnitCase] = ()
    encoder: str = EMOJI

    @property
    def items(self) -> Sequence[UnitCase]:
        return self.cases

    @cached_property
    def baselines(self) -> dict[str, list[str]]:
        """What each baseline says of each unit: see `baselines`."""
        return baselines(self.cases)

    @cached_property
    def embedded(self) -> np.ndarray:
        """What the CLIP score compares descriptions of units with pictures to; (n, d)."""
        shown = [(c.images, c.masks) for c in self.cases if c.images is not None and c.masks is not None]
        return mean_embeddings(self.encoder, shown)


def load_units(name: str | None, params: Mapping[str, str], size: int | None, seed: int) -> UnitData:
    """The data called `name` (see the table above); for None `zoo:emoji-units`.

    `size` (default 200 where the units are not the version's own) limits the units to a draw by `seed`; of
    `zoo:emoji-units` each of annotated and planted ones. Raises InputError for unknown names and for data that cannot
    be read.
    """
    if size is not None and size < 1:
        raise InputError(f"size must be at least 1 unit, got {size}")
    name = name or DEFAULT
    scheme, _, rest = name.partition(":")
    controls: Sequence[UnitCase] = ()
    if name == DEFAULT:
        from conceptry.evaluation.milan.emoji_units import emoji_cases  # draws scenes, needs torch

        cases, controls = emoji_cases(size or DEFAULT_SIZE, seed)
    elif name == OWN_UNITS:
        cases = sampled(own_cases(params), size, seed)
    elif scheme == "milannotations" and rest:
        cases = _annotations(rest, size or DEFAULT_SIZE, seed)
    else:
        raise InputError(f"unknown data {name!r}; expected one of {', '.join(SCHEMES)}")
    encoder = EMOJI if name == DEFAULT else params.get("clip_encoder", EMOJI)
    known = [name, *(params.get(key, "") for key in _IDENTITY)] if name == OWN_UNITS else [name]
    return UnitData(name, _digest([*cases, *controls], known), cases, controls, encoder)


def own_ranges(params: Mapping[str, str]) -> dict[str, list[tuple[int, int]]]:
    """The first and last number of each run of registered units, by layer: what the hyperparameter `units` says."""
    return {layer: [(first, last) for first, last in runs] for layer, runs in json.loads(params["units"]).items()}


def own_cases(params: Mapping[str, str]) -> list[UnitCase]:
    """The registered units of a version."""
    return [
        UnitCase(OWN, f"{layer}:{unit}", layer, unit)
        for layer, runs in own_ranges(params).items()
        for first, last in runs
        for unit in range(first, last + 1)
    ]


def table_units(table: pd.DataFrame, labels: Sequence[object] | None, name: str) -> UnitData:
    """Data from a DataFrame with the columns layer and unit, of the registered network, and maybe a reference text.

    `labels`, one a row, are reference texts where there is no column reference. Raises InputError for other columns.
    """
    if missing := [column for column in ("layer", "unit") if column not in table.columns]:
        found = ", ".join(map(str, table.columns)) or "none"
        raise InputError(f"expected the columns layer, unit and maybe reference, got no {missing[0]}: {found}")
    texts = table["reference"].tolist() if "reference" in table.columns else list(labels or [])
    cases = []
    for row, (layer, unit) in enumerate(zip(table["layer"], table["unit"], strict=True)):
        known = (str(texts[row]),) if texts and isinstance(texts[row], str) and texts[row] else ()
        cases.append(UnitCase(OWN, f"{layer}:{unit}", str(layer), int(unit), references=known))
    return UnitData(name, _digest(cases), cases)


def _annotations(rest: str, size: int, seed: int) -> list[UnitCase]:
    from pathlib import Path

    from conceptry.models.milan.annotations import load_annotations

    root, _, key = rest.partition("#")
    key, _, imagenet = key.partition("@")
    if not key:
        raise InputError(f"milannotations:ROOT#KEY needs a key after #, got milannotations:{rest}")
    units = load_annotations(Path(root), key, Path(imagenet) if imagenet else None)
    chosen = sampled([_Row(index) for index in range(len(units))], size, seed)
    cases = []
    for row in chosen:
        found = units[row.index]
        exemplars = found.exemplars
        where = f"{exemplars.layer}:{exemplars.unit}"
        cases.append(
            UnitCase(ANNOTATED, where, images=exemplars.images, masks=exemplars.masks, references=found.captions)
        )
    return cases


@dataclass(frozen=True)
class _Row:
    """A row of annotations, before it is read."""

    index: int
    label: None = None


def _digest(cases: Sequence[UnitCase], known: Sequence[str] = ()) -> str:
    total = hashlib.sha256(f"{list(known)!r}\n".encode())
    for case in cases:
        truth = None if case.truth is None else sorted(case.truth)
        total.update(f"{(case.group, case.key, case.layer, case.unit, case.references, truth)!r}\n".encode())
        for array in (case.images, case.masks):
            total.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _png(pixels: np.ndarray) -> bytes:
    return png_bytes(Image.fromarray(np.ascontiguousarray(pixels)))
