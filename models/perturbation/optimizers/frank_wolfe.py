"""Frank-Wolfe: walk inside a norm ball towards the vertex that the gradient points away from.

Jaggi, "Revisiting Frank-Wolfe: Projection-Free Sparse Convex Optimization", ICML 2013; with the L1-q oracle:
Roberts, Tsiligkaridis, "Controllably Sparse Perturbations of Robust Classifiers for Explaining Predictions and Probing
Learned Concepts", MLVis 2021.

Objective: min over ||delta|| <= epsilon of the loss, image by image. Step t = 0, 1, ...:

    s = -epsilon u,   a = lr / (lr + t),   delta <- (1 - a) delta + a s

| symbol | meaning | shape |
|---|---|---|
| delta | perturbation | (batch, ...) |
| g | gradient of the loss at delta | as delta |
| u | the oracle's direction (`oracles`) | as delta |
| s | vertex of the ball | as delta |
| a | step size; a = lr where the schedule is off | scalar |
| epsilon | radius of the ball | scalar or (batch,) |
| q | fraction of the entries that a step leaves alone | scalar or (batch,) |

With the schedule the first step has a = 1, so any delta to start from is forgotten. Every iterate is in the ball.
The gap <g, delta - s> >= 0 bounds, for a convex loss, how far delta's loss is from the least one in the ball.

On the CPU the step of the L1-q ball is compiled (`_kernels`): `sparse_step` says what the kernel is given, and what it
leaves.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.perturbation.optimizers.base import (
    PerImageOptimizer,
    check_above_0,
    check_number,
    check_per_image,
    radius_of,
)
from conceptry.models.perturbation.optimizers.oracles import (
    Direction,
    Kept,
    kept_entries,
    kth_largest,
    l1q_direction,
    l2_direction,
    linf_direction,
    on_cpu,
)


def sparse_step(delta: Tensor, gradient: Tensor, kept: Kept, a: float, epsilon: float | Tensor) -> Tensor:
    """Walk delta, (batch, entries) on the CPU, in place a step of size `a`; returns the gap before it, (batch,).

    epsilon is a number or a tensor (batch, 1). The result is that of oracles.l1q_direction to the last bit; the gap,
    of sums in another order, to rounding.
    """
    from conceptry.models.perturbation.optimizers._kernels import l1q_step  # numba is slow to import

    gradient = gradient.contiguous()
    threshold = kth_largest(gradient.abs(), kept).numpy()[:, 0]
    walked = delta.numpy()
    batch, number = len(walked), walked.dtype.type
    if isinstance(epsilon, Tensor):
        radius, reach = epsilon.numpy()[:, 0], (a * epsilon).numpy()[:, 0]
    else:
        radius, reach = np.full(batch, number(epsilon)), np.full(batch, number(a * epsilon))
    k = kept.numpy()[:, 0] if isinstance(kept, Tensor) else np.full(batch, kept)
    gap = np.empty(batch, walked.dtype)
    share = _shares(int(k.max()), walked.dtype)
    l1q_step(walked, gradient.numpy(), k, np.ascontiguousarray(threshold), number(1.0 - a), reach, radius, share, gap)
    return torch.from_numpy(gap)


@lru_cache(maxsize=64)
def _shares(most: int, dtype: np.dtype) -> np.ndarray:
    """1 / m for m up to `most`; nothing reads that of 0."""
    return np.reciprocal(np.maximum(np.arange(most + 1), 1).astype(dtype))


class FrankWolfe(PerImageOptimizer):
    """What the four Frank-Wolfe optimisers share.

    Args:
        params: perturbations, each with the batch as its first dimension, or groups of them with options of their own.
        epsilon: radius of the ball, above 0; a tensor (batch,) gives every image its own.
        lr: the step size is lr / (lr + t) in step t = 0, 1, ...; without the schedule it is lr, at most 1.
        schedule: whether the step size shrinks.
        use_default_lr_schedule: the published name of `schedule`, which it goes before.
        param_ndim: how many of the last dimensions make up one image, see base.py; None: all of them.
        div_by_zero_eps: least norm that a gradient is divided by, None for the least normal number. L2FrankWolfe alone
            divides by a norm; the others take the option as the published ones do.

    Raises:
        InputError: naming the option, what it must be and what it was.
    """

    def __init__(
        self,
        params: Any,
        *,
        epsilon: float | Tensor,
        lr: float = 2.0,
        schedule: bool = True,
        use_default_lr_schedule: bool | None = None,
        param_ndim: int | None = -1,
        div_by_zero_eps: float | None = None,
    ) -> None:
        super().__init__(params, _options(epsilon, lr, schedule, use_default_lr_schedule, param_ndim, div_by_zero_eps))

    def check_options(self, group: dict[str, Any]) -> None:
        check_above_0(group)
        if not group["schedule"] and group["lr"] > 1:
            raise InputError(f"lr is the step size where schedule is off, so it must be at most 1, got {group['lr']!r}")

    def direction(self, gradient: Tensor, group: dict[str, Any]) -> Direction:
        """The parts v, w of u = w v; see `oracles`."""
        raise NotImplementedError

    def update(self, delta: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]) -> Tensor:
        t = state.get("step", 0)
        lr = group["lr"]
        a = lr / (lr + t) if group["schedule"] else lr
        gap = self.walk(delta, gradient, a, radius_of(group, delta), group)
        state["step"] = t + 1
        state["gap"] = gap
        return gap

    def walk(self, delta: Tensor, gradient: Tensor, a: float, epsilon: Any, group: dict[str, Any]) -> Tensor:
        """A step of size `a` in place; epsilon is a number or (batch, 1). Returns the gap before it, (batch,)."""
        v, w = self.direction(gradient, group)
        along, across = torch.linalg.vecdot(gradient, delta), torch.linalg.vecdot(gradient, v)
        weight = epsilon * w
        gap = torch.addcmul(along, across, weight[:, 0]) if isinstance(weight, Tensor) else along + weight * across
        if a == 1.0:
            delta.zero_()
        else:
            delta.mul_(1.0 - a)
        scale = w * (a * epsilon)
        if isinstance(scale, Tensor):
            delta.addcmul_(v, scale, value=-1.0)
        else:
            delta.sub_(v.mul_(scale))
        return gap

    def gap(self, parameter: Tensor) -> Tensor:
        """(batch,) Frank-Wolfe gap <g, delta - s> at the delta that the last step left behind."""
        if parameter not in self.state:
            raise InputError("there is no Frank-Wolfe gap before the first step")
        return self.state[parameter]["gap"]


def _options(
    epsilon: float | Tensor,
    lr: float,
    schedule: bool,
    use_default_lr_schedule: bool | None,
    param_ndim: int | None,
    div_by_zero_eps: float | None,
) -> dict[str, Any]:
    """The options of a group that all Frank-Wolfe optimisers have."""
    schedule = schedule if use_default_lr_schedule is None else use_default_lr_schedule
    return {
        "epsilon": epsilon,
        "lr": lr,
        "schedule": schedule,
        "param_ndim": param_ndim,
        "div_by_zero_eps": div_by_zero_eps,
    }


class SparseFrankWolfe(FrankWolfe):
    """Steps that move few entries: by a kernel on the CPU, by tensors elsewhere."""

    def n_kept(self, entries: int) -> Kept:
        """How many of an image's entries a step moves."""
        raise NotImplementedError

    def direction(self, gradient: Tensor, group: dict[str, Any]) -> Direction:
        return l1q_direction(gradient, self.n_kept(gradient.shape[1]))

    def walk(self, delta: Tensor, gradient: Tensor, a: float, epsilon: Any, group: dict[str, Any]) -> Tensor:
        if not on_cpu(delta):
            return super().walk(delta, gradient, a, epsilon, group)
        return sparse_step(delta, gradient, self.n_kept(gradient.shape[1]), a, epsilon)


class L1qFrankWolfe(SparseFrankWolfe):
    """Sparse and spread: each step moves exactly k = round((1 - q) entries) entries of an image, by the same amount.

    s is where <g, s> is least in {||d||_1 <= epsilon, ||d||_inf <= epsilon / k}, of which the top-k signs are the exact
    oracle: that polytope is what the iterates stay in and the gap refers to, as long as q stays the same. (Where fewer
    than k entries of g are not 0, the step shares epsilon among these, and the bound on single entries is looser.)

    Args:
        params, epsilon, lr, schedule, use_default_lr_schedule, param_ndim, div_by_zero_eps: as FrankWolfe; epsilon is
            the L1 radius.
        q: fraction of the entries of the gradient that a step drops, from 0 to 1; .975 keeps 2.5 %. A tensor (batch,)
            gives every image its own.
        dq: each step draws one q for the whole batch, uniformly from [q - dq, q + dq] and clamped to [0, 1].
        generator: of these draws, on the CPU; None for one of its own, seeded 0.
    """

    def __init__(
        self,
        params: Any,
        *,
        q: float | Tensor,
        epsilon: float | Tensor,
        dq: float = 0.0,
        lr: float = 2.0,
        schedule: bool = True,
        use_default_lr_schedule: bool | None = None,
        param_ndim: int | None = -1,
        div_by_zero_eps: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if generator is not None and generator.device.type != "cpu":
            raise InputError(f"generator must be on the CPU, got one on {generator.device}")
        self.generator = torch.Generator().manual_seed(0) if generator is None else generator
        options = _options(epsilon, lr, schedule, use_default_lr_schedule, param_ndim, div_by_zero_eps)
        PerImageOptimizer.__init__(self, params, options | {"q": q, "dq": dq})

    def check_options(self, group: dict[str, Any]) -> None:
        super().check_options(group)
        check_per_image("q", group["q"], 0.0, 1.0, "a number from 0 to 1", group)
        check_number("dq", group["dq"], 0.0, 1.0, "a number from 0 to 1")

    def prepare(self, group: dict[str, Any]) -> None:
        q, dq = group["q"], group["dq"]
        if dq:
            shift = dq * (2.0 * float(torch.rand((), dtype=torch.float64, generator=self.generator)) - 1.0)
            q = (q.double() + shift).clamp(0.0, 1.0) if isinstance(q, Tensor) else min(max(q + shift, 0.0), 1.0)
        self._q = q

    def n_kept(self, entries: int) -> Kept:
        return kept_entries(self._q, entries)

    def __getstate__(self) -> dict[str, Any]:
        """State of copies and pickles, which go on as this optimiser would."""
        return super().__getstate__() | {"draws": self.generator.get_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "draws" in state:  # also called by load_state_dict, without
            self.generator = torch.Generator()
            self.generator.set_state(state.pop("draws"))
        super().__setstate__(state)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"generator": self.generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "generator"})
        self.generator.set_state(state_dict["generator"].cpu())


class L1FrankWolfe(SparseFrankWolfe):
    """The sparsest: each step moves the single entry with the largest gradient; ||delta||_1 <= epsilon."""

    def n_kept(self, entries: int) -> Kept:
        return 1


class L2FrankWolfe(FrankWolfe):
    """||delta||_2 <= epsilon."""

    def direction(self, gradient: Tensor, group: dict[str, Any]) -> Direction:
        return l2_direction(gradient, group["div_by_zero_eps"])


class LinfFrankWolfe(FrankWolfe):
    """No entry beyond epsilon."""

    def direction(self, gradient: Tensor, group: dict[str, Any]) -> Direction:
        return linf_direction(gradient)
