"""Units that milan versions are evaluated on: exemplars with masks, and what is known of each.

| name | what | truth |
|---|---|---|
| `zoo:emoji-units` | annotated units of held-out combinations, planted concepts, arithmetic of colours | all of it |
| `milannotations:ROOT#KEY` | units of MILANNOTATIONS; `ROOT#KEY@IMAGENET` where they need that folder | texts |
| `units:own` | the version's own registered units | none |
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd

from conceptry.evaluation.data import EvaluationData, sampled
from conceptry.evaluation.milan.baselines import baselines
from conceptry.evaluation.milan.cases import ANNOTATED, OWN, UnitCase, own_case
from conceptry.evaluation.milan.clip_scores import EMOJI, mean_embeddings
from conceptry.models.errors import InputError

DEFAULT = "zoo:emoji-units"
DEFAULT_SIZE = 200
OWN_UNITS = "units:own"
SCHEMES = (DEFAULT, "milannotations:ROOT#KEY", OWN_UNITS)
_IDENTITY = ("model", "layers", "data", "size", "k", "quantile", "exemplars")  # hyperparameters: whose units they are


@dataclass(frozen=True)
class UnitData(EvaluationData):
    """Units to evaluate on.

    controls: units of random pictures, with the truth of planted ones; encoder: the dual encoder of the CLIP score, ""
    for none; title: what summaries call it, "" for its name.
    """

    unit: ClassVar[str] = "units"
    cases: Sequence[UnitCase]
    controls: Sequence[UnitCase] = ()
    encoder: str = EMOJI
    title: str = ""

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
    encoder = EMOJI if name == DEFAULT else params.get("clip_encoder", "")
    known = [name, *(params.get(key, "") for key in _IDENTITY)] if name == OWN_UNITS else [name]
    title = f"units of {params['model']}" if name == OWN_UNITS else ""
    return UnitData(name, _digest([*cases, *controls], known), cases, controls, encoder, title)


def own_ranges(params: Mapping[str, str]) -> dict[str, list[tuple[int, int]]]:
    """The first and last number of each run of registered units, by layer: what the hyperparameter `units` says."""
    return {layer: [(first, last) for first, last in runs] for layer, runs in json.loads(params["units"]).items()}


def own_cases(params: Mapping[str, str]) -> list[UnitCase]:
    """The registered units of a version."""
    return [
        own_case(layer, unit)
        for layer, runs in own_ranges(params).items()
        for first, last in runs
        for unit in range(first, last + 1)
    ]


def table_units(table: pd.DataFrame, labels: Sequence[object] | None, name: str, params: Mapping[str, str]) -> UnitData:
    """Data from a DataFrame with the columns layer and unit, of the registered network, and maybe a reference text.

    `labels`, one a row, are reference texts where there is no column reference. Raises InputError for other columns.
    """
    if missing := [column for column in ("layer", "unit") if column not in table.columns]:
        found = ", ".join(map(str, table.columns)) or "none"
        raise InputError(f"expected the columns layer, unit and maybe reference, got no {missing[0]}: {found}")
    texts = table["reference"].tolist() if "reference" in table.columns else list(labels or [])
    cases = []
    for row, (layer, cell) in enumerate(zip(table["layer"], table["unit"], strict=True)):
        if not re.fullmatch(r"\d{1,9}(\.0)?", str(cell).strip()):
            raise InputError(f"{name}, row {row}: expected the number of a unit, got {str(cell)!r}")
        unit = int(float(cell))
        known = (str(texts[row]),) if texts and isinstance(texts[row], str) and texts[row] else ()
        cases.append(UnitCase(OWN, f"{layer}:{unit}", str(layer), unit, references=known))
    return UnitData(name, _digest(cases), cases, encoder=params.get("clip_encoder", ""))


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
