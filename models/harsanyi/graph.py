"""The And-Or graph of an explanation: players, the coalitions they share, the patterns, and the root that adds them up.

Ren, Li, Chen, Deng, Zhang, "Defining and Quantifying the Emergence of Sparse Concepts in DNNs", CVPR 2023,
arXiv:2111.06206. The graph states v(S) = v(empty) + the sum of the effects of the patterns that are present in S: an
"and" pattern when all of its players are, an "or" pattern when any of them is.

| node | stands for | edges to |
|---|---|---|
| player | one input, or group of inputs | every coalition that holds it, and patterns that use it directly |
| coalition | two or more players that several "and" patterns have in common | the patterns written with it |
| pattern | one interaction, with its effect I(S) | the root |
| root | the sum of the effects | - |

A coalition is present when *all* of its players are, so only "and" patterns are written with coalitions.

Reading the fields of a record that came as JSON: each by its type, or one sentence that says which is wrong.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.interactions.aggregate import Aggregation, aggregate
from conceptry.models.manifest import replace_atomically
from conceptry.models.record import plots_of

if TYPE_CHECKING:
    import networkx


def _parse(text: str) -> Any:
    """The value of the JSON `text`."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"graph: not JSON ({error}).") from None


def _field(record: Any, key: str, where: str) -> Any:
    if not isinstance(record, Mapping):
        raise InputError(f"graph: {where} is {_shown(record)}; expected a JSON object.")
    if key not in record:
        raise InputError(f"graph: {where} has no {key!r}.")
    return record[key]


def _entries(record: Any, key: str, where: str) -> list:
    value = _field(record, key, where)
    if not isinstance(value, list):
        raise InputError(f"graph: {key} of {where} is {_shown(value)}; expected a list.")
    return value


def _indices(record: Any, key: str, where: str) -> tuple[int, ...]:
    return _integers(_entries(record, key, where), f"{key} of {where}")


def _integers(value: Any, what: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(entry) is int for entry in value):  # True is no index
        raise InputError(f"graph: {what}: got {_shown(value)}; expected a list of integers.")
    return tuple(value)


def _number(record: Any, key: str, where: str) -> float:
    value = _field(record, key, where)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"graph: {key} of {where} is {_shown(value)}; expected a number.")
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"graph: {key} of {where} is too large a number.") from None


def _number_or_null(record: Any, key: str) -> float | None:
    return None if _field(record, key, "the graph") is None else _number(record, key, "the graph")


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"graph: {what}: got {_shown(value)}; expected a text.")
    return value


def _shown(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


KINDS = ("and", "or")
ENDINGS = (".html", ".svg", ".png", ".pdf", ".json")


def trust(r2: float, low: float, high: float, believable: bool) -> str:
    """How far a sampled answer is to be believed, as part of a sentence."""
    said = f"R2 {r2:.3f} ({low:.3f} to {high:.3f}) on held-out subsets"
    return said if believable else f"{said}, too low to be believed"


@dataclass(frozen=True)
class Pattern:
    """One interaction: its players (ascending indices), the coalitions that write some of them, and its effect."""

    players: tuple[int, ...]
    coalitions: tuple[int, ...]
    effect: float
    kind: str = "and"


@dataclass(frozen=True)
class AndOrGraph:
    """An explanation of one output for one sample.

    players: the names of all n players, used or not.
    coalitions: the players (ascending indices, two or more) of each coalition; each is used by a pattern.
    patterns: by descending absolute effect. The empty pattern is not among them: `v_empty` says it.
    v_full, v_empty: the reward of the whole sample and of the baseline, in the units of the reward; None where the
    patterns came without them.
    target: the name of the explained output.
    note: how far the patterns are to be believed, where they were sampled; part of every heading.

    Raises InputError where indices, kinds, names or numbers do not fit together.

    Example:
        >>> graph = AndOrGraph(("not", "good"), (), (Pattern((0, 1), (), -3.0), Pattern((1,), (), 1.0)), -2.0, 0.0, "y")
        >>> graph.total, graph.n_nodes, graph.n_edges
        (-2.0, 5, 5)
        >>> graph.save("graph.html", title="Why not")  # doctest: +SKIP
    """

    players: tuple[str, ...]
    coalitions: tuple[tuple[int, ...], ...]
    patterns: tuple[Pattern, ...]
    v_full: float | None
    v_empty: float | None
    target: str
    note: str = ""

    def __post_init__(self) -> None:
        if len(set(self.players)) < len(self.players):
            raise InputError("graph: the names of the players must be distinct.")
        for place, coalition in enumerate(self.coalitions):
            self._check_players(coalition, f"coalition {place}", least=2)
        seen: set[tuple[tuple[int, ...], str]] = set()
        for place, pattern in enumerate(self.patterns):
            self._check_pattern(pattern, f"pattern {place}")
            if (pattern.players, pattern.kind) in seen:
                raise InputError(f"graph: pattern {place} repeats another one with the same players and kind.")
            seen.add((pattern.players, pattern.kind))
        if {c for pattern in self.patterns for c in pattern.coalitions} != set(range(len(self.coalitions))):
            raise InputError("graph: every coalition must be used by a pattern.")
        if not all(value is None or math.isfinite(value) for value in (self.v_full, self.v_empty)):
            raise InputError(f"graph: v_full and v_empty must be finite, got {self.v_full} and {self.v_empty}.")

    def _check_players(self, players: tuple[int, ...], where: str, least: int = 1) -> None:
        n = len(self.players)
        if len(players) < least or list(players) != sorted({p for p in players if 0 <= p < n}):
            raise InputError(
                f"graph: {where} has players {list(players)}; expected {least} or more ascending indices below {n}."
            )

    def _check_pattern(self, pattern: Pattern, where: str) -> None:
        self._check_players(pattern.players, where)
        if pattern.kind not in KINDS:
            raise InputError(f"graph: {where} is of kind {pattern.kind!r}; expected one of {', '.join(KINDS)}.")
        if not math.isfinite(pattern.effect):
            raise InputError(f"graph: the effect of {where} is {pattern.effect}; expected a finite number.")
        if not all(0 <= c < len(self.coalitions) for c in pattern.coalitions):
            raise InputError(f"graph: {where} names coalitions {list(pattern.coalitions)} that do not exist.")
        written = [p for c in pattern.coalitions for p in self.coalitions[c]]
        if len(set(written)) < len(written) or not set(written) <= set(pattern.players):
            raise InputError(f"graph: the coalitions of {where} must be disjoint and hold players of it alone.")
        if written and pattern.kind != "and":
            raise InputError(f"graph: {where} is an 'or' pattern; only 'and' patterns are written with coalitions.")

    def heading(self, title: str | None = None) -> str:
        """The title of a page or picture (default: what the patterns are behind), with the note."""
        title = f"Patterns behind {self.target}" if title is None else title
        return f"{title} \N{EM DASH} {self.note}" if self.note else title

    def direct(self, pattern: Pattern) -> tuple[int, ...]:
        """The players of `pattern` that are not written by one of its coalitions."""
        written = {p for c in pattern.coalitions for p in self.coalitions[c]}
        return tuple(p for p in pattern.players if p not in written)

    @cached_property
    def used_players(self) -> tuple[int, ...]:
        """The indices of the players that are in a pattern: those that are nodes of the graph."""
        return tuple(sorted({p for pattern in self.patterns for p in pattern.players}))

    @cached_property
    def total(self) -> float:
        """v_empty (0 where it is not known) plus all effects: what the graph says of v_full."""
        return (self.v_empty or 0.0) + math.fsum(pattern.effect for pattern in self.patterns)

    @property
    def n_nodes(self) -> int:
        """Players in use, coalitions, patterns and the root."""
        return len(self.used_players) + len(self.coalitions) + len(self.patterns) + 1

    @property
    def n_edges(self) -> int:
        """Each pattern to the root, each part to its pattern, each player to its coalitions."""
        parts = sum(len(p.coalitions) + len(self.direct(p)) for p in self.patterns)
        return len(self.patterns) + parts + sum(len(coalition) for coalition in self.coalitions)

    def name(self, players: Sequence[int], joint: str = " AND ") -> str:
        """The names of `players` as one text, e.g. "alcohol AND hue"."""
        return joint.join(self.players[p] for p in players)

    def to_json(self) -> str:
        """The graph as one line of JSON; `from_json` gives an equal graph."""
        record = {
            "target": self.target,
            "v_full": self.v_full,
            "v_empty": self.v_empty,
            "players": self.players,
            "coalitions": self.coalitions,
            "patterns": [
                {"players": p.players, "coalitions": p.coalitions, "effect": p.effect, "kind": p.kind}
                for p in self.patterns
            ],
            **({"note": self.note} if self.note else {}),
        }
        return json.dumps(record, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "AndOrGraph":
        """Read what `to_json` wrote. Raises InputError that names what is missing or of the wrong type."""
        record = _parse(text)
        patterns = tuple(
            Pattern(
                _indices(p, "players", where := f"pattern {place}"),
                _indices(p, "coalitions", where),
                _number(p, "effect", where),
                _text(_field(p, "kind", where), f"kind of {where}"),
            )
            for place, p in enumerate(_entries(record, "patterns", "the graph"))
        )
        return cls(
            tuple(_text(name, "players of the graph") for name in _entries(record, "players", "the graph")),
            tuple(_integers(c, "coalitions of the graph") for c in _entries(record, "coalitions", "the graph")),
            tuple(sorted(patterns, key=lambda pattern: -abs(pattern.effect))),
            _number_or_null(record, "v_full"),
            _number_or_null(record, "v_empty"),
            _text(_field(record, "target", "the graph"), "target of the graph"),
            _text(record.get("note", ""), "note of the graph"),
        )

    def save(self, path: str | Path, title: str | None = None, highlight: str | None = None, **style: Any) -> None:
        """Write the graph to a file.

        Args:
            path: ends in .html (a page to explore it in, which needs no network), .svg, .png or .pdf (a picture), or
                .json (`to_json`, as it is: title, highlight and style have no say).
            title: heading of the page or picture; the target by default.
            highlight: "largest", "top 20%" (any whole percentage of the patterns) or "rank-K": what stands out.
            **style: of a picture: colours, max_patterns, rows and figsize, see
                `conceptry.evaluation.harsanyi.graph.figure.draw_graph`.

        Raises:
            InputError: for another ending, and for a highlight or style that does not exist.
            ConceptryError: where only a registered version's own code is there, which cannot draw.
        """
        path = Path(path)
        if path.suffix.lower() not in ENDINGS:
            raise InputError(f"{path.name}: an And-Or graph is written as {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}.")
        if path.suffix.lower() == ".json":
            replace_atomically(path, f"{self.to_json()}\n".encode())
        else:
            plots_of("harsanyi").write_graph(self, path, title, highlight, **style)

    def to_networkx(self) -> "networkx.DiGraph":
        """Edges run from players to the root. Nodes are ("player", i), ("coalition", i), ("pattern", i) and "root".

        Attributes: `kind` (root, pattern, coalition or player), `label`, `effect` (patterns: I(S); root: the sum of
        all; else 0) and, of coalitions and patterns, `operator` ("and" or "or").
        """
        import networkx

        graph = networkx.DiGraph(target=self.target, v_full=self.v_full, v_empty=self.v_empty)
        graph.add_node("root", kind="root", label="+", effect=math.fsum(p.effect for p in self.patterns))
        for player in self.used_players:
            graph.add_node(("player", player), kind="player", label=self.players[player], effect=0.0)
        for place, coalition in enumerate(self.coalitions):
            node = ("coalition", place)
            graph.add_node(node, kind="coalition", label=self.name(coalition), effect=0.0, operator="and")
            graph.add_edges_from((("player", player), node) for player in coalition)
        for place, pattern in enumerate(self.patterns):
            node, label = ("pattern", place), self.name(pattern.players, f" {pattern.kind.upper()} ")
            graph.add_node(node, kind="pattern", label=label, effect=pattern.effect, operator=pattern.kind)
            graph.add_edges_from((("coalition", c), node) for c in pattern.coalitions)
            graph.add_edges_from((("player", player), node) for player in self.direct(pattern))
            graph.add_edge(node, "root")
        return graph


def build_graph(
    players: Sequence[str],
    masks: np.ndarray,
    interactions: np.ndarray,
    kinds: Sequence[str] | None,
    v_full: float | None,
    v_empty: float | None,
    target: str,
    aggregation: Aggregation | None = None,
    note: str = "",
) -> AndOrGraph:
    """The graph of the patterns `masks` (m, n) bool with effects `interactions` (m,) and `kinds` (None: all "and").

    The "and" patterns share coalitions as `aggregation` of all the patterns has them, or else as `aggregate` finds
    them. The empty pattern may be among the masks and is left out. Raises InputError where shapes, names or kinds do
    not fit.
    """
    sets, effects = np.asarray(masks, dtype=bool), np.asarray(interactions, dtype=np.float64)
    kinds = ["and"] * len(sets) if kinds is None else list(kinds)
    if sets.ndim != 2 or sets.shape[1] != len(players) or effects.shape != (len(sets),) or len(kinds) != len(sets):
        raise InputError(
            f"build_graph() got {len(players)} players, masks of shape {sets.shape}, interactions of shape "
            f"{effects.shape} and {len(kinds)} kinds; expected (patterns, players), (patterns,) and one kind a pattern."
        )
    chosen = np.flatnonzero(sets.any(axis=1))
    joint = [k for k in chosen if kinds[k] == "and"]
    if aggregation is None:
        found = aggregate(sets[joint], effects[joint])
    else:
        found = replace(aggregation, patterns=aggregation.patterns[joint])
    coalitions, codes = found.words[len(players) :], found.patterns[:, len(players) :]
    # A coalition that a later one has replaced everywhere is no node.
    used = np.flatnonzero(codes.any(axis=0))
    parts = {k: tuple(np.flatnonzero(codes[row, used]).tolist()) for row, k in enumerate(joint)}
    order = sorted(chosen, key=lambda k: -abs(effects[k]))
    return AndOrGraph(
        tuple(str(name) for name in players),
        tuple(tuple(np.flatnonzero(coalitions[c]).tolist()) for c in used),
        tuple(
            Pattern(tuple(np.flatnonzero(sets[k]).tolist()), parts.get(k, ()), float(effects[k]), kinds[k])
            for k in order
        ),
        None if v_full is None else float(v_full),
        None if v_empty is None else float(v_empty),
        str(target),
        note,
    )
