"""The game: the reward of every subset of players, streamed through the model in batches.

    v(S) = reward(model(x_S)),     x_S = the sample with the players outside S at their baseline

| symbol | meaning | shape |
|---|---|---|
| n | number of players, at most 20 | scalar |
| v | rewards, row k the subset with bits binary_repr(k, n) | (2^n,) float64 |

Rewards: the number that v(S) is made of, from a row of the model's outputs.

Ren, Li, Chen, Deng, Zhang, "Defining and Quantifying the Emergence of Sparse Concepts in DNNs", CVPR 2023,
arXiv:2111.06206.

| symbol | meaning | shape |
|---|---|---|
| z | logits | (batch, k) |
| p | probabilities; of logits softmax(z / T) | (batch, k) |
| t | target: an output, or a class | scalar |
| T | temperature | scalar |

| kind | reward | of logits | of probabilities |
|---|---|---|---|
| log_odds | log(p_t / (1 - p_t)) | z_t / T - logsumexp_{j != t} z_j / T | log p_t - log sum_{j != t} p_j |
| log_odds_eps | log((p_t + e) / (1 - p_t + e)), e = 1e-7 | p = softmax(z / T) | as it says |
| logit | z_t | as it says | refused |
| probability | p_t | p = softmax(z / T) | as it says |
| output | the column as the model gives it, values of a regressor included | | |

1 - p_t is the sum of the other probabilities, so log_odds never forms it: it stays exact where p_t rounds to 1, at
logits of +-1000 too. log_odds_eps is the form of the published code, which ends near +-16.1; it is there for parity.

A binary model may have one output, which then speaks of class 1: its logits are (0, z), its probabilities (1 - p, p).
So the log-odds are z / T for class 1 and -z / T for class 0, and the logit is z for class 1 and -z for class 0.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError, closest, truncated_repr
from conceptry.models.explained.protocol import FORMS
from conceptry.models.harsanyi.interactions.moebius import MAX_PLAYERS, moebius, subset_masks
from conceptry.models.harsanyi.maskers.base import Masker, check_players
from conceptry.models.harsanyi.settings import PREDICTED, REWARDS
from conceptry.models.method import Progress, whole_number

EPSILON = 1e-7
_SOFTMAX = ("log_odds", "log_odds_eps", "probability")
_ROUNDING = 1e-3  # by how much probabilities in half precision may miss [0, 1], or their sum 1


@dataclass(frozen=True)
class Reward:
    """A kind of REWARDS, with the temperature that divides logits.

    Raises InputError for another kind, a temperature that is not a finite number above 0, or one that differs from 1
    for a kind that has none.
    """

    kind: str = "log_odds"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in REWARDS:
            raise InputError(f"reward is {self.kind!r}; expected one of {', '.join(REWARDS)}")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise InputError(f"temperature must be a finite number above 0, got {self.temperature}")
        if self.temperature != 1 and self.kind not in _SOFTMAX:
            raise InputError(f"reward {self.kind} has no temperature, got {self.temperature}")

    def __call__(self, outputs: Tensor, form: str, target: int) -> Tensor:
        """Rewards (batch,) float64, differentiable in `outputs`.

        Args:
            outputs: (batch, k), what the model returned for `batch` masked inputs, of any real dtype.
            form: what they are: "logits", "probabilities" or "values".
            target: the output 0 to k - 1; class 0 or 1 where a classifier has one output.

        Raises:
            InputError: if outputs are NaN or infinite, are no probabilities although form says so, or have infinite
                log-odds; if there is no such target; if outputs of this form have no such reward.
        """
        self._check_form(form)
        outputs = outputs.to(torch.float64)
        _check_outputs(outputs, form)
        single = outputs.shape[1] == 1 and form != "values"
        _check_target(target, 2 if single else outputs.shape[1])
        if self.kind == "output":
            if single and target == 0:
                raise InputError("the one output of this model speaks of class 1; reward output has none for class 0")
            return outputs[:, 0 if single else target]
        if self.kind == "logit":
            return (outputs[:, 0] if target else -outputs[:, 0]) if single else outputs[:, target]
        if form == "logits":
            # log-odds and softmax depend on differences alone: (-z / 2, z / 2) is as good as (0, z)
            return self._of_logits(torch.cat([-outputs, outputs], 1) / 2 if single else outputs, target)
        return self._of_probabilities(torch.cat([1 - outputs, outputs], 1) if single else outputs, target)

    def _check_form(self, form: str) -> None:
        if form not in FORMS:
            raise InputError(f"form of the outputs is {form!r}; expected one of {', '.join(FORMS)}")
        if self.kind != "output" and form == "values":
            raise InputError(f"reward {self.kind} needs a classifier, but the model gives values; use reward output")
        if self.kind == "logit" and form == "probabilities":
            raise InputError("reward logit needs logits, but the model gives probabilities; use reward log_odds")
        if self.temperature != 1 and form != "logits":
            raise InputError(f"a temperature needs logits, but the model gives {form}; expected temperature 1")

    def _of_logits(self, z: Tensor, target: int) -> Tensor:
        z = z / self.temperature
        if self.kind == "log_odds":
            return z[:, target] - torch.logsumexp(_others(z, target), dim=1)
        p = torch.softmax(z, dim=1)[:, target]
        return p if self.kind == "probability" else _log_odds_eps(p)

    def _of_probabilities(self, p: Tensor, target: int) -> Tensor:
        if self.kind == "probability":
            return p[:, target]
        if self.kind == "log_odds_eps":
            return _log_odds_eps(p[:, target])
        return _log_odds(p[:, target], _others(p, target).sum(dim=1))


def _others(columns: Tensor, target: int) -> Tensor:
    return torch.cat([columns[:, :target], columns[:, target + 1 :]], dim=1)


def _log_odds(p: Tensor, rest: Tensor) -> Tensor:
    certain = int(((p <= 0) | (rest <= 0)).sum())
    if certain:
        raise InputError(
            f"the log-odds are infinite for {certain} of {len(p)} masked inputs, where the probability is exactly 0 "
            "or 1; use reward probability or log_odds_eps (--reward probability when registering)"
        )
    if ((p + rest).detach() - 1).abs().max() > _ROUNDING:
        raise InputError("reward log_odds needs probabilities that sum to 1 in each row; use log_odds_eps")
    return p.log() - rest.log()


def _log_odds_eps(p: Tensor) -> Tensor:
    return ((p + EPSILON) / (1 - p + EPSILON)).log()


def _check_outputs(outputs: Tensor, form: str) -> None:
    if outputs.ndim != 2 or 0 in outputs.shape:
        raise InputError(f"the model must return (batch, outputs) numbers, got shape {tuple(outputs.shape)}")
    values = outputs.detach()
    if bad := int((~values.isfinite()).any(dim=1).sum()):
        raise InputError(f"the model returned NaN or infinite outputs for {bad} of {len(values)} masked inputs")
    if form == "probabilities":
        outside = (values < 0) | (values > 1 + _ROUNDING)
        if outside.any():
            raise InputError(
                f"the model returned {values[outside][0].item():.6g} where a probability in [0, 1] was expected"
            )


def _check_target(target: int, n: int) -> None:
    if not 0 <= target < n:
        raise InputError(f"target is {target}, but the model has the outputs 0 to {n - 1}")


class Model(Protocol):
    """The part of an explained model that a game needs; `forward` besides, where the masker makes tensors."""

    @property
    def form(self) -> str: ...

    def __call__(self, inputs: Any, /) -> np.ndarray: ...


class TensorFunction:
    """A function from a batch of tensors, or arrays, to a number or a row of numbers for each, as the model of a game.

    form: what its outputs are; arrays: whether it takes arrays instead of tensors.
    """

    def __init__(self, function: Callable[[Any], Any], form: str, arrays: bool = False) -> None:
        self.function, self.form, self.arrays = function, form, arrays

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (batch, k) of x (batch, *features); differentiable where the function is, and takes tensors."""
        returned = self.function(x.detach().cpu().numpy() if self.arrays else x)
        try:
            outputs = returned if isinstance(returned, Tensor) else torch.from_numpy(np.array(returned, np.float64))
        except (TypeError, ValueError) as error:
            raise InputError(f"the function must return rows of numbers: {error}") from None
        return outputs[:, None] if outputs.ndim == 1 else outputs

    def __call__(self, inputs: Any) -> np.ndarray:
        """Outputs (batch, k) of whatever a masker of one's own makes."""
        returned = self.function(inputs)
        array = returned.detach().cpu().numpy() if isinstance(returned, Tensor) else np.asarray(returned)
        return array[:, None] if array.ndim == 1 else array


def rewards_of(
    model: Model,
    masker: Masker,
    reward: Reward,
    target: int,
    batch_size: int = 4096,
    progress: Progress | None = None,
) -> np.ndarray:
    """Rewards v (2^n,) float64 of all subsets of the masker's n players.

    The model is called on what the masker makes of `batch_size` subsets; where that is a tensor (TensorMasker), its
    `forward` is, without gradients. After each batch `progress("rewards", share)` hears the share that is done.

    Memory: 8 bytes x 2^n (8 MiB at n = 20) for the result, and at any time the masks, the model inputs and the
    model's own work for one batch only, that is batch_size x (n + 1 bytes + one masked input + what the model needs).

    Raises InputError for more than 20 players, for a batch size below 1, where the model does not return one row of
    numbers for each input, and where the reward refuses them.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    n = len(check_players(masker.players))
    if n > MAX_PLAYERS:
        raise InputError(
            f"there are {n} players, and the limit of all subsets is {MAX_PLAYERS}; group players, so that several "
            "parts of the input count as one, or take the engine sampled, which asks a budget of subsets"
        )
    ask = rewards_by_mask(model, masker, reward, target)
    v = np.empty(2**n)
    for start in range(0, 2**n, batch_size):
        stop = min(start + batch_size, 2**n)
        v[start:stop] = ask(subset_masks(n, start, stop))
        if progress is not None:
            progress("rewards", stop / 2**n)
    return v


def mean_rewards(
    model: Model,
    maskers: Sequence[Masker],
    reward: Reward,
    target: int,
    batch_size: int = 4096,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Rewards v (2^n,) as the mean over maskers of one sample, and how far each AND interaction hangs on the choice.

    The latter is the standard deviation (2^n,) over maskers, None for one. Memory is that of four tables (2^n,).
    """
    total = mean = squares = np.zeros(0)
    for done, masker in enumerate(maskers):

        def part(what: str, share: float, done: int = done) -> None:
            if progress is not None:
                progress(what, (done + share) / len(maskers))

        v = rewards_of(model, masker, reward, target, batch_size, part)
        if len(maskers) == 1:
            return v, None
        # Welford's way: the differences of large, nearly equal sums would be lost.
        if not done:
            total, mean, squares = v.copy(), moebius(v), np.zeros(len(v))
            continue
        total += v
        effects = moebius(v)
        change = effects - mean
        mean += change / (done + 1)
        squares += change * (effects - mean)
    return total / len(maskers), np.sqrt(squares / len(maskers))


def mean_by_mask(
    model: Model, maskers: Sequence[Masker], reward: Reward, target: int
) -> Callable[[np.ndarray], np.ndarray]:
    """As `rewards_by_mask`, the mean over maskers of one sample, in a call of the model for each."""
    games = [rewards_by_mask(model, masker, reward, target) for masker in maskers]
    return lambda masks: np.mean([ask(masks) for ask in games], axis=0)


def rewards_by_mask(model: Model, masker: Masker, reward: Reward, target: int) -> Callable[[np.ndarray], np.ndarray]:
    """The game as a function: masks (batch, n) bool to rewards (batch,) float64, in one call of the model."""

    def ask(masks: np.ndarray) -> np.ndarray:
        with torch.no_grad():  # not inference_mode: tensors that a model caches then would spoil later gradients
            outputs = _outputs(model, masker.masked(masks), len(masks))
            return reward(outputs, model.form, target).cpu().numpy()

    return ask


def _outputs(model: Any, inputs: Any, count: int) -> Tensor:
    if isinstance(inputs, Tensor):
        outputs = model.forward(inputs)
    else:
        returned = model(inputs)
        try:  # a copy: torch warns of arrays that are not writable, such as views of a frame
            outputs = torch.from_numpy(np.array(returned, dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise InputError(f"the model must return rows of numbers: {error}") from None
    if outputs.ndim != 2 or len(outputs) != count:
        raise InputError(
            f"the model must return one row of outputs for each input, ({count}, outputs), "
            f"got shape {tuple(outputs.shape)}"
        )
    return outputs


def output_index(target: str, model: Any, outputs: np.ndarray | None) -> int:
    """The index of an output by name or number, or of the one that is predicted where outputs (k,) are given."""
    if target == PREDICTED and outputs is not None:
        return predicted_output(outputs, model)
    classes = model.classes
    if target in classes:
        return classes.index(target)
    index = whole_number(target)
    if index is not None and index < len(classes):
        return index
    near = closest(target, classes) or classes[:10]
    raise InputError(
        f"{model.name} has no output {truncated_repr(target)}; expected {PREDICTED}, an index below "
        f"{len(classes)}, or a name: {', '.join(near)}"
    )


def predicted_output(outputs: np.ndarray, model: Any) -> int:
    if len(model.classes) == 2 and len(outputs) == 1:
        return int(outputs[0] > (0.5 if model.form == "probabilities" else 0.0))
    return int(np.argmax(outputs)) if model.form != "values" else 0
