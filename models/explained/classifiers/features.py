"""From what a user hands in to what a network reads: columns to features, texts to tokens, images to pixels."""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import Column

PAD, UNKNOWN, MASK = range(3)
MASK_TOKEN = "[MASK]"
SPECIAL = ("<pad>", "<unk>", MASK_TOKEN)  # the first entries of a vocabulary

# A masked word; what is left of a contraction that was split ('s, 're, 't); words with their apostrophes; any other
# mark alone. Matched within one whitespace-separated piece.
_TOKEN = re.compile(r"\[mask\]|^'\w{1,2}$|\w+(?:['\u2019]\w+)*|[^\w\s]")


def tokenise(text: str) -> list[str]:
    """Lower-cased words and punctuation marks; `[MASK]` stays whole."""
    return [token for piece in text.split() for token in _pieces(piece)]


@functools.lru_cache(maxsize=2**16)
def _pieces(piece: str) -> tuple[str, ...]:
    tokens = _TOKEN.findall(piece.lower())
    return tuple(MASK_TOKEN if token == "[mask]" else token for token in tokens)


def build_vocabulary(texts: Iterable[str], size: int, min_count: int) -> tuple[str, ...]:
    """SPECIAL, then the `size` most frequent tokens of `min_count` occurrences or more; ties by alphabet."""
    counts = Counter(token for text in texts for token in tokenise(text))
    ranked = sorted((-count, token) for token, count in counts.items() if count >= min_count and token not in SPECIAL)
    return (*SPECIAL, *(token for _, token in ranked[:size]))


def token_ids(texts: Sequence[str], index: dict[str, int]) -> list[list[int]]:
    """The rows of the embedding of each text. A text without words reads as one masked word."""
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise InputError("a text model takes a list of texts")
    return [[index.get(token, UNKNOWN) for token in tokenise(text)] or [MASK] for text in texts]


def padded(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """int64 (n, longest) filled up with PAD, and the lengths (n,)."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    ids = np.full((len(rows), int(lengths.max(initial=1))), PAD, dtype=np.int64)
    ids[np.arange(ids.shape[1]) < lengths[:, None]] = [token for row in rows for token in row]
    return ids, lengths


def table_features(frame: pd.DataFrame, columns: Sequence[Column]) -> np.ndarray:
    """float32 (rows, n_features): numeric columns standardised by their training statistics, categories one-hot.

    Columns that the model does not know are left aside. Raises InputError naming row (from 0) and column for a missing
    column, a value that is no finite number, and a category that training did not see.
    """
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"a table model takes a DataFrame, got {type(frame).__name__}")
    if missing := [column.name for column in columns if column.name not in frame.columns]:
        expected = ", ".join(column.name for column in columns)
        raise InputError(f"column {missing[0]!r} is missing; expected the columns {expected}")
    names = list(frame.columns)
    if twice := [column.name for column in columns if names.count(column.name) > 1]:
        raise InputError(f"column {twice[0]!r} is given {names.count(twice[0])} times; expected it once")
    parts = [(_numeric if column.kind == "numeric" else _one_hot)(frame[column.name], column) for column in columns]
    return np.concatenate(parts, axis=1).astype(np.float32)


def table_owner(columns: Sequence[Column]) -> np.ndarray:
    """int64 (n_features,): the position of the column that each feature belongs to."""
    return np.repeat(np.arange(len(columns)), [len(column.categories) or 1 for column in columns])


def _numeric(values: Any, column: Column) -> np.ndarray:
    numbers: Any = pd.to_numeric(values, errors="coerce")
    x = numbers.to_numpy(np.float64, na_value=np.nan)
    if not (finite := np.isfinite(x)).all():
        row = int(np.argmin(finite))
        raise InputError(f"row {row}, column {column.name!r}: expected a finite number, got {values.iloc[row]!r}")
    assert column.mean is not None  # a numeric column has its statistics
    with np.errstate(over="ignore"):
        features = (x - column.mean) / (column.std or 1.0)
    if not (within := np.abs(features) <= np.finfo(np.float32).max).all():
        # Of which row is known to whoever masked one: the rows here are its masked copies.
        value = values.iloc[int(np.argmin(within))]
        raise InputError(f"column {column.name!r}: {float(value):g} is beyond what the network's float32 holds")
    return features[:, None]


def _one_hot(values: Any, column: Column) -> np.ndarray:
    place = {category: i for i, category in enumerate(column.categories)}
    hot = np.zeros((len(values), len(place)))
    for row, value in enumerate(values.tolist()):
        try:
            hot[row, place[value]] = 1
        except (KeyError, TypeError):
            known = ", ".join(map(repr, column.categories))
            raise InputError(
                f"row {row}, column {column.name!r}: unknown category {value!r}; expected one of {known}"
            ) from None
    return hot


def image_features(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 (n, H, W, 3) to float32 (n, *shape) in [0, 1]; shape (1, H, W) takes the mean of the three channels."""
    channels, height, width = shape
    expected = (height, width, 3)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != expected:
        got = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise InputError(f"an image model takes uint8 images of shape (batch, {height}, {width}, 3), got {got}")
    pixels = np.moveaxis(images, -1, 1).astype(np.float32) / 255
    return pixels.mean(axis=1, keepdims=True) if channels == 1 else np.ascontiguousarray(pixels)
