"""Entry points under the names and arguments of the published code, for scripts that were written for it.

Ren, Li, Chen, Deng, Zhang, "Defining and Quantifying the Emergence of Sparse Concepts in DNNs", CVPR 2023,
arXiv:2111.06206; https://github.com/sjtu-xai-lab/aog. Each is a thin form of what this package has:

| here | is |
|---|---|
| AndHarsanyi | `Harsanyi.of_tensor` |
| AndBaselineSparsifier | `sparsify` with steps along the gradient |
| remove_noisy_greedy | `denoise` |
| aggregate_pattern_iterative | `aggregate` by its published rule |
| construct_AOG, AOG.visualize | `build_graph`, `AndOrGraph.save` |

`selected_dim` says what v(S) is, with "-v0" behind it minus v(empty):

| selected_dim | reward |
|---|---|
| None | the output itself, one number for each input |
| 0, gt, max | output 0, output y, the largest output of the sample |
| gt-log-odds, max-log-odds | log-odds of a class from logits; with "_t=T" of logits over T |
| gt-logistic-odds, logistic-odds | a single logit, negated for class 0 |
| gt-prob-log-odds, prob-log-odds | log-odds from a single probability, of 1 minus it for class 0 |

"gt" is class y, and without it the class that the model predicts.

Differences: float64; log-odds of logits are exact, so they do not end near +-16.1; the sparsifier returns the best
iterate, not the last; players of one name are numbered.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.baseline import sparsify
from conceptry.models.harsanyi.game import Reward, TensorFunction
from conceptry.models.harsanyi.graph import AndOrGraph, build_graph
from conceptry.models.harsanyi.interactions.aggregate import Aggregation, aggregate
from conceptry.models.harsanyi.interactions.denoise import denoise
from conceptry.models.harsanyi.interactions.moebius import moebius, n_players, subset_masks
from conceptry.models.harsanyi.maskers.base import BACKGROUND, distinct
from conceptry.models.harsanyi.model import Harsanyi

_REWARDS = {
    "0": ("output", "values", "0"),
    "gt": ("output", "values", "y"),
    "max": ("output", "values", "max"),
    "gt-log-odds": ("log_odds", "logits", "y"),
    "max-log-odds": ("log_odds", "logits", "max"),
    "gt-logistic-odds": ("logit", "logits", "y"),
    "logistic-odds": ("logit", "logits", "max"),
    "gt-prob-log-odds": ("log_odds_eps", "probabilities", "y"),
    "prob-log-odds": ("log_odds_eps", "probabilities", "max"),
}
_GUARD = 1e-7  # of the published denominators


class AndHarsanyi:
    """AND interactions of one sample of a function over tensors.

    Args:
        model: from (batch, *features) to (batch, outputs), or (batch,).
        selected_dim: what v(S) is, see the table above.
        x: (1, *features), the sample.
        baseline: (1, *features), what takes the place of absent features.
        y: the class that "gt" means.
        all_players: the players, each an item or a list of items that `mask_input_fn` knows. Without it, each entry
            along the second axis of x is a player.
        background: items that are present in every subset.
        mask_input_fn: from x, baseline and a list of lists of items to masked samples (batch, *features).
        calc_bs: masked samples of one call of the model; all at once by default.
        verbose: 1 says on standard error how far it is.

    Raises:
        InputError: for an unknown selected_dim, and for shapes and players that do not fit.

    Example:
        >>> x = torch.tensor([[2.0, 3.0]])
        >>> calculator = AndHarsanyi(lambda x: x.prod(dim=1), None, x, torch.ones(1, 2), y=None, verbose=0)
        >>> calculator.attribute()
        >>> calculator.get_interaction()
        tensor([1., 2., 1., 2.], dtype=torch.float64)
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        selected_dim: str | None,
        x: Tensor,
        baseline: Tensor,
        y: Tensor | int | None,
        all_players: Sequence[Any] | None = None,
        background: Sequence[Any] | None = None,
        mask_input_fn: Callable[[Tensor, Tensor, list[list[Any]]], Tensor] | None = None,
        calc_bs: int | None = None,
        verbose: int = 1,
    ) -> None:
        if x.shape != baseline.shape or x.ndim < 2 or len(x) != 1:
            raise InputError(
                f"x and baseline must have one shape (1, *features), got {tuple(x.shape)} and {tuple(baseline.shape)}"
            )
        if (all_players is None) != (mask_input_fn is None) or (all_players is None and background):
            raise InputError("all_players and mask_input_fn come together, and background needs both")
        self.model, self.selected_dim, self.target = model, selected_dim, y
        self.input, self.baseline = x, baseline
        self.all_players, self.background, self.mask_input_fn = all_players, list(background or []), mask_input_fn
        self.calc_bs, self.verbose = calc_bs, verbose
        self._kind, self._form, self._which, self._temperature, self._subtract_empty = _parsed(selected_dim, y)

    @property
    def n_players(self) -> int:
        return self.input.shape[1] if self.all_players is None else len(self.all_players)

    def attribute(self) -> None:
        """Ask the model about all subsets of the players."""
        self.record = Harsanyi.of_tensor(
            self.model,
            self.input[0],
            self.baseline[0],
            self._index(),
            segments=None if self.mask_input_fn else _each_entry(self.input[0]),
            reward=self._kind,
            outputs=self._form,
            masker=_OwnMasker(self) if self.mask_input_fn else None,
            temperature=self._temperature,
            subtract_empty=self._subtract_empty,
            batch_size=self.calc_bs or 2**self.n_players,
            progress=_said if self.verbose == 1 else None,
        )
        self.masks = torch.from_numpy(subset_masks(self.n_players)).to(self.input.device)
        self.rewards, self.Iand = self._tensor(self.record.v), self._tensor(self.record.i_and)

    def get_interaction(self) -> Tensor:
        """I(S), (2^n,), in the order of `get_masks`."""
        return self._attributed("Iand")

    def get_masks(self) -> Tensor:
        """Which players each subset holds, bool (2^n, n)."""
        return self._attributed("masks")

    def get_rewards(self) -> Tensor:
        """v(S), (2^n,)."""
        return self._attributed("rewards")

    def save(self, save_folder: str | Path) -> None:
        """Write rewards.npy, masks.npy, sample.npy and Iand.npy into a folder, which is made."""
        _save(save_folder, rewards=self.get_rewards(), masks=self.masks, sample=self.input, Iand=self.Iand)

    def _attributed(self, name: str) -> Tensor:
        if not hasattr(self, name):
            raise InputError("nothing is known yet; call attribute() first")
        return getattr(self, name)

    def _index(self) -> int:
        """The output that is explained."""
        if self._which is not None:
            return int(self._which)
        with torch.no_grad():
            (outputs,) = TensorFunction(self.model, self._form).forward(self.input)
        if len(outputs) == 1 and self._form != "values":
            return int(outputs[0] > (0.5 if self._form == "probabilities" else 0.0))
        return int(outputs.argmax())

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.input.device)


class AndBaselineSparsifier:
    """Learn the baseline of a calculator for which the sum of |I(S)| is least.

    Args:
        calculator: the game; its model has to be differentiable, and a `mask_input_fn` must keep features or replace
            them by the baseline.
        loss: "l1", the only one.
        baseline_min, baseline_max: bounds, numbers or (1, *features).
        baseline_lr: step along the gradient; it falls to a tenth.
        niter: number of steps.

    Raises:
        InputError: for another loss, a baseline out of its bounds, and a model without gradients.
    """

    def __init__(
        self,
        calculator: AndHarsanyi,
        loss: str = "l1",
        baseline_min: Tensor | float = -np.inf,
        baseline_max: Tensor | float = np.inf,
        baseline_lr: float = 1e-3,
        niter: int = 50,
    ) -> None:
        if loss != "l1":
            raise InputError(f"loss is {loss!r}; expected l1")
        self.calculator, self.loss = calculator, loss
        self.baseline_min, self.baseline_max = baseline_min, baseline_max
        self.baseline_lr, self.niter = baseline_lr, niter
        self.baseline_init = self.baseline = calculator.baseline.clone()

    def sparsify(self) -> None:
        """Take the steps; the best baseline on the way, the initial one among them, is kept."""
        game = self.calculator
        model, reward = TensorFunction(game.model, game._form), Reward(game._kind, game._temperature)
        index, (owner, x) = game._index(), _owner(game)
        self.learned = sparsify(
            lambda masked: reward(model.forward(masked), game._form, index),
            x,
            self.baseline_init[0],
            owner,
            game.n_players,
            lower=_one(self.baseline_min),
            upper=_one(self.baseline_max),
            steps=self.niter,
            lr=self.baseline_lr,
            step="gradient",
            batch_size=game.calc_bs or 2**game.n_players,
            subtract_empty=game._subtract_empty,
        )
        self.baseline = self.learned.baseline[None]
        v = self.learned.v - self.learned.v[0] if game._subtract_empty else self.learned.v
        self.rewards, self.Iand = game._tensor(v), game._tensor(moebius(v))

    def get_interaction(self) -> Tensor:
        """I(S) by the learned baseline, (2^n,)."""
        return self._sparsified("Iand")

    def get_rewards(self) -> Tensor:
        """v(S) by the learned baseline, (2^n,)."""
        return self._sparsified("rewards")

    def get_baseline(self) -> Tensor:
        """The learned baseline, (1, *features)."""
        return self.baseline

    def get_masks(self) -> Tensor:
        """Which players each subset holds, bool (2^n, n)."""
        return torch.from_numpy(subset_masks(self.calculator.n_players)).to(self.calculator.input.device)

    def save(self, save_folder: str | Path) -> None:
        """Write rewards.npy, masks.npy, baseline.npy and Iand.npy into a folder, which is made."""
        found = {"rewards": self.get_rewards(), "masks": self.get_masks(), "baseline": self.baseline}
        _save(save_folder, **found, Iand=self.Iand)

    def _sparsified(self, name: str) -> Tensor:
        if not hasattr(self, name):
            raise InputError("nothing is learned yet; call sparsify() first")
        return getattr(self, name)


def remove_noisy_greedy(
    rewards: Any,
    interactions: Any,
    masks: Any,
    min_patterns: int = 15,
    max_patterns: int = 80,
    n_greedy: int = 20,
    thres_square_error: float = 0.1,
    thres_explain_ratio: float = 0.95,
) -> dict[str, Any]:
    """Remove patterns that are noise; see `denoise`.

    Args:
        rewards, interactions: (2^n,).
        masks: bool (2^n, n), every subset once, in any order.
        min_patterns, max_patterns, n_greedy, thres_square_error, thres_explain_ratio: as `denoise` has them.

    Returns:
        final_retained (ascending rows), final_error, final_ratio; errors and explain_ratios after each removal.
    """
    v, effects, sets = (np.asarray(torch.as_tensor(values).detach().cpu()) for values in (rewards, interactions, masks))
    n = n_players(v)
    if sets.shape != (len(v), n):
        raise InputError(f"masks must have shape ({len(v)}, {n}), got {sets.shape}")
    subset_of_row = sets.astype(np.int64) @ (1 << np.arange(n - 1, -1, -1))
    row_of_subset = np.argsort(subset_of_row)
    if not np.array_equal(subset_of_row[row_of_subset], np.arange(len(v))):
        raise InputError("masks must hold every subset of the players once")
    found = denoise(
        v[row_of_subset],
        effects[row_of_subset],
        min_patterns=min_patterns,
        max_patterns=max_patterns,
        n_greedy=n_greedy,
        thres_square_error=thres_square_error,
        thres_explain_ratio=thres_explain_ratio,
    )
    return {
        "final_retained": sorted(row_of_subset[found.kept].tolist()),
        "final_error": found.square_error,
        "final_ratio": found.explain_ratio,
        "errors": found.errors[1:] * (float(v.astype(np.float64) @ v) + _GUARD),
        "explain_ratios": found.ratios[1:],
    }


def aggregate_pattern_iterative(
    patterns: Any, interactions: Any, max_iter: int = 5, entropy_lamb: float = 10.0, early_stop: bool = True
) -> tuple[np.ndarray, np.ndarray, dict[str, list[float]]]:
    """Find coalitions that patterns share, by the published rule; see `aggregate`.

    Args:
        patterns: (m, n) bool; interactions: (m,).
        max_iter: coalitions at the most.
        entropy_lamb: weight of the entropy of the code.
        early_stop: whether to stop where the code would become longer.

    Returns:
        The coalitions, bool (k, n); the patterns by players and coalitions, bool (m, n + k); and the code lengths:
        "sum" (of words and entropy_lamb times entropy), before and after each merge.
    """
    found = aggregate(patterns, interactions, max_iter, entropy_lamb, rule="published", early_stop=early_stop)
    n = np.shape(patterns)[1]
    return found.words[n:], found.patterns, {"sum": found.costs.tolist()}


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


class _OwnMasker:
    """The masker of a calculator with a `mask_input_fn`."""

    def __init__(self, game: AndHarsanyi) -> None:
        self._game = game
        self.players = tuple(f"x{k + 1}" for k in range(game.n_players))

    def masked(self, masks: np.ndarray) -> Tensor:
        game = self._game
        assert game.all_players is not None
        assert game.mask_input_fn is not None
        sets = [
            list(
                _flat([game.background, [player for player, here in zip(game.all_players, mask, strict=True) if here]])
            )
            for mask in masks
        ]
        return game.mask_input_fn(game.input, game.baseline, sets)


def _parsed(selected_dim: str | None, y: Any) -> tuple[str, str, str | None, float, bool]:
    """Kind and form of the reward, which output, temperature, and whether v(empty) is subtracted."""
    if selected_dim is None:
        return "output", "values", "0", 1.0, False
    match = re.fullmatch(r"(.*?)(?:_t=([0-9.eE+-]*?[0-9.]))?(-v0)?", selected_dim)
    name, temperature, v0 = match.groups() if match else (selected_dim, None, None)
    if name not in _REWARDS or (temperature and not name.endswith(("gt-log-odds", "max-log-odds"))):
        raise InputError(
            f"selected_dim is {selected_dim!r}; expected None or one of {', '.join(_REWARDS)}, with -v0 behind it to "
            "subtract v(empty), and with _t=T behind log-odds for a temperature"
        )
    kind, form, which = _REWARDS[name]
    if which == "y":
        if y is None:
            raise InputError(f"selected_dim {selected_dim!r} needs y, the ground-truth class")
        which = str(int(torch.as_tensor(y).reshape(-1)[0]))
    return kind, form, None if which == "max" else which, float(temperature or 1.0), bool(v0)


def _each_entry(x: Tensor) -> np.ndarray:
    return np.arange(x.shape[0]).reshape(-1, *[1] * (x.ndim - 1))


def _owner(game: AndHarsanyi) -> tuple[Tensor, Tensor]:
    """The player of each feature, (*features) int64, and the sample, in which what is never present is the baseline.

    A `mask_input_fn` is asked for ones and zeros in the place of x and baseline: so it says itself what it keeps.
    """
    x = game.input[0]
    if game.mask_input_fn is None:
        return torch.from_numpy(_each_entry(x)).expand(x.shape).clone(), x
    assert game.all_players is not None
    sets = [list(_flat([game.background, player])) for player in ([], *game.all_players)]
    kept = game.mask_input_fn(torch.ones_like(game.input), torch.zeros_like(game.input), sets)
    always, alone = kept[0] == 1, kept[1:] == 1
    alone &= ~always
    if not ((kept == 0) | (kept == 1)).all() or (alone.sum(dim=0) > 1).any():
        raise InputError(
            "a baseline is learned where mask_input_fn keeps features or replaces them by the baseline, and no two "
            "players share one; this one does otherwise"
        )
    owner = torch.where(alone.any(dim=0), alone.to(torch.uint8).argmax(dim=0), BACKGROUND)
    return owner, torch.where(always | alone.any(dim=0), x, game.baseline[0])


def _flat(items: Iterable[Any]) -> Iterable[Any]:
    for item in items:
        if isinstance(item, (list, tuple, set, np.ndarray)):
            yield from _flat(item)
        else:
            yield item


def _one(bound: Tensor | float) -> Tensor | float:
    """A bound without the batch axis."""
    return bound[0] if isinstance(bound, Tensor) and bound.ndim > 1 else bound


def _said(what: str, share: float) -> None:
    print(f"\r{what}: {share:.0%}", end="\n" if share >= 1 else "", file=sys.stderr, flush=True)


def _save(folder: str | Path, **tensors: Tensor) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, tensor in tensors.items():
        np.save(Path(folder) / f"{name}.npy", tensor.detach().cpu().numpy())
