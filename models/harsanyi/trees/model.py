"""What a reader makes of an estimator: its trees, how its columns become their features, and its own outputs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.trees.ensemble import Ensemble

PROBABILITY, MARGIN, VALUE = OUTPUTS = ("probability", "margin", "value")
EXACT, SINGLE = 1e-9, 1e-5  # by how much readings may differ from outputs in double and in single precision


@dataclass(frozen=True, eq=False)
class TreeModel:
    """An estimator with an output that is linear in the leaves of its trees.

    Attributes:
        kind: name of the estimator's class, for sentences.
        columns: names of the columns that the estimator takes.
        named: whether these names are the estimator's own; columns of others go by position.
        classes: of a classifier.
        output: "probability", "margin" (the raw score: log-odds, or whatever the link takes) or "value".
        n_outputs: 1, or the number of classes; a margin of two classes is one output, of the second class.
        tolerance: of `predict` from the reading, as a share of the numbers that are added up.
        trees: reads the trees of an output.
        given: a table of the columns in the form that the estimator takes.
        encode: features of the trees, float64 (rows, features), of samples in that form.
        feature_owners: owner of each feature, from the owner (a number) of each column. Raises InputError where a
            feature is made of columns of two owners.
        predict: the estimator's own output, (rows, n_outputs), of samples in that form.
        written: how the estimator writes the name that a column had in training.
    """

    kind: str
    columns: tuple[str, ...]
    named: bool
    classes: tuple[Any, ...] | None
    output: str
    n_outputs: int
    tolerance: float
    trees: Callable[[int], Ensemble]
    given: Callable[[pd.DataFrame], Any]
    encode: Callable[[Any], np.ndarray]
    feature_owners: Callable[[np.ndarray], np.ndarray]
    predict: Callable[[Any], np.ndarray]
    written: Callable[[str], str] = str
    _read: dict[tuple[int, float], Ensemble] = field(default_factory=dict, repr=False)

    @property
    def in_double(self) -> bool:
        """Whether the library computes in double precision."""
        return self.tolerance <= EXACT

    def ensemble(self, k: int, factor: float = 1.0) -> Ensemble:
        """The trees of output k times a factor, read and multiplied once."""
        if (k, factor) not in self._read:
            self._read[k, factor] = self.trees(k) if factor == 1.0 else self.ensemble(k).scaled(factor)
        return self._read[k, factor]


def the_output(kind: str, asked: str | None, exact: str) -> str:
    """The output that is explained. Raises InputError where another one is asked for than the exact one."""
    if asked is None or asked == exact:
        return exact
    if asked not in OUTPUTS:
        raise InputError(f"output is {asked!r}; expected one of {', '.join(OUTPUTS)}")
    raise InputError(
        f"the {asked} of {kind} is not a sum over its trees, so it has no exact interactions from them; "
        f"explain its {exact}, or use the sampled engine"
    )


def not_fitted(kind: str) -> InputError:
    """The refusal of an estimator that has no trees yet."""
    return InputError(f"{kind} is not fitted; fit it first")


def dense(x: Any) -> np.ndarray:
    """Samples as an array, sparse or not."""
    return x.toarray() if hasattr(x, "toarray") else np.asarray(x)


def outputs_of(values: Any) -> np.ndarray:
    """Outputs (rows,) or (rows, k) as float64 (rows, k)."""
    values = np.asarray(values, np.float64)
    return values.reshape(len(values), -1)
