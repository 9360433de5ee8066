"""What the functions over tables of subsets take as arguments: arrays, tensors or lists of real numbers, and options.

Each function raises InputError that names the argument, says what it must be, and what it was.
"""

import math
from typing import Any

import numpy as np
import torch

from conceptry.models.errors import InputError


def array_of(name: str, values: Any) -> np.ndarray:
    """`values` as an array, of whatever type, which may share their memory; a tensor without its gradient."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.double() if values.is_floating_point() else values).numpy()  # NumPy has no bfloat16
    try:
        return np.asarray(values)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be an array, got a {type(values).__name__} that makes none") from None


def real_array(name: str, values: Any) -> np.ndarray:
    """`values` as float64, which may share their memory."""
    array = array_of(name, values)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} must hold real numbers, got dtype {array.dtype}")
    return array.astype(np.float64, copy=False)


def whole_number(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Check that `value` is an integer of at least `least`, and at most `most` where that is given."""
    fits = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not fits or value < least or (most is not None and value > most):
        wanted = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} must be a whole number {wanted}, got {value!r}")


def finite_number(name: str, value: Any, above: float = -math.inf) -> None:
    """Check that `value` is a finite real number, and above `above`."""
    fits = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not fits or not math.isfinite(value) or value <= above:
        wanted = "" if above == -math.inf else f" above {above:g}"
        raise InputError(f"{name} must be a finite number{wanted}, got {value!r}")
