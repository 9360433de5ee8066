"""Made-up units with exemplars and descriptions, for tests of pages and audits."""

from collections.abc import Iterator, Sequence

import numpy as np

from conceptry.evaluation.units.describe import Source
from conceptry.evaluation.units.records import UnitDescription
from conceptry.models.milan.exemplars.records import LayerExemplars

TEXTS = ("dogs on red backgrounds", "", "a cat", "the colour red", "striped backgrounds", "cats and dogs", "red hats")


def made_exemplars(layer: str, count: int, k: int = 3, size: int = 16, seed: int = 0) -> LayerExemplars:
    """Noise with a rectangle in each mask; unit 1 is never active."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, k, 3, size, size), dtype=np.uint8)
    masks = np.zeros((count, k, 1, size, size), np.uint8)
    masks[:, :, :, 4:12, 2:10] = 1
    masks[1:2] = 0
    ids = rng.integers(0, 1000, (count, k))
    activations = np.sort(rng.gamma(2, 1, (count, k)).astype(np.float32))[:, ::-1]
    return LayerExemplars(layer, np.arange(count), images, masks, ids, np.ascontiguousarray(activations))


def made_units(layer: str, texts: Sequence[str] = TEXTS, size: int = 16, seed: int = 0) -> list[UnitDescription]:
    """A unit for each text; one without a text is never active."""
    exemplars = made_exemplars(layer, len(texts), size=size, seed=seed)
    units = []
    for unit, text in enumerate(texts):
        own = exemplars.unit(unit)
        if not text:
            units.append(UnitDescription(layer, unit, "", activation=0.5, active=False, exemplars=own))
            continue
        score = -0.5 - 0.37 * ((unit * 3) % 7)
        other = {"text": f"other {unit}", "score": score - 1, "log_likelihood": -9.0, "pmi": 0.25}
        activation = float(own.activations[0]) if own.activations is not None else None
        units.append(UnitDescription(layer, unit, text, score, -5.0, 2.5, activation, True, (other,), own))
    return units


def made_source(layers: Sequence[str] = ("layer1", "layer2"), version: str = "milan/1") -> Source:
    """Made-up units of each layer, and a record of which layers were described in `source.notes`."""
    asked: list[str] = []

    def describe(layer: str) -> Iterator[UnitDescription]:
        asked.append(layer)
        return iter(made_units(layer, seed=len(layer)))

    counts = dict.fromkeys(layers, len(TEXTS))
    return Source("Units of a net", "a net, described by milan/1", asked, {"version": version}, counts, describe)
