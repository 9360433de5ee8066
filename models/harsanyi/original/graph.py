"""The And-Or graph by its published names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.graph import AndOrGraph, build_graph
from conceptry.models.harsanyi.interactions.aggregate import Aggregation
from conceptry.models.harsanyi.maskers.base import distinct


class AOG:
    """An And-Or graph; `graph` is the same as this package has it."""

    def __init__(self, graph: AndOrGraph) -> None:
        self.graph = graph

    def visualize(
        self,
        save_path: str | Path,
        renderer: str = "networkx",
        *,
        figsize: tuple[float, float] | None = None,
        highlight_path: str | None = None,
        title: str | None = None,
        n_row_interaction: int | None = None,
        simplify: bool = False,
        reverse_color: bool = False,
    ) -> None:
        """Write the graph to a file.

        Args:
            save_path: .svg, .png or .pdf, .html for a page to explore it in, or .json.
            renderer: "networkx". The picture is this package's own.
            figsize: width and height of a picture in inches; by default as large as its content wants.
            highlight_path: "max", "max-20%" or "rank-K": patterns that stand out.
            title: heading; by default the numbers of nodes and edges.
            n_row_interaction: rows of patterns in a picture; by default as few as fit.
            simplify: no colours for signs, in a picture.
            reverse_color: blue for what raises the output, else orange, in a picture. A page has always blue.

        Raises:
            InputError: for another ending, renderer or highlight_path.
        """
        if renderer != "networkx":
            raise InputError(f"renderer is {renderer!r}; expected networkx")
        highlight = {"max": "largest", "max-20%": "top 20%"}.get(str(highlight_path), highlight_path)
        if title is None:
            title = f"AOG | # edges: {self.graph.n_edges} | # nodes: {self.graph.n_nodes}"
        style: dict[str, Any] = {}
        if Path(save_path).suffix.lower() in (".svg", ".png", ".pdf"):
            colours = "simple" if simplify else "signs" if reverse_color else "reversed"
            rows = {} if n_row_interaction is None else {"rows": n_row_interaction}
            style = {"colours": colours, "figsize": figsize} | rows
        self.graph.save(save_path, title, highlight, **style)


def construct_AOG(  # noqa: N802  # the published name
    attributes: Sequence[str],
    single_features: Any,
    concepts: Any,
    interactions: Any,
    attribute_suffixs: Sequence[str] | None = None,
) -> AOG:
    """Make the graph of patterns that are written with players and coalitions.

    Args:
        attributes: n names of players; repeated ones are numbered.
        single_features: bool (n + k, n), the players of each word: the players themselves, then the coalitions.
        concepts: bool (m, n + k), the words of each pattern.
        interactions: (m,) effects.
        attribute_suffixs: text behind each name, such as an arrow for more or less than the baseline.

    Raises:
        InputError: where shapes do not fit, and where words of a pattern share a player.
    """
    words, codes = (np.asarray(torch.as_tensor(table).cpu(), bool) for table in (single_features, concepts))
    effects = np.asarray(torch.as_tensor(interactions).detach().cpu(), np.float64)
    n = len(attributes)
    if words.ndim != 2 or words.shape[1] != n or not np.array_equal(words[:n], np.eye(n, dtype=bool)):
        raise InputError(
            f"single_features must be bool (players + coalitions, {n}) and begin with the players themselves, got "
            f"shape {words.shape}"
        )
    if codes.ndim != 2 or codes.shape[1] != len(words) or effects.shape != (len(codes),):
        raise InputError(
            f"concepts must have shape (patterns, {len(words)}) and interactions (patterns,), got {codes.shape} and "
            f"{effects.shape}"
        )
    suffixes = attribute_suffixs or [""] * n
    names = distinct(f"{name}{suffix}" for name, suffix in zip(attributes, suffixes, strict=True))
    sets = codes.astype(np.int64) @ words.astype(np.int64)
    if sets.max(initial=0) > 1:
        raise InputError(f"concept {int(np.argmax(sets.max(axis=1) > 1))} writes a player twice")
    aggregation = Aggregation(words, codes, np.zeros(1))
    return AOG(build_graph(names, sets > 0, effects, None, None, None, "the output", aggregation))
