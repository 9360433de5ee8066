"""What an explanation of one sample says, whatever engine has found it: its patterns, their graph, the answer.

A record gives rows of effects, row 0 that of the empty set, and knows the players and the kind of each row. Everything
here is made of these.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from conceptry.models.harsanyi.baseline import Sparsified
from conceptry.models.harsanyi.graph import AndOrGraph, build_graph, trust
from conceptry.models.harsanyi.interactions.denoise import Denoised
from conceptry.models.harsanyi.interactions.indices import salient
from conceptry.models.harsanyi.settings import Settings
from conceptry.models.record import Record

SHOWN = 12  # patterns in a notebook


@dataclass(frozen=True)
class AnswerOptions:
    """What an answer holds. top_k: patterns at the most; denoise: the kept ones alone; details: every number besides.

    settings: how denoising works, and how many patterns a graph has at the most.
    """

    top_k: int | None = None
    denoise: bool = True
    details: bool = False
    settings: Settings = field(default_factory=Settings)


class SampleRecord(Record):
    """Base of the records of one sample.

    Attributes:
        players: n names.
        target: the output explained.
        learned: how the baseline was learned, else None.
        calls: masked inputs that the model was asked.
        description: the sample and its players, JSON-ready.
        options: what `answers` gives.
        image: the explained image, uint8 (height, width, 3), else None.
        gap: how far the L1 of an AND-OR split can be from the least one at most, relative to it; else 0.
        engine: "exact", "trees" or "sampled".
        spreads: standard deviation of each row of effects over the rows of a baseline, None where it is not known.
    """

    method = "harsanyi"

    players: tuple[str, ...]
    target: str
    learned: Sparsified | None
    calls: int
    description: dict[str, Any]
    options: AnswerOptions
    image: np.ndarray | None
    gap: float
    engine: str
    spreads: np.ndarray | None

    @property
    @abstractmethod
    def v_empty(self) -> float:
        """The reward with no player."""

    @property
    @abstractmethod
    def v_full(self) -> float:
        """The reward with all players."""

    @cached_property
    @abstractmethod
    def effects(self) -> np.ndarray:
        """Interactions by row, (rows,)."""

    @property
    @abstractmethod
    def residual(self) -> float:
        """The largest |v(S) - sum of the effects that contribute to S| of the subsets asked, over the largest |v|."""

    @cached_property
    @abstractmethod
    def shapley(self) -> np.ndarray:
        """Shapley values (n,), from the interactions."""

    @abstractmethod
    def masks(self, rows: np.ndarray) -> np.ndarray:
        """The players of rows of `effects`, bool (rows, n)."""

    @abstractmethod
    def kinds(self, rows: np.ndarray) -> list[str]:
        """ "and" or "or" for each of the rows."""

    @abstractmethod
    def denoised(self, **options: Any) -> Denoised:
        """The patterns that are kept; see `denoise`."""

    @abstractmethod
    def _details(self) -> dict[str, Any]:
        """What an answer holds besides where all numbers are asked for."""

    @property
    def r2(self) -> float:
        """Share of the variance of v that the effects explain, on subsets that nothing was fitted to."""
        return 1.0

    @property
    def r2_interval(self) -> tuple[float, float]:
        """Where the R2 of all subsets lies, with a confidence of 95 %."""
        return 1.0, 1.0

    @property
    def believable(self) -> bool:
        """Whether `r2_interval` lies at or above min_r2; an answer that is not should not be believed."""
        return True

    @property
    def l1(self) -> float:
        """The sum of all |I|."""
        return float(np.abs(self.effects).sum())

    @property
    def salient(self) -> np.ndarray:
        """Rows of `effects` above 5 % of the largest, the empty set left out."""
        return salient(self.effects)

    def strongest(self, rows: np.ndarray | None = None, top_k: int | None = None) -> np.ndarray:
        """`rows` (default: all) of `effects` by descending strength, without the empty set and without zeros."""
        rows = np.arange(len(self.effects)) if rows is None else rows
        rows = rows[(rows != 0) & (self.effects[rows] != 0)]
        return rows[np.argsort(-np.abs(self.effects[rows]), kind="stable")][:top_k]

    @cached_property
    def kept(self) -> Denoised:
        """The patterns that denoising keeps by the settings of the explanation."""
        return self.denoised(**self.options.settings.denoising())

    @cached_property
    def answer_rows(self) -> np.ndarray:
        """Rows of the patterns in the answer, by descending strength."""
        return self.strongest(self.kept.kept if self.options.denoise else None, self.options.top_k)

    def patterns(self, rows: np.ndarray | None = None) -> list[dict[str, Any]]:
        """{players, effect, kind} of rows of `effects`, by default of those in the answer, and spread where known."""
        rows = self.answer_rows if rows is None else rows
        parts = zip(self.masks(rows), self.effects[rows].tolist(), self.kinds(rows), strict=True)
        spreads = [{}] * len(rows) if self.spreads is None else [{"spread": s} for s in self.spreads[rows].tolist()]
        return [
            {"players": [self.players[k] for k in np.flatnonzero(mask)], "effect": effect, "kind": kind, **spread}
            for (mask, effect, kind), spread in zip(parts, spreads, strict=True)
        ]

    def answers(self) -> list[dict[str, Any]]:
        """The one answer: target, patterns, rewards, ratios, Shapley values and the And-Or graph, JSON-ready."""
        low, high = self.r2_interval
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
            "engine": self.engine,
            "r2": self.r2,
            "r2_low": low,
            "r2_high": high,
            "believable": self.believable,
        }
        return [answer | (self._details() if self.options.details else {})]

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
            note=self.trust,
        )

    @property
    def trust(self) -> str:
        """How far a sampled answer is to be believed, as part of a sentence; "" of an exact one."""
        return trust(self.r2, *self.r2_interval, self.believable) if self.engine == "sampled" else ""

    def __repr__(self) -> str:
        strongest = "; ".join(f"{_joined(p)} {p['effect']:+.3g}" for p in self.patterns(self.strongest(top_k=3)))
        trust = f"{self.trust}; " if self.trust else ""
        return (
            f"{type(self).__name__}({len(self.players)} players, target {self.target!r}, {self.v_empty:.3g} to "
            f"{self.v_full:.3g}, {trust}{len(self.salient)} salient patterns; strongest: {strongest or 'none'})"
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
        facts += f"; {self.trust}" if self.trust else ""
        head = "<thead><tr><th>pattern</th><th>effect</th></tr></thead>"
        return f"<p>{escape(facts)}</p><table>{head}<tbody>{rows}{rest}</tbody></table>"


def _joined(pattern: Mapping[str, Any]) -> str:
    return f" {pattern['kind'].upper()} ".join(pattern["players"])
