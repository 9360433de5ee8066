"""All interactions of one sample: a record, and what follows from it without asking the model again.

| symbol | meaning | shape |
|---|---|---|
| v | rewards of all subsets of the n players | (2^n,) |
| i_and, i_or | AND and OR interactions; without OR, v(S) is the sum of i_and over the subsets of S | (2^n,) |
| effects | both in one table, the OR rows after the AND rows | (2^n,) or (2 * 2^n,) |
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.baseline import Sparsified
from conceptry.models.harsanyi.interactions.and_or import inverse_or, split
from conceptry.models.harsanyi.interactions.answer import AnswerOptions, SampleRecord
from conceptry.models.harsanyi.interactions.denoise import Denoised, denoise
from conceptry.models.harsanyi.interactions.indices import shapley_values
from conceptry.models.harsanyi.interactions.moebius import inverse_moebius, moebius, row_masks
from conceptry.models.harsanyi.settings import Settings
from conceptry.models.record import Record

MAX_LISTED = 2**16  # patterns of an answer that is not denoised


def residual(v: np.ndarray, effects: np.ndarray) -> float:
    """The largest |v(S) - sum of the effects that contribute to S|, over the largest |v|."""
    recomposed = inverse_moebius(effects[: len(v)])
    if len(effects) > len(v):
        recomposed = recomposed + inverse_or(effects[len(v) :])
    return float(np.abs(recomposed - v).max() / (np.abs(v).max() or 1.0))


@dataclass(frozen=True, eq=False, repr=False)
class Interactions(SampleRecord):
    """All interactions of one sample.

    Attributes:
        players: n names.
        target: the output explained.
        v, i_and: (2^n,) rewards, and AND interactions.
        i_or: (2^n,) OR interactions, or None where v was not split.
        gap: how far the L1 of the split can be from the least one at most, relative to it (0 where v was not split).
        learned: how the baseline was learned, else None.
        calls: masked inputs that the model was asked.
        description: the sample and its players, JSON-ready.
        options: what `answers` gives.
        image: the explained image, uint8 (height, width, 3), else None.
        spreads: (2^n,) standard deviation of each interaction over the rows of a baseline, None for one row.

    Example:
        >>> from conceptry.models.harsanyi import Harsanyi
        >>> record = Harsanyi.of_tensor(lambda x: x[:, 0] * x[:, 1], [2.0, 3.0], [1.0, 1.0])
        >>> record
        Interactions(2 players, target 'target', 1 to 6, 3 salient patterns; strongest: x2 +2; x1 AND x2 +2; x1 +1)
        >>> record.to_dict()["explanations"][0]["shapley"]
        [{'player': 'x1', 'value': 2.0}, {'player': 'x2', 'value': 3.0}]
        >>> record.graph().n_edges
        7
    """

    engine: ClassVar[str] = "exact"  # type: ignore[misc]  # one value for all

    players: tuple[str, ...]
    target: str
    v: np.ndarray
    i_and: np.ndarray
    i_or: np.ndarray | None
    gap: float
    learned: Sparsified | None
    calls: int
    description: dict[str, Any]
    options: AnswerOptions = field(default_factory=AnswerOptions)
    image: np.ndarray | None = None
    spreads: np.ndarray | None = None

    @property
    def v_empty(self) -> float:
        return float(self.v[0])

    @property
    def v_full(self) -> float:
        return float(self.v[-1])

    @cached_property
    def effects(self) -> np.ndarray:
        """Interactions by row: (2^n,), or (2 * 2^n,) with the OR part after the AND part."""
        return self.i_and if self.i_or is None else np.concatenate([self.i_and, self.i_or])

    @property
    def residual(self) -> float:
        """See `residual`."""
        return residual(self.v, self.effects)

    @cached_property
    def shapley(self) -> np.ndarray:
        """Shapley values (n,) of v, from the interactions."""
        return shapley_values(moebius(self.v))

    def denoised(self, **options: Any) -> Denoised:
        """The patterns that are kept; see `denoise`."""
        return denoise(self.v, self.i_and, self.i_or, **options)

    def masks(self, rows: np.ndarray) -> np.ndarray:
        """The players of rows of `effects`, bool (rows, n)."""
        return row_masks(rows, len(self.players))

    def kinds(self, rows: np.ndarray) -> list[str]:
        """ "and" or "or" for each of the rows."""
        return ["and" if row < len(self.v) else "or" for row in rows]

    def _details(self) -> dict[str, Any]:
        return {
            "players": list(self.players),
            "rewards": self.v.tolist(),
            "interactions": self.i_and.tolist(),
            "or_interactions": [] if self.i_or is None else self.i_or.tolist(),
            "terms": "",
            "learning": [] if self.learned is None else np.asarray(self.learned.l1).tolist(),
            "sample": json.dumps(self.description),
        }


@dataclass(frozen=True, eq=False)
class Explanations(Record):
    """Records of several samples, in their order."""

    method = "harsanyi"

    items: tuple[SampleRecord, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[SampleRecord]:
        return iter(self.items)

    def __getitem__(self, row: int) -> SampleRecord:
        return self.items[row]

    def answers(self) -> list[dict[str, Any]]:
        """One answer for each sample; see `SampleRecord.answers`."""
        return [answer for item in self.items for answer in item.answers()]

    def drawable(self) -> list[dict[str, Any]]:
        """One record for each sample, of which a figure draws one: `explanations[0].plot()`."""
        return [record for item in self.items for record in item.drawable()]

    def _repr_html_(self) -> str:
        return "".join(item._repr_html_() for item in self.items)


def record_of(
    v: np.ndarray,
    settings: Settings,
    players: tuple[str, ...],
    target: str,
    learned: Sparsified | None,
    calls: int,
    description: dict[str, Any],
    options: AnswerOptions,
    image: np.ndarray | None = None,
    spreads: np.ndarray | None = None,
) -> Interactions:
    """The record of rewards v (2^n,); spreads are of AND interactions, which an AND-OR split has others of."""
    if settings.subtract_empty:
        v = v - v[0]
    if settings.interactions == "and-or":
        parts = split(v, settings.split_tolerance)
        i_and, i_or, gap, spreads = parts.i_and, parts.i_or, parts.gap / (parts.l1 or 1.0), None
    else:
        i_and, i_or, gap = moebius(v), None, 0.0
    return Interactions(players, target, v, i_and, i_or, gap, learned, calls, description, options, image, spreads)


def check_listed(n: int, patterns: int) -> None:
    """Refuse to list all patterns of many players: each is an object of the answer, 100 bytes and more."""
    if patterns > MAX_LISTED:
        raise InputError(
            f"denoise is false, and {n} players have {patterns:,} patterns; at most {MAX_LISTED:,} are listed, "
            "so ask for the strongest by top_k, or for all numbers by details"
        )
