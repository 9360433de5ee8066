"""Optimisers that follow the q-th part of the gradient alone, under the names of rai-toolbox; see `transforms`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD

from conceptry.models.perturbation.optimizers.base import check_number
from conceptry.models.perturbation.optimizers.oracles import kept_entries, kth_largest, l1q_direction
from conceptry.models.perturbation.optimizers.transforms import _TINY, Inner, ParamTransformingOptimizer, _gradient_of


class TopQGradientOptimizer(ParamTransformingOptimizer):
    """Keeps the k = round((1 - q) entries) largest entries of abs(g) in each image; the first ones of equal ones.

    q, dq: every step draws its own q from [q - dq, q + dq] within [0, 1], and so does every parameter. generator: of
    these draws, on the CPU; None for torch's own.
    """

    def __init__(
        self,
        params: Any = None,
        InnerOpt: Inner = SGD,
        *,
        q: float,
        dq: float = 0.0,
        defaults: Mapping[str, Any] | None = None,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> None:
        self.generator = torch.default_generator if generator is None else generator
        super().__init__(params, InnerOpt, defaults={"q": q, "dq": dq} | dict(defaults or {}), **options)

    def check_options(self, group: dict[str, Any]) -> None:
        super().check_options(group)
        for name in ("q", "dq"):
            check_number(name, group[name], 0.0, 1.0, "a number from 0 to 1")

    def _kept(self, entries: int, group: dict[str, Any]) -> int:
        q, dq = group["q"], group["dq"]
        if dq:
            low, high = max(0.0, q - dq), min(1.0, q + dq)
            drawn = torch.rand(1, generator=self.generator, device=self.generator.device)
            q = float((high - low) * drawn + low)
        kept = kept_entries(q, entries)
        assert isinstance(kept, int)
        return kept

    def _pre_step_transform_(self, param: Tensor, optim_group: dict[str, Any]) -> None:
        gradient = _gradient_of(param).view(len(param), -1)
        strength, kept = gradient.abs(), self._kept(gradient.shape[1], optim_group)
        threshold = kth_largest(strength, kept)
        above, tied = strength > threshold, strength == threshold
        gradient.mul_(above | (tied & (tied.cumsum(dim=1) <= kept - above.sum(dim=1, keepdim=True))))


class L1qNormedGradientOptim(TopQGradientOptimizer):
    """Steps along the signs of the k largest entries of abs(g), over how many of these are not 0."""

    def __init__(
        self, params: Any = None, InnerOpt: Inner = SGD, *, q: float, div_by_zero_eps: float = _TINY, **options: Any
    ) -> None:
        check_number("div_by_zero_eps", div_by_zero_eps, 0.0, torch.inf, "a finite number of at least 0")
        super().__init__(params, InnerOpt, q=q, **options)

    def _pre_step_transform_(self, param: Tensor, optim_group: dict[str, Any]) -> None:
        gradient = _gradient_of(param).view(len(param), -1)
        signs, share = l1q_direction(gradient, self._kept(gradient.shape[1], optim_group))
        gradient.copy_(signs * share)
