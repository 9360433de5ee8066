"""Vocabularies: the words an embedding is decomposed into, from the least to the most important.

| name | words | from |
|---|---|---|
| `emoji` | objects, colours and patterns of the emoji world | ships with conceptry |
| `photos` | 5,000 names of things in WordNet, for photographs | ships with conceptry |
| `laion` | 37,445 most frequent words of LAION-400M captions | AI4LIFE-GROUP/SpLiCE |
| `laion_bigrams` | 10,000 words and 5,000 bigrams of the same | AI4LIFE-GROUP/SpLiCE |
| `mscoco` | 12,832 words of MSCOCO captions | AI4LIFE-GROUP/SpLiCE |

Published lists are fetched from their repository when they are named, checked against a pinned SHA-256, and cached.
"""

from collections.abc import Sequence
from numbers import Integral
from pathlib import Path

from conceptry.models.downloads import RemoteFile, fetch
from conceptry.models.errors import InputError
from conceptry.models.errors import VocabularyWarning as VocabularyWarning  # users import it from here
from conceptry.models.manifest import read_entries

_REPOSITORY = "https://raw.githubusercontent.com/AI4LIFE-GROUP/SpLiCE/main/data/vocab"
PUBLISHED = {
    "laion": RemoteFile(f"{_REPOSITORY}/laion.txt", "aee8e260477dcfbc873f939955ffd472969859054ed46e245bbe8b37d10b508c"),
    "laion_bigrams": RemoteFile(
        f"{_REPOSITORY}/laion_bigrams.txt", "6561525228843aa8b0d2b27e731c8c2b18dac0e4bdda40761933b0aecda1e67a"
    ),
    "mscoco": RemoteFile(
        f"{_REPOSITORY}/mscoco.txt", "ddd84fc591b2e49c1513cc3dcc199153df276a44686712e21a6efb7711e2d43b"
    ),
}
SHIPPED = {"emoji": "emoji-clip", "photos": "photos"}  # the encoder that each comes with
NAMES = (*SHIPPED, *PUBLISHED)


def load_vocabulary(
    vocabulary: str | Path | Sequence[str], size: int | None = None, *, download_root: str | Path | None = None
) -> list[str]:
    """The words of a vocabulary, from the least to the most important.

    Args:
        vocabulary: a name (see the table above), a UTF-8 text file with one entry a line, or the words themselves.
            Blank and repeated lines of a file are dropped with one VocabularyWarning that counts them and names the
            first.
        size: keeps the *last* `size` words, the most important ones; None keeps all.
        download_root: the folder for published lists, instead of the user's cache.

    Raises:
        InputError: for an unknown name, a file without words, blank or repeated words of a list, and a size outside 1
            to the number of words.

    Example:
        >>> load_vocabulary("emoji", 3)
        ['dotted', 'plain', 'striped']
    """
    if not isinstance(vocabulary, (str, Path)):
        return last_words(_checked_words(list(vocabulary)), size, "a list of words")
    path = _locate(str(vocabulary), download_root)
    return last_words(read_entries(path), size, path.name)


def last_words(words: list[str], size: int | None, name: str) -> list[str]:
    """The last `size` words, all of them for None. Raises InputError for a size that `name` does not have."""
    if size is None:
        return words
    if isinstance(size, bool) or not isinstance(size, Integral) or not 1 <= size <= len(words):
        raise InputError(f"vocabulary_size must be from 1 to {len(words):,} for {name}, got {size}")
    return words[-int(size) :]


def _checked_words(words: list[str]) -> list[str]:
    seen: set[str] = set()
    for position, word in enumerate(words):
        if not isinstance(word, str) or not word.strip():
            raise InputError(f"word {position} of the vocabulary is {word!r}; expected a text that is not blank")
        if word in seen:
            raise InputError(f"word {position} of the vocabulary, {word!r}, is there already; remove the repetition")
        seen.add(word)
    return words


def _locate(name: str, download_root: str | Path | None) -> Path:
    if name in SHIPPED:
        from conceptry.models.shipped import weights_directory

        return weights_directory(SHIPPED[name]) / "vocabulary.txt"
    if name in PUBLISHED:
        return fetch(PUBLISHED[name], download_root)
    path = Path(name)
    if not path.is_file():
        raise InputError(f"vocabulary {name!r} is neither a file nor one of {', '.join(NAMES)}")
    return path
