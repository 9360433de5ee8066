"""Which words a description holds: the rule by which units are searched for, audited, ablated and edited.

A word is found as a whole, never as a part of another ("red" is not in "striped"), upper and lower case alike, in the
singular or the plural, whichever of the two is asked for. A phrase ("traffic light") is found where its words follow
one another. Hyphens part words, so "t-shirt" is the phrase "t shirt"; a possessive 's is no part of a word.

| two words are the same where | examples |
|---|---|
| they are equal | red |
| one is the other with s, or with es after s, x, z, ch, sh or o | dogs, buses, shoes, tomatoes |
| one ends in a consonant and y, the other in ies for that y | berries |
| one ends in f or fe, the other in ves for it | leaves, knives |
| one ends in man, the other in men for it | snowmen |
| they are in a list of English plurals that follow no rule | mice, people |

Words of one or two letters are the same only where they are equal: "as" is no plural of "a". The rule knows spelling
alone: no synonyms, no verbs, no negation ("not red" holds red).
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from conceptry.models.errors import InputError

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_IRREGULAR = {
    "man": "men", "woman": "women", "child": "children", "person": "people", "foot": "feet", "tooth": "teeth",
    "goose": "geese", "mouse": "mice", "ox": "oxen", "die": "dice", "cactus": "cacti", "fungus": "fungi",
}  # fmt: skip

_FUNCTION_WORDS = """
a an and are as at behind both by for from in into is it its near no not of off on or other over that the their there
these this to under up very which with without
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


def matches(description: str, words: Iterable[str]) -> bool:
    """Whether `description` holds any of `words` (words or phrases; none of them: False)."""
    return bool(matching_words(description, words))


def matching_words(description: str, words: Iterable[str]) -> tuple[str, ...]:
    """Find which of `words` `description` holds, in their order.

    Raises InputError for a word without a letter or digit, and for one text instead of several words.
    """
    if isinstance(words, str):
        raise InputError(f"words must be several texts, got the one text {words!r}; split it at its commas first")
    text = _tokens(description)
    return tuple(word for word in words if _starts(text, _phrase(word)))


def split_matches(description: str, words: Iterable[str]) -> list[tuple[str, bool]]:
    """`description` in pieces, each with whether it is of one of `words`; together they are the description."""
    tokens, phrases = _tokens(description), [_phrase(word) for word in words]
    held = {k + j for phrase in phrases for k in _starts(tokens, phrase) for j in range(len(phrase))}
    pieces: list[tuple[str, bool]] = []
    last = 0
    for k, match in enumerate(_WORD.finditer(description)):
        if k in held:
            pieces += [(description[last : match.start()], False), (match[0], True)]
            last = match.end()
    return [piece for piece in [*pieces, (description[last:], False)] if piece[0]]


def split_words(text: str) -> tuple[str, ...]:
    """The words or phrases of a text, separated by commas or new lines; each once, in their order.

    Raises InputError where there is none, or where one has no letter or digit.
    """
    words = [" ".join(part.split()) for part in re.split(r"[,\n]", text)]
    distinct: dict[tuple[str, ...], str] = {}
    for word in filter(None, words):
        distinct.setdefault(_phrase(word), word)
    if not distinct:
        raise InputError(f"expected words separated by commas such as red,blue, got {text!r}")
    return tuple(distinct.values())


def read_words(path: str | Path) -> tuple[str, ...]:
    """The words or phrases of a text file, one a line or separated by commas. Raises InputError as `split_words`."""
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a text file of words ({error})") from None
    try:
        return split_words(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(re.sub(r"['\u2019]s$", "", token) for token in _WORD.findall(text.casefold()))


@cache
def _phrase(word: str) -> tuple[str, ...]:
    if not (tokens := _tokens(word)):
        raise InputError(f"expected a word with a letter or digit, got {word!r}")
    return tokens


def _starts(text: tuple[str, ...], phrase: tuple[str, ...]) -> list[int]:
    """Where in `text` the words of `phrase` follow one another."""
    places = range(len(text) - len(phrase) + 1)
    return [k for k in places if all(_same(a, b) for a, b in zip(text[k:], phrase, strict=False))]


@cache
def _same(one: str, other: str) -> bool:
    return one == other or other in _plurals(one) or one in _plurals(other)


@cache
def _plurals(word: str) -> frozenset[str]:
    """What may be the plural of `word` by the rules above; more than one where spelling alone does not decide."""
    if word in _IRREGULAR:
        return frozenset({_IRREGULAR[word]})
    if len(word) < 3:
        return frozenset()
    if re.search(r"[^aeiou]y$", word):
        return frozenset({f"{word[:-1]}ies"})
    forms = {f"{word}s"}
    if re.search(r"(s|x|z|ch|sh|o)$", word):
        forms.add(f"{word}es")
    if re.search(r"[^f]fe?$", word):
        forms.add(re.sub(r"fe?$", "ves", word))
    if word.endswith("man"):
        forms.add(f"{word[:-3]}men")
    return frozenset(forms)


def word_counts(descriptions: Iterable[str], left_out: Iterable[str] = FUNCTION_WORDS) -> dict[str, int]:
    """How many descriptions hold each word, the most frequent first, then by the alphabet.

    Singular and plural count as one, under the singular where that occurs in any description. `left_out`: words
    that are not counted, by default articles, prepositions and the like.
    """
    held = [frozenset(_tokens(text)) for text in descriptions]
    vocabulary = frozenset().union(*held)
    dropped = frozenset(left_out)
    totals: Counter[str] = Counter()
    for tokens in held:
        totals.update({_singular(token, vocabulary) for token in tokens} - dropped)
    return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))


def singulars(word: str) -> list[str]:
    """What `word`, in lower case, may be the plural of, by the rules above."""
    endings = (("s", ""), ("es", ""), ("ies", "y"), ("ves", "f"), ("ves", "fe"), ("men", "man"))
    stems = [word.removesuffix(end) + other for end, other in endings if word.endswith(end)]
    stems += [one for one, many in _IRREGULAR.items() if many == word]
    return [stem for stem in stems if word in _plurals(stem)]


def _singular(word: str, vocabulary: frozenset[str]) -> str:
    """The word of `vocabulary` that `word` is the plural of, else `word`."""
    return next((stem for stem in singulars(word) if stem in vocabulary), word)
