"""Which parts of speech the words of descriptions are, by the tagger HanTa (the extra `language`).

Wartena, "The Hanover Tagger", Hochschule Hannover, 2023: a hidden Markov model over words and their endings. Its tags
for English (C5) are told apart here by their first letters:

| part | tags | such as |
|---|---|---|
| adjectives | AJ | striped, red backgrounds |
| nouns | NN, NP | dogs, areas |
| verbs | V | riding, are |
| prepositions | PR | on, of |

Its model comes with the package, so that nothing is downloaded; it is a pickle, to be trusted as the package's code is,
and no other file is ever given to it. A colour alone ("Red") is a noun to it.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

from conceptry.models.errors import InputError

PARTS = {"adjectives": ("AJ",), "nouns": ("NN", "NP"), "verbs": ("V",), "prepositions": ("PR",)}
TAGGER_THERE = find_spec("HanTa") is not None
MISSING = "parts of speech need a tagger, which is not installed; pip install 'conceptry[language]', or HanTa alone"


def part_counts(descriptions: Sequence[str]) -> list[dict[str, int]]:
    """Number of words of each part of speech in each description. Raises InputError where there is no tagger."""
    if not TAGGER_THERE:
        raise InputError(MISSING)
    return [_counts(tag(text)) for text in descriptions]


def tag(text: str) -> list[str]:
    """The tag of each word of a text, in lower case: a capital at its start would make it a name."""
    words = text.lower().strip(" .").replace(",", " , ").split()
    return [str(found[-1]) for found in _tagger().tag_sent(words)] if words else []


def _counts(tags: Sequence[str]) -> dict[str, int]:
    return {part: sum(each.startswith(starts) for each in tags) for part, starts in PARTS.items()}


@cache
def _tagger() -> Any:
    from HanTa import HanoverTagger  # type: ignore[import-not-found]  # optional

    return HanoverTagger.HanoverTagger("morphmodel_en.pgz")
