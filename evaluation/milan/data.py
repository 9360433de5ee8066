"""Units that MILAN versions are evaluated on: exemplars with masks, and what is known of each.

| name | what | truth |
|---|---|---|
| `zoo:emoji-units` | annotated units of held-out combinations, planted concepts, arithmetic of colours | all of it |
| `milannotations:ROOT#KEY` | units of MILANNOTATIONS; `ROOT#KEY@IMAGENET` where they need that folder | texts |
| `units:own` | the version's own registered units | none |
| `folder:PATH` | the same, to be scored on the pictures of a folder that chose none of their exemplars | none |
| `NAME?encoder=ENCODER` | the same, with another dual encoder to say what pictures show | |

What is true of units of the emoji world is known down to the pixels of every concept. They come in groups:

| group | units | exemplars | truth |
|---|---|---|---|
| annotated | made up; combinations held out of training | by hand, from held-out scenes | their properties |
| planted | probes on the encoder's trunk | computed over held-out scenes | the concept of each |
| colour arithmetic | arithmetic on channels | computed over held-out scenes | the colour |
| controls | those of planted, on random scenes | drawn by the seed, with masks of the unit | the concept of the unit |
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from conceptry.evaluation.data import EvaluationData, draw_sample
from conceptry.evaluation.milan.activations.heldout import seen_folder
from conceptry.evaluation.milan.activations.scenes import Scenes
from conceptry.evaluation.milan.activations.seen import SeenImages
from conceptry.evaluation.milan.activations.units import ScoredUnits, emoji_units, own_units, redrawn, units_on
from conceptry.evaluation.milan.client import ANNOTATED, COLOURS, OWN, PLANTED, UnitCase, own_case
from conceptry.evaluation.milan.metrics import EMOJI, baselines, mean_embeddings
from conceptry.models.errors import InputError
from conceptry.models.milan.baselines.network_dissection import Segmentation
from conceptry.models.milan.emoji_units.annotated import EmojiUnits
from conceptry.models.milan.emoji_units.planted import COLOUR_UNITS, ColourUnits, load_planted_units
from conceptry.models.milan.exemplars.compute import compute_exemplars
from conceptry.models.milan.exemplars.records import UnitExemplars
from conceptry.models.milan.exemplars.sources import ArraySource
from conceptry.models.milan.settings import PHOTOS
from conceptry.models.zoo.emoji_world.scenes import EmojiScenes, Scene
from conceptry.registry.versions import Version

SCENES = 2048  # that exemplars of planted and colour units are chosen from
CONTROLS = 30


def emoji_cases(size: int, seed: int) -> tuple[list[UnitCase], list[UnitCase]]:
    """Units to evaluate on, and controls of random pictures; `size` of annotated and planted ones each at most."""
    drawn = EmojiScenes("heldout", SCENES, seed)
    scenes = [drawn[i] for i in range(SCENES)]
    planted = load_planted_units()
    words = _limited(planted.concepts, size, seed)
    cases = annotated_cases(size, seed)
    found = _cases(planted, words, PLANTED, scenes)
    colours = {"units": dict(enumerate(COLOUR_UNITS))}
    return [*cases, *found, *_cases(ColourUnits(), colours, COLOURS, scenes)], _controls(found, scenes, seed)


def annotated_cases(size: int, seed: int) -> list[UnitCase]:
    """Held-out annotated units, with three references each; seed 0 is not the draw that choices were looked at with."""
    units = EmojiUnits("heldout", size, seed + 1)
    cases = []
    for number, unit in enumerate(units):
        found = unit.exemplars
        assert found.ids is not None
        known = tuple(units.scene(i).segments for i in found.ids.tolist())
        cases.append(
            _case(ANNOTATED, f"annotated {seed}:{number}", found, unit.properties, known, references=unit.captions)
        )
    return cases


def redrawn_cases(cases: Sequence[UnitCase], seed: int) -> dict[str, UnitCase]:
    """By its key, each planted unit among `cases` as it is once all parameters of its network are drawn anew.

    Its exemplars are computed over the pictures that those of the planted units are.
    """
    planted, true = load_planted_units(), {case.truth for case in cases if case.group == PLANTED}
    words: dict[str, dict[int, str]] = {}
    for layer, of_layer in planted.concepts.items():
        if found := {unit: word for unit, word in enumerate(of_layer) if {word} in true}:
            words[layer] = found
    if not words:
        return {}
    drawn = EmojiScenes("heldout", SCENES, seed)
    random = _cases(redrawn(planted, seed), words, PLANTED, [drawn[i] for i in range(SCENES)])
    return {case.key: case for case in random}


def _limited(concepts: Mapping[str, Sequence[str]], size: int, seed: int) -> dict[str, dict[int, str]]:
    """A draw of `size` units by `seed`: the concept of each by number, by layer; all where there are no more."""
    every = [(layer, unit, word) for layer, words in concepts.items() for unit, word in enumerate(words)]
    rng = np.random.default_rng(np.random.SeedSequence([seed, 29]))
    chosen = sorted(rng.choice(len(every), min(size, len(every)), replace=False).tolist())
    limited: dict[str, dict[int, str]] = {}
    for layer, unit, word in (every[i] for i in chosen):
        limited.setdefault(layer, {})[unit] = word
    return limited


def _cases(module, concepts: Mapping[str, Mapping[int, str]], group: str, scenes: Sequence[Scene]) -> list[UnitCase]:
    """Units of a torch module over pixels, with their exemplars among `scenes`."""
    data = ArraySource("zoo:emoji-scenes", np.stack([scene.image for scene in scenes]))
    units = {layer: list(words) for layer, words in concepts.items()}
    found = compute_exemplars(module, data, list(concepts), units=units, name=group)
    cases = []
    for layer, words in concepts.items():
        for unit, word in words.items():
            exemplars = found[layer].unit(unit)
            assert exemplars.ids is not None
            known = tuple(scenes[i].segments for i in exemplars.ids.tolist())
            cases.append(_case(group, f"{group} {word}", exemplars, frozenset({word}), known))
    return cases


def _case(
    group: str,
    key: str,
    exemplars: UnitExemplars,
    truth: frozenset[str],
    segmentations: tuple[Segmentation, ...],
    references: tuple[str, ...] = (),
) -> UnitCase:
    images, masks = exemplars.images, exemplars.masks
    return UnitCase(
        group, key, images=images, masks=masks, references=references, truth=truth, segmentations=segmentations
    )


def _controls(planted: Sequence[UnitCase], scenes: Sequence[Scene], seed: int) -> list[UnitCase]:
    rng = np.random.default_rng(np.random.SeedSequence([seed, 31]))
    controls = []
    for case in planted[:CONTROLS]:
        assert case.masks is not None
        drawn = rng.choice(len(scenes), len(case.masks), replace=False)
        images = np.stack([scenes[i].image.transpose(2, 0, 1) for i in drawn])
        controls.append(UnitCase(PLANTED, f"random {case.key}", images=images, masks=case.masks, truth=case.truth))
    return controls


DEFAULT = "zoo:emoji-units"
DEFAULT_SIZE = 200
OWN_UNITS = "units:own"
SCHEMES = (DEFAULT, "milannotations:ROOT#KEY", OWN_UNITS, "folder:PATH")
ENCODER = "?encoder="
_IDENTITY = (
    "model",
    "layers",
    "data",
    "size",
    "k",
    "quantile",
    "channels",
    "exemplars",
)  # hyperparameters: whose units they are


@dataclass(frozen=True)
class UnitData(EvaluationData):
    """Units to evaluate on.

    controls: units of random pictures, with the truth of planted ones; encoder: the dual encoder of the CLIP score, ""
    for none; title: what summaries call it, "" for its name; find_scored: makes `scored`, None where no network of the
    units is known; find_redrawn: makes `redrawn_cases`, None where it cannot be.
    """

    unit: ClassVar[str] = "units"
    cases: Sequence[UnitCase]
    controls: Sequence[UnitCase] = ()
    encoder: str = EMOJI
    title: str = ""
    find_scored: Callable[[], ScoredUnits] | None = field(default=None, repr=False)
    find_redrawn: Callable[[], Mapping[str, UnitCase]] | None = field(default=None, repr=False)

    @property
    def items(self) -> Sequence[UnitCase]:
        return self.cases

    @cached_property
    def baselines(self) -> dict[str, list[str]]:
        """Texts of each baseline for all units, see `metrics.baselines`."""
        return baselines(self.cases)

    @cached_property
    def scored(self) -> ScoredUnits:
        """Activations of the units. Raises InputError where no network of theirs, or no pictures for it, are known."""
        if self.find_scored is None:
            raise InputError(
                f"no network of the units of {self.name} is known; expected {DEFAULT}, folder:PICTURES for the "
                f"version's own units, or {OWN_UNITS} of a version whose exemplars are scenes"
            )
        return self.find_scored()

    @cached_property
    def redrawn_cases(self) -> Mapping[str, UnitCase]:
        """Units of networks whose parameters are drawn anew, by their keys.

        Raises InputError where there is no network with parameters, or exemplars of it cannot be chosen again.
        """
        found = self.find_redrawn() if self.find_redrawn is not None else {}
        if not found:
            raise InputError(
                f"no network of the units of {self.name} can be drawn anew and looked at again; expected {DEFAULT}"
            )
        return found

    @cached_property
    def embedded(self) -> np.ndarray:
        """Mean embeddings of the exemplars (n, d), to which the CLIP score compares descriptions."""
        shown = [(c.images, c.masks) for c in self.cases if c.images is not None and c.masks is not None]
        return mean_embeddings(self.encoder, shown)


def load_units(name: str | None, params: Mapping[str, str], size: int | None, seed: int) -> UnitData:
    """The data called `name` (see the table above); for None `zoo:emoji-units`, of versions over photographs their own.

    `size` (default 200 where the units are not the version's own) limits the units to a draw by `seed`; of
    `zoo:emoji-units` each of annotated and planted ones. Raises InputError for unknown names and for data that cannot
    be read.
    """
    if size is not None and size < 1:
        raise InputError(f"size must be at least 1 unit, got {size}")
    plain, _, given = (name or "").partition(ENCODER)
    plain = plain or (OWN_UNITS if params.get("clip_encoder") == PHOTOS else DEFAULT)
    scheme, _, rest = plain.partition(":")
    encoder = given or (EMOJI if plain == DEFAULT else params.get("clip_encoder", ""))
    controls: Sequence[UnitCase] = ()
    find_scored = find_redrawn = None
    known, title = [seen_by(plain, given) if given else plain], ""
    seen = partial(_seen_scenes, given) if given else None
    if plain == DEFAULT:
        cases, controls = emoji_cases(size or DEFAULT_SIZE, seed)
        find_scored = partial(emoji_units, cases, controls, seed, seen)
        find_redrawn = partial(redrawn_cases, cases, seed)
    elif plain == OWN_UNITS or (scheme == "folder" and rest):
        cases = draw_sample(own_cases(params), size, seed)
        find_scored = partial(own_units, cases, params, seed, seen)
        if plain != OWN_UNITS:
            image_set, contents = seen_folder(Path(rest), params, encoder, seed)
            find_scored = partial(units_on, image_set, cases, params, seed)
            known += [encoder, contents]
        known += [params.get(key, "") for key in _IDENTITY]
        title = f"units of {params['model']}"
    elif scheme == "milannotations" and rest:
        if given:
            raise InputError(f"{plain}: no network of its units is known, to be shown pictures; leave --encoder out")
        cases = _annotations(rest, size or DEFAULT_SIZE, seed)
    else:
        raise InputError(f"unknown data {plain!r}; expected one of {', '.join(SCHEMES)}")
    digest = _digest([*cases, *controls], known)
    return UnitData(known[0], digest, cases, controls, encoder, title, find_scored, find_redrawn)


def seen_by(name: str | None, encoder: str) -> str:
    """The name of the data `name` (None: by default) of which a dual encoder says what pictures show."""
    plain, _, _ = (name or "").partition(ENCODER)
    return f"{plain}{ENCODER}{encoder}"


def _seen_scenes(encoder: str, scenes: Scenes) -> SeenImages:
    return SeenImages(scenes.source, encoder)


def known_of(version: Version) -> dict[str, str]:
    """Hyperparameters of a version, and the digest of the network that its units are of, where it knows that."""
    digest = version.lineage.get("explained_sha256")
    return {**version.params, **({"explained_sha256": digest} if digest else {})}


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
    from conceptry.models.milan.annotations.annotations import load_annotations

    root, _, key = rest.partition("#")
    key, _, imagenet = key.partition("@")
    if not key:
        raise InputError(f"milannotations:ROOT#KEY needs a key after #, got milannotations:{rest}")
    units = load_annotations(Path(root), key, Path(imagenet) if imagenet else None)
    cases = []
    for index in draw_sample(range(len(units)), size, seed):
        found = units[index]
        exemplars = found.exemplars
        where = f"{exemplars.layer}:{exemplars.unit}"
        cases.append(
            UnitCase(ANNOTATED, where, images=exemplars.images, masks=exemplars.masks, references=found.captions)
        )
    return cases


def _digest(cases: Sequence[UnitCase], known: Sequence[str] = ()) -> str:
    total = hashlib.sha256(f"{list(known)!r}\n".encode())
    for case in cases:
        truth = None if case.truth is None else sorted(case.truth)
        total.update(f"{(case.group, case.key, case.layer, case.unit, case.references, truth)!r}\n".encode())
        for array in (case.images, case.masks):
            total.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
