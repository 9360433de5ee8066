"""Optimisers made of several transformations, and steps that stay in a ball; see `transforms`."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from conceptry.models.errors import InputError
from conceptry.models.perturbation.optimizers.base import check_number
from conceptry.models.perturbation.optimizers.transforms import (
    _TINY,
    Inner,
    L2NormedGradientOptim,
    ParamTransformingOptimizer,
    SignedGradientOptim,
)


class _InBall(ParamTransformingOptimizer):
    """What both projected optimisers share. epsilon: radius of the ball, above 0."""

    def __init__(
        self,
        params: Any = None,
        InnerOpt: Inner = SGD,
        *,
        epsilon: float,
        defaults: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(params, InnerOpt, defaults={"epsilon": epsilon} | dict(defaults or {}), **options)

    def check_options(self, group: dict[str, Any]) -> None:
        super().check_options(group)
        check_number("epsilon", group["epsilon"], _TINY, torch.inf, "a finite number above 0")


class L2ProjectedOptim(_InBall, L2NormedGradientOptim):
    """||delta||_2 <= epsilon: the inner step along g / ||g||_2, then back into the ball."""

    def _post_step_transform_(self, param: Tensor, optim_group: dict[str, Any]) -> None:
        param.renorm_(p=2, dim=0, maxnorm=optim_group["epsilon"])


class LinfProjectedOptim(_InBall, SignedGradientOptim):
    """No entry beyond epsilon: the inner step along sign(g), then back into the cube."""

    def _post_step_transform_(self, param: Tensor, optim_group: dict[str, Any]) -> None:
        param.clamp_(min=-optim_group["epsilon"], max=optim_group["epsilon"])


class ChainedParamTransformingOptimizer(ParamTransformingOptimizer):
    """Several transforms in a row around one inner step.

    Args:
        *transforming_optimizers: classes of this file, or functools.partial of them with their own options; the first
            one transforms first.
        params, InnerOpt, **options: as `ParamTransformingOptimizer`; options of a group reach every transform.
    """

    def __init__(
        self,
        *transforming_optimizers: Callable[..., ParamTransformingOptimizer],
        params: Any = None,
        InnerOpt: Inner = SGD,
        defaults: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(params, InnerOpt, defaults=defaults, **options)
        self._chain: list[ParamTransformingOptimizer] = []
        for make in transforming_optimizers:
            link = make(None, InnerOpt=self.inner_opt, defaults=self.defaults)
            if not isinstance(link, ParamTransformingOptimizer):
                raise InputError(f"expected transforming optimisers, got one that makes a {type(link).__name__}")
            self._chain.append(link)
            self.defaults = {**link.defaults, **self.defaults}

    def check_options(self, group: dict[str, Any]) -> None:
        super().check_options(group)
        for link in getattr(self, "_chain", ()):
            link.check_options(group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for link in self._chain:
            link._share()

    def _pre_step_transform_(self, param: Tensor, optim_group: dict[str, Any]) -> None:
        for link in self._chain:
            link._pre_step_transform_(param, optim_group)

    def _post_step_transform_(self, param: Tensor, optim_group: dict[str, Any]) -> None:
        for link in self._chain:
            link._post_step_transform_(param, optim_group)


class FrankWolfeStep(Optimizer):
    """delta <- (1 - a) delta - a lmo_scaling_factor g, for gradients that are vertices of a ball already.

    The inner step that makes a Frank-Wolfe optimiser of a transform, such as `L1qNormedGradientOptim(params,
    InnerOpt=FrankWolfeStep, q=.9, lmo_scaling_factor=epsilon)`; a = lr / (lr + t) in step t, or lr
    without the schedule.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 2.0,
        lmo_scaling_factor: float = 1.0,
        use_default_lr_schedule: bool = True,
        div_by_zero_eps: float = _TINY,
    ) -> None:
        most = torch.inf if use_default_lr_schedule else 1.0
        check_number("lr", lr, 0.0, most, f"a number from 0 {'on' if use_default_lr_schedule else 'to 1'}")
        check_number("lmo_scaling_factor", lmo_scaling_factor, -torch.inf, torch.inf, "a finite number")
        self.scheduled, self.least = use_default_lr_schedule, div_by_zero_eps
        super().__init__(params, {"lr": lr, "lmo_scaling_factor": lmo_scaling_factor})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - torch's has overloads
        """Move every parameter that has a gradient; returns what the closure does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    t = state.get("step", 0)
                    a = group["lr"] / max(self.least, group["lr"] + t) if self.scheduled else group["lr"]
                    parameter.mul_(1 - a).add_(parameter.grad * (-(a * group["lmo_scaling_factor"])))
                    state["step"] = t + 1
        return loss
