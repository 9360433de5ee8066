"""Interactions of one sample, and learned baselines, by the published names."""

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
from conceptry.models.harsanyi.interactions.moebius import moebius, subset_masks
from conceptry.models.harsanyi.interactions.record import Interactions
from conceptry.models.harsanyi.maskers.base import BACKGROUND
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
            engine="exact",
            progress=_said if self.verbose == 1 else None,
        )
        assert isinstance(self.record, Interactions)  # which the engine exact gives
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
