"""Players of a text: its words, or groups of them. An absent word is replaced by a token, or left out.

| symbol | meaning | shape |
|---|---|---|
| words | pieces of the text in order: of `split_words`, or of any tokenizer | (words,) |
| gaps | white space before each word, and after the last | (words + 1,) |
| owner | player of each word, BACKGROUND for those always present | (words,) |
"""

import itertools
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.maskers.base import check_players, distinct, owners, partition, presence

_APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}"
_NO_SPACE_BEFORE = frozenset(
    ".,;:!?%)]}…»”\N{RIGHT SINGLE QUOTATION MARK}\N{IDEOGRAPHIC COMMA}\N{IDEOGRAPHIC FULL STOP}"
)
_NO_SPACE_AFTER = frozenset("([{«“¿¡#$€£\N{LEFT SINGLE QUOTATION MARK}")
_LONGEST_NAME = 40


class TextMasker:
    """A text where any subset of words, or of groups of words, can be absent.

    Args:
        words: pieces of the text in order.
        baseline: what stands for an absent word, such as "[MASK]", set off by spaces; None leaves it out.
        groups: indices of the words of each player; the other words are a player each. See `group_words`.
        background: indices of words that are present in every subset.
        text: where the words are from; white space is kept as it is there. Else words are joined as one would write
            them, without a space before a comma.
        join: how words make a text, for tokens that carry their spaces; instead of `text`.

    Attributes:
        players: the words of each player, shortened; repeated ones are numbered: "good", "good (2)".
        owner: (words,) int64, the player of each word, BACKGROUND for none.

    Raises InputError where there are no words, a word is empty or not found in the text, or a word is in two groups.
    """

    def __init__(
        self,
        words: Sequence[str],
        baseline: str | None,
        groups: Sequence[Sequence[int]] | None = None,
        background: Sequence[int] = (),
        *,
        text: str | None = None,
        join: Callable[[list[str]], str] | None = None,
    ):
        if not words:
            raise InputError("there are no words; expected a text that is not blank")
        if not all(words):
            raise InputError(f"word {list(words).index('')} is empty; expected at least one character")
        if text is not None and join is not None:
            raise InputError("text and join both say how words are joined; expected one of them")
        self._words, self._token, self._join = list(words), baseline, join
        self._gaps = _natural_gaps(self._words) if text is None else _gaps_in(text, self._words)
        members = partition(self._words, groups, background)
        self.players = check_players(distinct(self._name(items) for items in members))
        self.owner = owners(members, len(self._words))

    def masked(self, masks: np.ndarray) -> list[str]:
        """One text for each row of `masks` (batch, n) bool. With all players present it is the text that was given."""
        write = self._left_out if self._token is None else self._replaced
        return [write(present) for present in presence(masks, self.owner).tolist()]

    def _name(self, items: Sequence[int]) -> str:
        mine = set(items)
        name = self._left_out([k in mine for k in range(len(self._words))]).strip()
        return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"

    def _left_out(self, present: list[bool]) -> str:
        if self._join:
            return self._join([word for word, here in zip(self._words, present, strict=True) if here])
        kept = [k for k, here in enumerate(present) if here]
        if not kept:
            return ""
        pieces = [self._gaps[0], self._words[kept[0]]]
        for last, k in itertools.pairwise(kept):
            pieces += (self._gap_between(last, k), self._words[k])
        return "".join((*pieces, self._gaps[-1]))

    def _gap_between(self, last: int, k: int) -> str:
        """White space before word k where all words since `last` are left out."""
        if self._gaps[k] or last == k - 1:
            return self._gaps[k]
        before, after = self._words[last][-1], self._words[k][0]
        if before in _NO_SPACE_AFTER or after in _NO_SPACE_BEFORE:
            return ""
        # Where "-" is left out of "well-made", the neighbours must not grow together.
        between = "".join(self._gaps[last + 1 : k])
        return between[:1] or (" " if before.isalnum() and after.isalnum() else "")

    def _replaced(self, present: list[bool]) -> str:
        token = str(self._token)
        words = [word if here else token for word, here in zip(self._words, present, strict=True)]
        if self._join:
            return self._join(words)
        pieces: list[str] = []
        before = True
        for gap, word, here in zip(self._gaps, words, present, strict=False):
            pieces += (gap or ("" if not pieces or (here and before) else " "), word)
            before = here
        return "".join((*pieces, self._gaps[-1]))


def split_words(text: str) -> list[str]:
    """Words and punctuation marks of a text in order, in their case, without white space.

    Words keep an apostrophe within ("it's"), numbers a point or comma ("3.5"); equal marks in a row are one ("...").
    """
    pieces: list[str] = []
    kinds = [*_kinds(text), "space"]
    for k, character in enumerate(text):
        if kinds[k] == "space":
            continue
        before, after = kinds[k - 1] if k else "space", kinds[k + 1]
        inside = before == after == "word" and (
            character in _APOSTROPHES or (character in ".," and text[k - 1].isdigit() and text[k + 1].isdigit())
        )
        if inside:
            kinds[k] = "word"
        continues = before == kinds[k] and (kinds[k] == "word" or _continues(character) or character == text[k - 1])
        if continues:
            pieces[-1] += character
        else:
            pieces.append(character)
    return pieces


def group_words(words: Sequence[str], n: int) -> list[list[int]]:
    """The indices of the words in n groups of consecutive words, nearly equal in number: `groups` of a TextMasker.

    Raises InputError unless 1 <= n <= number of words.
    """
    if not 1 <= n <= len(words):
        raise InputError(f"{len(words)} words cannot make {n} groups; expected 1 to {len(words)}")
    return [group.tolist() for group in np.array_split(np.arange(len(words)), n)]


def _kinds(text: str) -> list[str]:
    """Of each character "space", "mark" or "word"; accents and joiners are what they follow."""
    kinds: list[str] = []
    for character in text:
        if character.isspace():
            kinds.append("space")
        elif _continues(character) and kinds and kinds[-1] != "space":
            kinds.append(kinds[-1])
        else:
            mark = unicodedata.category(character)[0] in "PS" and character != "_"
            kinds.append("mark" if mark else "word")
    return kinds


def _continues(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "M" or category == "Cf"


def _natural_gaps(words: Sequence[str]) -> list[str]:
    """A space before each word but the first, and but where writing has none: before a comma, after a parenthesis."""
    tight = [k == 0 or w[0] in _NO_SPACE_BEFORE or words[k - 1][-1] in _NO_SPACE_AFTER for k, w in enumerate(words)]
    return [*("" if t else " " for t in tight), ""]


def _gaps_in(text: str, words: Sequence[str]) -> list[str]:
    """What stands between the words in the text. Raises InputError unless the words and white space are all of it."""
    gaps: list[str] = []
    place = 0
    for k, word in enumerate(words):
        start = text.find(word, place)
        if start < 0 or text[place:start].strip():
            raise InputError(f"word {k} ({word!r}) does not follow in the text; expected its pieces in order")
        gaps.append(text[place:start])
        place = start + len(word)
    if text[place:].strip():
        raise InputError(f"the text goes on after the last word, with {text[place:].strip()[:20]!r}")
    return [*gaps, text[place:]]
