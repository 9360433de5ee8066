"""What an encoder of a closed vocabulary can read of a description.

The tokeniser of such an encoder, as that of zoo:emoji-clip, refuses words that it was never trained on, and texts that
are too long for it. Descriptions are in other words than captions, often in the plural: of "dogs on red backgrounds"
it reads "dog on red background".
"""

from collections.abc import Sequence
from typing import Any

from conceptry.models.errors import InputError
from conceptry.models.milan.vocabulary import tokenize
from conceptry.models.milan.words import singulars


def readable(encoder: Any, texts: Sequence[str]) -> list[str]:
    """Each text that the encoder reads, as it is; of the others, the words that it knows as they are or in the
    singular, the first ones where all of them are too many. An encoder without a tokeniser of its own reads all.
    """
    if not hasattr(encoder, "tokenize"):
        return list(texts)
    known: dict[str, str] = {}  # of a word, what is read: "" for nothing

    def reads(text: str) -> bool:
        try:
            encoder.tokenize([text])
        except InputError:
            return False
        return True

    def reading(word: str) -> str:
        if word not in known:
            known[word] = next((form for form in (word, *singulars(word)) if reads(form)), "")
        return known[word]

    def shortened(text: str) -> str:
        words = list(filter(None, map(reading, tokenize(text))))
        while words and not reads(" ".join(words)):
            words.pop()
        return " ".join(words)

    return [text if reads(text) else shortened(text) for text in texts]
