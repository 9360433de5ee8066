"""The errors a user can cause, each one sentence: what was wrong, where, and what was expected."""


class ConceptryError(Exception):
    """A condition the user can mend; its message is shown as it is, without a stack trace."""


class InputError(ConceptryError, ValueError):
    """A value handed in by the user is not acceptable; the message names it and lists what is."""


class IntegrityError(ConceptryError):
    """A stored or downloaded file does not have the digest that was recorded for it."""


def truncated_repr(value: object, length: int = 80) -> str:
    """Write a value for the sentence that refuses it: of a long one, such as an image in base64, only the start."""
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]}... ({len(text):,} characters)"


shown = truncated_repr  # its former name


def cell_error(row: int, column: str, error: Exception | str) -> InputError:
    """An error that names the cell it is about; rows count from 0."""
    return InputError(f"row {row}, column {column!r}: {error}")


class ConvergenceWarning(UserWarning):
    """Something was returned before its duality gap reached the tolerance; the result says what."""
