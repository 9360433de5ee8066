"""Scores of descriptions by the properties they name, rather than by their wording.

| symbol | meaning |
|---|---|
| P(text) | properties that a text names: words of the emoji vocabulary, plurals and close synonyms folded |
| property set score | share of units with P(description) equal to the unit's properties |
| planted score | share of units whose description names their true concept |
| shuffled | the planted score with every truth replaced by another unit's (a seeded derangement): a control |

BLEU rewards the right template around a wrong word; these scores do not.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from conceptry.models.errors import InputError
from conceptry.models.zoo.unit_captions import WORD_FORMS

_WORD = re.compile(r"[a-z]+")


def properties(text: str) -> frozenset[str]:
    """The words of the emoji vocabulary that a text names, each in the vocabulary's own form; any case."""
    return frozenset(WORD_FORMS[word] for word in _WORD.findall(text.lower()) if word in WORD_FORMS)


def property_set_score(descriptions: Sequence[str], truths: Sequence[Iterable[str]]) -> float:
    """Share of descriptions that name exactly the true properties. Raises InputError where lengths differ or are 0."""
    _check(descriptions, truths)
    pairs = zip(descriptions, truths, strict=True)
    return sum(properties(text) == frozenset(truth) for text, truth in pairs) / len(truths)


def planted_score(descriptions: Sequence[str], truths: Sequence[str]) -> float:
    """Share of descriptions that name the true concept, whatever else they name. Raises InputError as above."""
    _check(descriptions, truths)
    return sum(truth in properties(text) for text, truth in zip(descriptions, truths, strict=True)) / len(truths)


def shuffled_score(descriptions: Sequence[str], truths: Sequence[str], seed: int = 0, repeats: int = 20) -> float:
    """The planted score with truths that are another unit's, a mean over `repeats` derangements: the chance level."""
    return float(
        np.mean([planted_score(descriptions, derangement(truths, seed + repeat)) for repeat in range(repeats)])
    )


def derangement(truths: Sequence[str], seed: int = 0) -> list[str]:
    """The truths in another order, such that no unit has its own position's (a random cyclic shift of a shuffle).

    Raises InputError for fewer than two.
    """
    if len(truths) < 2:
        raise InputError(f"truths must be at least 2 to be shuffled, got {len(truths)}")
    order = np.random.default_rng(np.random.SeedSequence([seed, 23])).permutation(len(truths))
    shuffled = list(truths)
    for position, source in zip(order, np.roll(order, 1), strict=True):
        shuffled[position] = truths[source]
    return shuffled


def _check(descriptions: Sequence[str], truths: Sequence[object]) -> None:
    if len(descriptions) != len(truths) or not truths:
        raise InputError(
            f"expected as many descriptions as truths, at least 1, got {len(descriptions)} and {len(truths)}"
        )
