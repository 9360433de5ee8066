"""All interactions of one sample: a record, and what follows from it without asking the model again.

| symbol | meaning | shape |
|---|---|---|
| v | rewards of all subsets of the n players | (2^n,) |
| i_and, i_or | AND and OR interactions; without OR, v(S) is the sum of i_and over the subsets of S | (2^n,) |
| effects | both in one table, the OR rows after the AND rows | (2^n,) or (2 * 2^n,) |
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.baseline import Sparsified
from conceptry.models.harsanyi.graph import AndOrGraph, build_graph
from conceptry.models.harsanyi.interactions.and_or import inverse_or, split
from conceptry.models.harsanyi.interactions.denoise import Denoised, denoise
from conceptry.models.harsanyi.interactions.indices import salient, shapley_values
from conceptry.models.harsanyi.interactions.moebius import inverse_moebius, moebius, row_masks
from conceptry.models.harsanyi.settings import Settings
from conceptry.models.record import Record

SHOWN = 12  # patterns in a notebook
MAX_LISTED = 2**16  # patterns of an answer that is not denoised


def residual(v: np.ndarray, effects: np.ndarray) -> float:
    """The largest |v(S) - sum of the effects that contribute to S|, over the largest |v|."""
    recomposed = inverse_moebius(effects[: len(v)])
    if len(effects) > len(v):
        recomposed = recomposed + inverse_or(effects[len(v) :])
    return float(np.abs(recomposed - v).max() / (np.abs(v).max() or 1.0))


@dataclass(frozen=True)
class AnswerOptions:
    """What an answer holds. top_k: patterns at the most; denoise: the kept ones alone; details: every number besides.

    settings: how denoising works, and how many patterns a graph has at the most.
    """

    top_k: int | None = None
    denoise: bool = True
    details: bool = False
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, eq=False, repr=False)
class Interactions(Record):
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

    method = "harsanyi"

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
    def l1(self) -> float:
        """The sum of all |I|."""
        return float(np.abs(self.effects).sum())

    @property
    def residual(self) -> float:
        """See `residual`."""
        return residual(self.v, self.effects)

    @property
    def salient(self) -> np.ndarray:
        """Rows of `effects` above 5 % of the largest, the empty set left out."""
        return salient(self.effects)

    @cached_property
    def shapley(self) -> np.ndarray:
        """Shapley values (n,) of v, from the interactions."""
        return shapley_values(moebius(self.v))

    def denoised(self, **options: Any) -> Denoised:
        """The patterns that are kept; see `denoise`."""
        return denoise(self.v, self.i_and, self.i_or, **options)

    def strongest(self, rows: np.ndarray | None = None, top_k: int | None = None) -> np.ndarray:
        """`rows` (default: all) of `effects` by descending strength, without the empty set and without zeros."""
        rows = np.arange(len(self.effects)) if rows is None else rows
        rows = rows[(rows != 0) & (self.effects[rows] != 0)]
        return rows[np.argsort(-np.abs(self.effects[rows]), kind="stable")][:top_k]

    def masks(self, rows: np.ndarray) -> np.ndarray:
        """The players of rows of `effects`, bool (rows, n)."""
        return row_masks(rows, len(self.players))

    def kinds(self, rows: np.ndarray) -> list[str]:
        """ "and" or "or" for each of the rows."""
        return ["and" if row < len(self.v) else "or" for row in rows]

    @cached_property
    def kept(self) -> Denoised:
        """The patterns that denoising keeps by the settings of the explanation."""
        return self.denoised(**self.options.settings.denoising())

    @cached_property
    def answer_rows(self) -> np.ndarray:
        """Rows of the patterns in the answer, by descending strength."""
        return self.strongest(self.kept.kept if self.options.denoise else None, self.options.top_k)

    def patterns(self, rows: np.ndarray | None = None) -> list[dict[str, Any]]:
        """{players, effect, kind} of rows of `effects`, by default of those in the answer."""
        rows = self.answer_rows if rows is None else rows
        parts = zip(self.masks(rows), self.effects[rows].tolist(), self.kinds(rows), strict=True)
        return [
            {"players": [self.players[k] for k in np.flatnonzero(mask)], "effect": effect, "kind": kind}
            for mask, effect, kind in parts
        ]

    def answers(self) -> list[dict[str, Any]]:
        """The one answer: target, patterns, rewards, ratios, Shapley values and the And-Or graph, JSON-ready."""
        answer = {
            "target": self.target,
            "patterns": self.patterns(),
            "v_full": self.v_full,
            "v_empty": self.v_empty,
            "explain_ratio": float(self.kept.explain_ratio),
            "square_error": float(self.kept.square_error),
            "residual": self.residual,
            "gap": self.gap,
            "n_salient": len(self.salient),
            "n_kept": len(self.strongest(self.kept.kept)),
            "l1": self.l1,
            "l1_start": self.learned.initial_l1 if self.learned else self.l1,
            "shapley": [
                {"player": player, "value": value}
                for player, value in zip(self.players, self.shapley.tolist(), strict=True)
            ],
            "graph": self.graph().to_json(),
            "model_calls": self.calls,
        }
        return [answer | (self._details() if self.options.details else {})]

    def _details(self) -> dict[str, Any]:
        return {
            "players": list(self.players),
            "rewards": self.v.tolist(),
            "interactions": self.i_and.tolist(),
            "or_interactions": [] if self.i_or is None else self.i_or.tolist(),
            "learning": [] if self.learned is None else np.asarray(self.learned.l1).tolist(),
            "sample": json.dumps(self.description),
        }

    def drawable(self) -> list[dict[str, Any]]:
        """The answer with the sample and its players, and with the image where one was explained."""
        image = {} if self.image is None else {"picture": Image.fromarray(self.image)}
        return [answer | self.description | image for answer in self.answers()]

    def graph(self, rows: np.ndarray | None = None) -> AndOrGraph:
        """The And-Or graph of the patterns in `rows`, by default of those in the answer.

        Of the latter it has `max_patterns` at the most: a graph of more could not be read.
        """
        rows = self.answer_rows[: self.options.settings.max_patterns] if rows is None else self.strongest(rows)
        return build_graph(
            self.players,
            self.masks(rows),
            self.effects[rows],
            self.kinds(rows),
            v_full=self.v_full,
            v_empty=self.v_empty,
            target=self.target,
        )

    def __repr__(self) -> str:
        strongest = "; ".join(f"{_joined(p)} {p['effect']:+.3g}" for p in self.patterns(self.strongest(top_k=3)))
        return (
            f"Interactions({len(self.players)} players, target {self.target!r}, {self.v_empty:.3g} to "
            f"{self.v_full:.3g}, {len(self.salient)} salient patterns; strongest: {strongest or 'none'})"
        )

    def _repr_html_(self) -> str:
        """Facts in a line, then a row for each of the strongest patterns of the answer."""
        patterns = self.patterns()
        rows = "".join(
            f"<tr><td>{escape(_joined(pattern))}</td><td>{pattern['effect']:+.4g}</td></tr>"
            for pattern in patterns[:SHOWN]
        )
        rest = f"<tr><td>and {len(patterns) - SHOWN} more</td><td></td></tr>" if len(patterns) > SHOWN else ""
        facts = (
            f"{self.target}: {self.v_empty:.4g} at the baseline, {self.v_full:.4g} for the whole sample; "
            f"{len(self.strongest(self.kept.kept))} patterns kept, explain ratio {self.kept.explain_ratio:.3f}"
        )
        head = "<thead><tr><th>pattern</th><th>effect</th></tr></thead>"
        return f"<p>{escape(facts)}</p><table>{head}<tbody>{rows}{rest}</tbody></table>"


@dataclass(frozen=True, eq=False)
class Explanations(Record):
    """Interactions of several samples, in their order."""

    method = "harsanyi"

    items: tuple[Interactions, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Interactions]:
        return iter(self.items)

    def __getitem__(self, row: int) -> Interactions:
        return self.items[row]

    def answers(self) -> list[dict[str, Any]]:
        """One answer for each sample; see `Interactions.answers`."""
        return [answer for item in self.items for answer in item.answers()]

    def drawable(self) -> list[dict[str, Any]]:
        """One record for each sample, of which a figure draws one: `explanations[0].plot()`."""
        return [record for item in self.items for record in item.drawable()]

    def _repr_html_(self) -> str:
        return "".join(item._repr_html_() for item in self.items)


def _joined(pattern: Mapping[str, Any]) -> str:
    return f" {pattern['kind'].upper()} ".join(pattern["players"])


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
) -> Interactions:
    """The record of rewards v (2^n,)."""
    if settings.subtract_empty:
        v = v - v[0]
    if settings.interactions == "and-or":
        parts = split(v, settings.split_tolerance)
        i_and, i_or, gap = parts.i_and, parts.i_or, parts.gap / (parts.l1 or 1.0)
    else:
        i_and, i_or, gap = moebius(v), None, 0.0
    return Interactions(players, target, v, i_and, i_or, gap, learned, calls, description, options, image)


def check_listed(n: int) -> None:
    """Refuse to list all patterns of many players: each is an object of the answer, 100 bytes and more."""
    if 2**n > MAX_LISTED:
        raise InputError(
            f"denoise is false, and {n} players have {2**n - 1:,} patterns; at most {MAX_LISTED:,} are listed, "
            "so ask for the strongest by top_k, or for all numbers by details"
        )
