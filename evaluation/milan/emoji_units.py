"""Units of the emoji world as cases: what is true of each is known, down to the pixels of every concept.

| group | units | exemplars | truth |
|---|---|---|---|
| annotated | made up; combinations held out of training | by hand, from held-out scenes | their properties |
| planted | probes on the encoder's trunk | computed over held-out scenes | the concept of each |
| colour arithmetic | arithmetic on channels | computed over held-out scenes | the colour |
| controls | those of planted, on random scenes | drawn by the seed, with masks of the unit | the concept of the unit |
"""

from collections.abc import Mapping, Sequence

import numpy as np

from conceptry.evaluation.milan.cases import ANNOTATED, COLOURS, PLANTED, UnitCase
from conceptry.models.milan.dissect import Segmentation
from conceptry.models.milan.exemplars import compute_exemplars
from conceptry.models.milan.records import UnitExemplars
from conceptry.models.milan.sources import ArraySource
from conceptry.models.zoo.annotated_units import EmojiUnits
from conceptry.models.zoo.colour_units import COLOUR_UNITS, ColourUnits
from conceptry.models.zoo.planted_units import load_planted_units
from conceptry.models.zoo.scenes import EmojiScenes, Scene

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
