"""Sparsify: learn the baseline for which the interactions are sparsest.

Ren, Li, Chen, Deng, Zhang, "Defining and Quantifying the Emergence of Sparse Concepts in DNNs", CVPR 2023,
arXiv:2111.06206.

    min_b L(b) = sum_S |I(S)|,     lower <= b <= upper,     I = M v,     v(S) = f(x_S),     x_S = m_S x + (1 - m_S) b

| symbol | meaning | shape |
|---|---|---|
| x, b | features of the sample, and their baseline | (*features) |
| f | model and reward | (batch, *features) -> (batch,) |
| m | which features are present in each subset | (2^n, *features) |
| M | Moebius transform | (2^n, 2^n), never built |
| s | scale: the spread of each feature | (*features) |
| g | gradient of L with respect to b | (*features) |

    dL/dv = M^T sign(I)          g = sum_S (1 - m_S) dL/dv(S) grad f(x_S)
    b <- clip(b - lr s sign(g))

The step is steepest descent in the largest change of a feature, in units of its spread: it does not depend on the scale
of the reward or of a feature, and features with a small slope are learned as fast as those with a large one. lr falls
from `lr` to lr / 10, evenly on a log scale. Nothing makes L fall at each step, and it does not, so the best iterate is
returned, the initial one among them.

One backward pass through f gives g. Where all 2^n inputs fit one batch its graph is that of the forward pass; else v
takes a pass over all batches without a graph, and g a second one with, so that memory stays that of one batch.

Differences from the paper's code: the best iterate, not the last; the sign of the gradient, not the gradient, whose
length depends on the reward (on networks for wine, breast cancer and random recurrent ones, 50 steps of signs lowered L
to .05 to .2 of the first, steps along the gradient with the same largest change to .2 to .3); v in float64.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.explained.hooks import tracked
from conceptry.models.harsanyi.interactions.moebius import MAX_PLAYERS, moebius, moebius_adjoint, subset_masks
from conceptry.models.harsanyi.maskers.base import BACKGROUND
from conceptry.models.harsanyi.maskers.tensors import check_features, features_present

Rewards = Callable[[Tensor], Tensor]
STEPS = ("sign", "gradient")


@dataclass(frozen=True, eq=False)
class Sparsified:
    """A learned baseline.

    baseline: (*features), the best iterate, as the initial one in dtype and device; v: (2^n,) float64, its rewards;
    l1: (steps + 1,) float64, L of each iterate, the initial one first; best: index of the best in l1.
    calls: inputs that `forward` was given.
    """

    baseline: Tensor
    v: np.ndarray
    l1: np.ndarray
    best: int
    calls: int

    @property
    def initial_l1(self) -> float:
        return float(self.l1[0])

    @property
    def final_l1(self) -> float:
        """L of the baseline that is returned, at most `initial_l1`."""
        return float(self.l1[self.best])


def sparsify(
    forward: Rewards,
    x: Tensor | np.ndarray,
    baseline: Tensor | np.ndarray,
    owner: Tensor | np.ndarray,
    n: int,
    *,
    lower: Tensor | np.ndarray | float,
    upper: Tensor | np.ndarray | float,
    scale: Tensor | np.ndarray | float = 1.0,
    steps: int = 50,
    lr: float = 0.1,
    step: str = "sign",
    batch_size: int = 4096,
    subtract_empty: bool = False,
    progress: Callable[[str, float], Any] | None = None,
) -> Sparsified:
    """Learn the baseline of a sample by gradient descent through the model; the same input gives the same result.

    Args:
        forward: rewards (batch,) of inputs (batch, *features), differentiable. The model behind it stays as it is:
            no gradients are left at its parameters.
        x, baseline: (*features), the sample and the initial baseline, floating; dtype and device of x are those that
            `forward` is called with. Arrays are as good as tensors.
        owner: int64 (*features), the player of each feature; features of BACKGROUND (-1) are always present, and
            their baseline is not changed.
        n: number of players.
        lower, upper: bounds of the baseline, scalars or (*features).
        scale: unit of the steps, the spread of each feature, scalar or (*features), above 0.
        steps: number of steps; lr: change of each feature in the first one, in units of scale.
        step: "sign", or "gradient" for b - lr s g, as the paper's code steps; lr is then in units of scale over reward.
        batch_size: inputs of one call of `forward`.
        subtract_empty: whether v(empty) will be subtracted from the rewards, so that I(empty) is 0 in L. The v that
            is returned is as `forward` gives it.
        progress: called with ("sparsify", share) after each step.

    Raises InputError where shapes do not fit, the initial baseline is out of bounds, an option is out of range,
    rewards or gradients are not finite, or the model is not differentiable.
    """
    _check_options(n, steps, lr, batch_size)
    if step not in STEPS:
        raise InputError(f"step is {step!r}; expected one of {', '.join(STEPS)}")
    with torch.inference_mode(False):
        x, baseline, owner = (tracked(torch.as_tensor(values)) for values in (x, baseline, owner))
    check_features(x, baseline, owner, n)
    with torch.inference_mode(False), torch.enable_grad():
        game = _Game(forward, x, owner, n, batch_size, subtract_empty)
        low, high, unit = (
            _feature_values(value, x, name) for value, name in ((lower, "lower"), (upper, "upper"), (scale, "scale"))
        )
        learned = (owner != BACKGROUND).to(x.device)
        b = baseline.detach().to(x, copy=True)
        _check_bounds(b[learned], low[learned], high[learned], unit[learned])
        rates = np.geomspace(lr, lr / 10, steps)
        l1 = np.empty(steps + 1)
        best, best_b, best_v = 0, b, b.new_zeros(0)
        for iterate in range(steps + 1):
            l1[iterate], v, g = game.evaluate(b, gradient=iterate < steps)
            if iterate == 0 or l1[iterate] < l1[best]:
                best, best_b, best_v = iterate, b, v
            if g is None:
                break
            direction = g.sign() if step == "sign" else g
            b = torch.where(learned, torch.clamp(b - rates[iterate] * unit * direction, low, high), b)
            if progress is not None:
                progress("sparsify", (iterate + 1) / steps)
    return Sparsified(best_b, best_v.cpu().numpy(), l1, best, game.calls)


class _Game:
    """Rewards of all subsets for any baseline, their L, and its gradient."""

    def __init__(self, forward: Rewards, x: Tensor, owner: Tensor, n: int, batch_size: int, subtract_empty: bool):
        self._forward, self._x, self._owner, self._n = forward, x, owner.to(x.device), n
        self._subtract_empty = subtract_empty
        self.calls = 0
        self._batches = [(start, min(start + batch_size, 2**n)) for start in range(0, 2**n, batch_size)]
        # What does not depend on the baseline is made once, where it is one batch.
        self._whole = self._parts(0, 2**n) if len(self._batches) == 1 else None

    def evaluate(self, b: Tensor, gradient: bool) -> tuple[float, Tensor, Tensor | None]:
        """L, the rewards (2^n,), and the gradient of L (*features) where it is asked for."""
        if self._whole is not None:
            inputs, outputs = self._call(*self._whole, b, gradient)
            l1, v, dv = self._l1(outputs.detach())
            return l1, v, _gradient(outputs, inputs, dv, self._whole[1]) if gradient else None
        l1, v, dv = self._l1(torch.cat([self._call(*self._parts(*batch), b, False)[1] for batch in self._batches]))
        return l1, v, self._gradient_in_batches(b, dv) if gradient else None

    def _gradient_in_batches(self, b: Tensor, dv: Tensor) -> Tensor:
        g = torch.zeros_like(b)
        for start, stop in self._batches:
            kept, absent = self._parts(start, stop)
            inputs, outputs = self._call(kept, absent, b, True)
            g += _gradient(outputs, inputs, dv[start:stop], absent)
        return g

    def _parts(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """m x and 1 - m, (batch, *features) each: x_S = m x + (1 - m) b is exact, unlike b + m (x - b)."""
        present = features_present(subset_masks(self._n, start, stop), self._owner, self._n)
        return torch.where(present, self._x, 0), (~present).to(self._x.dtype)

    def _call(self, kept: Tensor, absent: Tensor, b: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
        inputs = torch.addcmul(kept, absent, b).requires_grad_(gradient)
        self.calls += len(inputs)
        try:
            with torch.set_grad_enabled(gradient):
                outputs = self._forward(inputs)
        except RuntimeError as error:
            if "numpy() on Tensor that requires grad" in str(error):
                raise _not_differentiable() from None
            raise
        if outputs.shape != (len(inputs),):
            raise InputError(f"forward must return rewards ({len(inputs)},), got shape {tuple(outputs.shape)}")
        return inputs, outputs

    def _l1(self, rewards: Tensor) -> tuple[float, Tensor, Tensor]:
        """L, v in float64, and dL/dv."""
        v = rewards.to(torch.float64)
        if bad := int((~v.isfinite()).sum()):
            raise InputError(f"forward returned NaN or infinite rewards for {bad} of {len(v)} masked inputs")
        interactions = moebius(v)
        if self._subtract_empty:
            interactions[0] = 0  # a constant has no other effect
        return float(interactions.abs().sum()), v, moebius_adjoint(interactions.sign())


def _gradient(outputs: Tensor, inputs: Tensor, dv: Tensor, absent: Tensor) -> Tensor:
    """sum_S (1 - m_S) dL/dv(S) grad f(x_S), (*features); nothing is accumulated at the parameters of the model."""
    if not outputs.requires_grad:
        raise _not_differentiable()
    (slope,) = torch.autograd.grad(outputs, inputs, dv.to(outputs.dtype), allow_unused=True)
    if slope is None:
        raise _not_differentiable()
    g = (slope * absent).sum(dim=0)
    if not g.isfinite().all():
        raise InputError("the gradient of the model with respect to the baseline is NaN or infinite")
    return g


def _not_differentiable() -> InputError:
    return InputError(
        "a learned baseline needs a differentiable (torch) model, and the outputs of this one have no gradient; "
        "choose another baseline: mean, median, mode or a row of a table, a token or deletion for a text, mean or blur "
        "for a picture"
    )


def _feature_values(value: Tensor | np.ndarray | float, x: Tensor, name: str) -> Tensor:
    try:
        return torch.as_tensor(value).to(x).expand(x.shape)
    except RuntimeError:
        raise InputError(
            f"{name} must be a number or of the shape {tuple(x.shape)} of the features, got {tuple(np.shape(value))}"
        ) from None


def _check_bounds(b: Tensor, lower: Tensor, upper: Tensor, scale: Tensor) -> None:
    if outside := int((~((lower <= b) & (b <= upper))).sum()):
        raise InputError(f"the initial baseline is out of its bounds in {outside} of {len(b)} features")
    if not ((scale > 0) & scale.isfinite()).all():
        raise InputError(f"scale must be finite and above 0 in every feature, got {float(scale.min())}")


def _check_options(n: int, steps: int, lr: float, batch_size: int) -> None:
    if not 1 <= n <= MAX_PLAYERS:
        raise InputError(
            f"the number of players must be 1 to {MAX_PLAYERS}, got {n}; group players where there are more"
        )
    if steps < 1 or batch_size < 1:
        raise InputError(f"steps and batch_size must be at least 1, got {steps} and {batch_size}")
    if not (math.isfinite(lr) and lr > 0):
        raise InputError(f"lr must be a finite number above 0, got {lr}")
