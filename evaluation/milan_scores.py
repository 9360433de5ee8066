"""Scores of a describer in the emoji world: held-out combinations, planted neurons with controls, colour arithmetic."""

from collections.abc import Mapping, Sequence

import numpy as np

from conceptry.evaluation.milan.word_sets import planted_score, property_set_score, shuffled_score
from conceptry.models.milan.describer import Describer
from conceptry.models.milan.exemplars import compute_exemplars
from conceptry.models.milan.feature_cache import FeatureCache
from conceptry.models.milan.settings import GREEDY, DecodingSettings
from conceptry.models.milan.sources import SceneSource
from conceptry.models.zoo.annotated_units import EmojiUnits
from conceptry.models.zoo.colour_units import COLOUR_UNITS, ColourUnits
from conceptry.models.zoo.planted_units import load_planted_units

TEMPERATURES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
DEFINITIONS = {
    "property_set": "held-out units of two properties never seen together in training: share of descriptions that name "
    "exactly the two, by the default decoding (rerank, T = .2)",
    "property_set_greedy": "the same with greedy decoding",
    "property_set_beam": "the same with beam search alone, T = 0",
    "property_set_single": "held-out units of one property: share of descriptions that name exactly that",
    "planted": "planted neurons, exemplars computed over held-out scenes: share of descriptions that name the concept",
    "planted_exact": "share of them that name nothing else",
    "planted_shuffled": "planted, with truths of other neurons (mean over 20 seeded derangements)",
    "planted_random": "planted, with random held-out scenes in place of the exemplars",
    "colour_units": "the seven units of colour arithmetic: share of descriptions that name the colour",
    "validation_bleu": "greedy BLEU on validation units, of the epoch that was kept",
}


def annotated_scores(describer: Describer, cache: FeatureCache, units: EmojiUnits) -> dict[str, float]:
    """Scores on held-out annotated units; cache: their features, projected."""
    truths = [units.properties(i) for i in range(len(units))]
    both = [i for i, truth in enumerate(truths) if len(truth) > 1]
    one = [i for i, truth in enumerate(truths) if len(truth) == 1]
    features = cache.batch(np.arange(len(cache)))
    scores: dict[str, float] = {}
    for name, rows, settings in (
        ("property_set", both, DecodingSettings()),
        ("property_set_greedy", both, DecodingSettings(strategy=GREEDY)),
        ("property_set_beam", both, DecodingSettings(temperature=0.0)),
        ("property_set_single", one, DecodingSettings()),
    ):
        texts = [found.text for found in describer.describe_features(features[rows], settings)]
        scores[name] = property_set_score(texts, [truths[i] for i in rows])
    return scores


def by_temperature(describer: Describer, cache: FeatureCache, units: EmojiUnits) -> dict[str, float]:
    """The property set score of all `units`, those of validation, by the T of reranking."""
    features = cache.batch(np.arange(len(cache)))
    truths = [units.properties(i) for i in range(len(units))]
    found = {}
    for temperature in TEMPERATURES:
        settings = DecodingSettings(temperature=temperature)
        texts = [description.text for description in describer.describe_features(features, settings)]
        found[f"{temperature:g}"] = property_set_score(texts, truths)
    return found


def unit_scores(describer: Describer, n_scenes: int, seed: int = 0) -> dict[str, float]:
    """Scores of planted neurons and of colour arithmetic, with exemplars over `n_scenes` held-out scenes."""
    source = SceneSource("zoo:emoji-scenes", n_scenes, seed)
    planted = load_planted_units()
    images, masks, truths = _exemplars(planted, planted.concepts, source)
    texts = _texts(describer, images, masks)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 31]))
    drawn = rng.integers(len(source), size=(len(truths), images.shape[1]))
    random = np.stack([np.stack(source.pictures(row.tolist())).transpose(0, 3, 1, 2) for row in drawn])
    colours = _exemplars(ColourUnits(), {"units": COLOUR_UNITS}, source)
    return {
        "planted": planted_score(texts, truths),
        "planted_exact": property_set_score(texts, [(truth,) for truth in truths]),
        "planted_shuffled": shuffled_score(texts, truths, seed),
        "planted_random": planted_score(_texts(describer, random, masks), truths),
        "colour_units": planted_score(_texts(describer, *colours[:2]), colours[2]),
    }


def _exemplars(
    module: object, concepts: Mapping[str, Sequence[str]], source: SceneSource
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    found = compute_exemplars(module, source, list(concepts), name="planted neurons")
    images = np.concatenate([found[layer].images for layer in concepts])
    masks = np.concatenate([found[layer].masks for layer in concepts])
    return images, masks, [word for words in concepts.values() for word in words]


def _texts(describer: Describer, images: np.ndarray, masks: np.ndarray) -> list[str]:
    return [found.text for found in describer.describe(images, masks)]
