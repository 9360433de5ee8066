"""Optimisers that transform gradients before, or parameters after, the step of another one; rai-toolbox's own names.

| class | g becomes | then delta becomes |
|---|---|---|
| `L1NormedGradientOptim`, `L2NormedGradientOptim` | g / ||g|| | step |
| `SignedGradientOptim` | sign(g) | step |
| `TopQGradientOptimizer` | its k largest entries of abs(g), else 0 | step |
| `L1qNormedGradientOptim` | the signs of these, over their number | step |
| `ClampedGradientOptimizer` | g cut to [clamp_min, clamp_max] | step |
| `ClampedParameterOptimizer` | g | step, cut to [clamp_min, clamp_max] |
| `L2ProjectedOptim` | g / ||g||_2 | step, scaled back into the L2 ball |
| `LinfProjectedOptim` | sign(g) | step, cut to [-epsilon, epsilon] |
| `ChainedParamTransformingOptimizer` | one transform after the other | step, one after the other |

| symbol | meaning | shape |
|---|---|---|
| g | gradient, an image a row; `param_ndim` says what an image is (base.py) | (images, ...) |
| delta | perturbation | as g |
| k | round((1 - q) entries) | scalar |

The step is that of `InnerOpt`, torch's SGD by default. Where nothing but plain steps and a norm ball are wanted, the
optimisers of frank_wolfe.py and projected.py do the same with checks and at less cost.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from conceptry.models.errors import InputError
from conceptry.models.perturbation.optimizers.base import check_number, image_count

Inner = Optimizer | Callable[..., Optimizer]


_TINY = torch.finfo(torch.float32).tiny


class ParamTransformingOptimizer(Optimizer):
    """Base: override `_pre_step_transform_` or `_post_step_transform_`, which change what they are given in place.

    Options, groups and state are shared with the inner optimiser: a group holds the options of both.

    Args:
        params: parameters or groups of them; None where `InnerOpt` has them already.
        InnerOpt: makes the optimiser that takes the steps, of (params, **inner_options); or such an optimiser.
        param_ndim: how many of the last dimensions make up one image; negative: how many of the first ones count
            images; None: all are one image.
        grad_scale, grad_bias: the transformed gradient is multiplied by the one, then the other is added.
        defaults: options of all groups, which go before those above.
        **inner_options: of `InnerOpt`.

    Raises:
        InputError: naming the option, what it must be and what it was.
    """

    def __init__(
        self,
        params: Any = None,
        InnerOpt: Inner = SGD,
        *,
        param_ndim: int | None = -1,
        grad_scale: float = 1.0,
        grad_bias: float = 0.0,
        defaults: Mapping[str, Any] | None = None,
        **inner_options: Any,
    ) -> None:
        own = {"param_ndim": param_ndim, "grad_scale": grad_scale, "grad_bias": grad_bias} | dict(defaults or {})
        made = InnerOpt if isinstance(InnerOpt, Optimizer) else None
        if made is not None and inner_options:
            raise InputError(f"InnerOpt is made already, so it takes no {next(iter(inner_options))}")
        if made is None and params is None:
            raise InputError("params must be given where InnerOpt is a class, got None")
        super().__init__(params if made is None else made.param_groups, own)
        self.inner_opt: Optimizer = made or InnerOpt(self.param_groups, **inner_options)  # type: ignore[operator]
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state = self.inner_opt.param_groups, self.inner_opt.state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        inner = getattr(self, "inner_opt", None)  # it is made after the first groups
        if inner is None:
            super().add_param_group(param_group)
            group = self.param_groups[-1]
        else:
            group = {**self.defaults, **param_group}
            inner.add_param_group(group)
            group = inner.param_groups[-1]
        self.check_options(group)

    def check_options(self, group: dict[str, Any]) -> None:
        """Raise InputError for options of a group that are not acceptable."""
        for name in ("grad_scale", "grad_bias"):
            check_number(name, group[name], -torch.inf, torch.inf, "a finite number")
        for parameter in group["params"]:
            image_count(parameter, group["param_ndim"])

    def _pre_step_transform_(self, param: Tensor, optim_group: dict[str, Any]) -> None:
        """Change `param.grad`, (images, ...) as `param`, in place before the inner step."""

    def _post_step_transform_(self, param: Tensor, optim_group: dict[str, Any]) -> None:
        """Change `param`, (images, ...), in place after the inner step."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - torch's has overloads
        """Transform the gradients, step, transform the parameters; returns what the closure does."""

        def transformed() -> Any:
            loss = None
            if closure is not None:
                with torch.enable_grad():
                    loss = closure()
            self._transform_gradients()
            return loss

        if closure is None:
            transformed()
        loss: Any = self.inner_opt.step(*([] if closure is None else [transformed]))
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    self._post_step_transform_(_images(parameter, parameter, group), group)
        return loss

    @torch.no_grad()
    def _transform_gradients(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                parameter.grad = parameter.grad.contiguous()
                images = _images(parameter, parameter, group).detach()
                images.grad = _images(parameter.grad, parameter, group)
                self._pre_step_transform_(images, group)
                if images.grad.data_ptr() != parameter.grad.data_ptr():
                    raise InputError(f"{type(self).__name__}: a transform must change the gradient in place")
                parameter.grad.mul_(group["grad_scale"]).add_(group["grad_bias"])

    def state_dict(self) -> dict[str, Any]:
        return self.inner_opt.state_dict()

    def __getstate__(self) -> dict[str, Any]:
        """For copies, which share groups and state with an inner optimiser of their own."""
        return self.__dict__.copy()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.inner_opt.load_state_dict(state_dict)
        self._share()


def _images(tensor: Tensor, parameter: Tensor, group: dict[str, Any]) -> Tensor:
    """A view (images, ...) of a parameter or its gradient; images have one dimension at the least."""
    count = image_count(parameter, group["param_ndim"])
    if group["param_ndim"] == -1 and tensor.ndim > 1:
        return tensor
    last = parameter.shape[parameter.ndim - _image_ndim(parameter, group["param_ndim"]) :]
    return tensor.view(count, *(last or (1,)))


def _image_ndim(parameter: Tensor, param_ndim: int | None) -> int:
    if param_ndim is None:
        return parameter.ndim
    return param_ndim if param_ndim >= 0 else parameter.ndim + param_ndim


class _NormedGradientOptim(ParamTransformingOptimizer):
    """Divides by a norm. div_by_zero_eps: what a norm counts as at the least."""

    order: float

    def __init__(
        self, params: Any = None, InnerOpt: Inner = SGD, *, div_by_zero_eps: float = _TINY, **options: Any
    ) -> None:
        check_number("div_by_zero_eps", div_by_zero_eps, 0.0, torch.inf, "a finite number of at least 0")
        self.div_by_zero_eps = div_by_zero_eps
        super().__init__(params, InnerOpt, **options)

    def _pre_step_transform_(self, param: Tensor, optim_group: dict[str, Any]) -> None:
        gradient = _gradient_of(param)
        norm = torch.linalg.vector_norm(gradient.flatten(1), ord=self.order, dim=1)
        gradient.div_(norm.clamp_(min=self.div_by_zero_eps).view(-1, *[1] * (gradient.ndim - 1)))


class L1NormedGradientOptim(_NormedGradientOptim):
    """Steps along g / ||g||_1."""

    order = 1


class L2NormedGradientOptim(_NormedGradientOptim):
    """Steps along g / ||g||_2."""

    order = 2


class SignedGradientOptim(ParamTransformingOptimizer):
    """Steps along sign(g)."""

    def _pre_step_transform_(self, param: Tensor, optim_group: dict[str, Any]) -> None:
        _gradient_of(param).sign_()


class ClampedOptimizer(ParamTransformingOptimizer):
    """Cuts to an interval. clamp_min, clamp_max: its ends, one of which may be None; by default of single entries."""

    def __init__(
        self,
        params: Any = None,
        InnerOpt: Inner = SGD,
        *,
        clamp_min: float | None = None,
        clamp_max: float | None = None,
        param_ndim: int | None = None,
        defaults: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        defaults = {"clamp_min": clamp_min, "clamp_max": clamp_max} | dict(defaults or {})
        super().__init__(params, InnerOpt, param_ndim=param_ndim, defaults=defaults, **options)

    def check_options(self, group: dict[str, Any]) -> None:
        super().check_options(group)
        low, high = group["clamp_min"], group["clamp_max"]
        if (low is None and high is None) or (low is not None and high is not None and low > high):
            raise InputError(f"clamp_min and clamp_max must be one number or two, the least first, got {low}, {high}")


class ClampedGradientOptimizer(ClampedOptimizer):
    """Cuts g."""

    def _pre_step_transform_(self, param: Tensor, optim_group: dict[str, Any]) -> None:
        _gradient_of(param).clamp_(min=optim_group["clamp_min"], max=optim_group["clamp_max"])


class ClampedParameterOptimizer(ClampedOptimizer):
    """Cuts delta after the step."""

    def _post_step_transform_(self, param: Tensor, optim_group: dict[str, Any]) -> None:
        param.clamp_(min=optim_group["clamp_min"], max=optim_group["clamp_max"])


def _gradient_of(images: Tensor) -> Tensor:
    gradient = images.grad
    assert gradient is not None  # `_transform_gradients` calls where there is one
    return gradient
