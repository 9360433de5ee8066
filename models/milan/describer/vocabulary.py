"""Words of descriptions: from text to token ids and back.

| symbol | meaning |
|---|---|
| V | words, the most frequent first |
| V + 4 | tokens: the words, then start, stop, pad, unk |
| L | tokens of a description, 15 in the paper; stop counts, start does not |

Differences from the original, which tokenised with spaCy: a regular expression splits text into words and marks, and
no space is put before 's and n't when text is put together again.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from conceptry.models.errors import InputError, truncated_repr
from conceptry.models.manifest import write_lines
from conceptry.models.milan.settings import LENGTH

SPECIALS = ("<start>", "<stop>", "<pad>", "<unk>")


class SpecialTokens(NamedTuple):
    """The tokens that are no words, numbered after them in the order of SPECIALS."""

    start: int
    stop: int
    pad: int
    unknown: int

    @classmethod
    def of(cls, n_tokens: int) -> "SpecialTokens":
        """Number the special tokens of a vocabulary of `n_tokens`, these four included."""
        return cls(*range(n_tokens - len(SPECIALS), n_tokens))


# "n't" and what follows a word's apostrophe are tokens of their own, as in the words of released models.
_TOKEN = re.compile(r"[^\W_]+?(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m)\b|[^\W_]+|[^\w\s]|_")
_NO_SPACE_BEFORE = re.compile(r" (?=[.,;:](?: |$)|(?:'(?:s|re|ve|ll|d|m)|n't)(?: |$))")
_SENTENCE_START = re.compile(r"(^|\. )([^\W\d_])")


def tokenize(text: str) -> list[str]:
    """Lower-cased words and punctuation marks of `text`; nothing is dropped and no ending is cut off."""
    return _TOKEN.findall(text.lower().replace("\u2019", "'"))


class Vocabulary:
    """The words that a describer can say.

    words: V distinct words, without white space. Tokens are numbered in their order, then come the `special` ones.
    Raises InputError for no words, repeated ones, and ones that are special or hold white space.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        if not self.words:
            raise InputError("a vocabulary needs at least one word")
        for word in self.words:
            if not word or word in SPECIALS or word.split() != [word]:
                raise InputError(
                    f"a word of a vocabulary has no white space and is not special, got {truncated_repr(word)}"
                )
        self._index = {word: number for number, word in enumerate(self.words)}
        if len(self._index) != len(self.words):
            twice = next(word for number, word in enumerate(self.words) if self._index[word] != number)
            raise InputError(f"the words of a vocabulary must be distinct, {truncated_repr(twice)} is there twice")
        self.special = SpecialTokens.of(len(self))

    @classmethod
    def from_captions(cls, captions: Iterable[str], min_count: int = 1, size: int | None = None) -> "Vocabulary":
        """The `size` most frequent words (default: all) with `min_count` occurrences or more; ties by alphabet."""
        counts = Counter(word for caption in captions for word in tokenize(caption))
        ranked = sorted((-count, word) for word, count in counts.items() if count >= min_count)
        return cls([word for _, word in ranked[:size]])

    def __len__(self) -> int:
        """The number of tokens, V + 4."""
        return len(self.words) + len(SPECIALS)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)

    def encode(self, texts: Sequence[str], length: int = LENGTH) -> Tensor:
        """int64 (n, length): the tokens of each text, then stop, then pads; what is longer is cut, without a stop."""
        ids = torch.full((len(texts), length), self.special.pad, dtype=torch.int64)
        for row, text in zip(ids, texts, strict=True):
            tokens = [self._index.get(word, self.special.unknown) for word in tokenize(text)]
            tokens = [*tokens, self.special.stop][:length]
            row[: len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
        return ids

    def word_tokens(self, ids: Sequence[int] | Tensor) -> tuple[int, ...]:
        """The words of one row of tokens, as tokens: those up to the first stop, special ones left out."""
        tokens = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        end = tokens.index(self.special.stop) if self.special.stop in tokens else len(tokens)
        return tuple(token for token in tokens[:end] if token < len(self.words))

    def detokenize(self, ids: Sequence[int] | Tensor) -> str:
        """The text of one row of tokens.

        Cut at the first stop, specials dropped, no space before . , ; : and none around -, sentences capitalised.
        """
        text = _NO_SPACE_BEFORE.sub("", " ".join(self.words[token] for token in self.word_tokens(ids)))
        text = text.replace(" - ", "-")
        return _SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)

    def save(self, path: Path) -> None:
        """Write the words, one a line."""
        write_lines(path, list(self.words))


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary that `save` wrote; raises InputError where the file is missing or is no list of words."""
    try:
        return Vocabulary(path.read_text(encoding="utf-8").split("\n")[:-1])
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected the words of a describer, one a line") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text, byte {error.start} is not") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
