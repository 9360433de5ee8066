"""The errors a user can cause, each one sentence: what was wrong, where, and what was expected."""

import difflib
import re
from collections.abc import Iterable

_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


class ConceptryError(Exception):
    """A condition the user can mend; its message is shown as it is, without a stack trace."""


class InputError(ConceptryError, ValueError):
    """A value handed in by the user is not acceptable; the message names it and lists what is."""


class IntegrityError(ConceptryError):
    """A stored or downloaded file does not have the digest that was recorded for it."""


def truncated_repr(value: object, length: int = 80) -> str:
    """Write a value for the sentence that refuses it: of a long one, such as an image in base64, only the start."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        text = f"a {type(value).__name__} too long to be written"
    return text if len(text) <= length else f"{text[:length]}... ({len(text):,} characters)"


def closest(name: object, names: Iterable[object], n: int = 3, cutoff: float = 0.4) -> list[str]:
    """List up to `n` of `names` that are spelt like `name`, the nearest first; none where none is near."""
    return difflib.get_close_matches(str(name), [str(known) for known in names], n=n, cutoff=cutoff)


def visible(text: str) -> str:
    """Write text from outside so that it can do nothing but be read: what would act is shown as Python writes it.

    That is what a terminal obeys, such as escape codes, what turns the direction of the text after it, what ends a line
    besides a line feed, and halves of characters. Marks within words and pictures stay, such as joiners.
    """
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def plural(count: int, noun: str) -> str:
    """Write a count with its noun: "1 unit", "1,200 units"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def cell_error(row: int, column: str, error: Exception | str) -> InputError:
    """An error that names the cell it is about; rows count from 0."""
    return InputError(f"row {row}, column {column!r}: {error}")


class VocabularyWarning(UserWarning):
    """Lines of a list of words were dropped, or words of it cannot be told apart."""


class ConvergenceWarning(UserWarning):
    """Something was returned before its duality gap reached the tolerance; the result says what."""
