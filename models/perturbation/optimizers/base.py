"""What the optimisers of perturbations share: images as rows, options of a group, gradients that are numbers.

A parameter holds a batch of perturbations: its first dimension counts the images, and each is treated by itself.
A parameter of one dimension holds images of one entry each. `param_ndim` says it otherwise: how many of the last
dimensions make up one image (negative: how many of the first ones count images), or None where the whole parameter is
one image, as a perturbation is that all pictures share.
"""

import inspect
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from conceptry.models.errors import InputError

# Torch wraps this method so that its compiler leaves it alone, and the wrapper imports the compiler: seconds and
# 200 MB in a process that compiles nothing.
_add_param_group = inspect.unwrap(Optimizer.add_param_group)


class PerImageOptimizer(Optimizer):
    """An optimiser whose step treats every image by itself; see FrankWolfe and Projected.

    Its options hold `param_ndim`, see above.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _add_param_group(self, param_group)
        group = self.param_groups[-1]
        for parameter in group["params"]:
            if (parameter.ndim == 0 and group["param_ndim"]) or not parameter.is_floating_point():
                raise InputError(
                    f"a perturbation must be a tensor of real numbers with the batch as its first dimension, got "
                    f"{parameter.dtype} of shape {tuple(parameter.shape)}"
                )
            image_count(parameter, group["param_ndim"])
        self.check_options(group)

    @abstractmethod
    def check_options(self, group: dict[str, Any]) -> None:
        """Raise InputError for options of a group of parameters that are not acceptable."""

    @abstractmethod
    def update(self, delta: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]) -> Tensor:
        """Take one step in place.

        Args:
            delta: (batch, entries) perturbations.
            gradient: the same shape, of float32 at the least.
            group: the options; state: what the optimiser remembers of this parameter.

        Returns:
            (batch,) numbers that are finite wherever the gradient is.
        """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - torch's has overloads
        """Move every parameter that has a gradient one step, in place; returns what the closure does.

        Raises InputError for a gradient that holds NaN or infinity; elsewhere than on the CPU, where looking would
        make the host wait, such a gradient gives a perturbation or a gap that is not finite.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.move()
        return loss

    @torch.no_grad()
    def move(self) -> None:
        """`step` without what torch wraps around it: hooks, and a profiler's record that costs as much as the step."""
        for group in self.param_groups:
            self.prepare(group)
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.numel():
                    self._move_parameter(parameter, parameter.grad, group)

    def prepare(self, group: dict[str, Any]) -> None:
        """What happens once a step, before the parameters of a group."""

    def _move_parameter(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        batch = image_count(parameter, group["param_ndim"])
        if gradient.is_sparse:
            raise InputError("a perturbation's gradient must be dense, got a sparse one")
        gradient = gradient.reshape(batch, -1)
        if gradient.dtype in (torch.float16, torch.bfloat16):
            gradient = gradient.float()
        contiguous = parameter.is_contiguous() and parameter.dtype == gradient.dtype
        delta = parameter.view(batch, -1) if contiguous else parameter.reshape(batch, -1).to(gradient.dtype, copy=True)
        finite = self.update(delta, gradient, group, self.state[parameter])
        if finite.device.type == "cpu" and not math.isfinite(float(finite.sum())):
            wrong = (~gradient.isfinite()).sum(dim=1)
            if bool(wrong.any()):
                image = int(wrong.nonzero()[0])
                raise InputError(
                    f"the gradient must be finite, but that of image {image} holds NaN or infinity in "
                    f"{int(wrong[image])} of {gradient.shape[1]} entries"
                )
        if not contiguous:
            parameter.copy_(delta.view(parameter.shape))


def image_count(parameter: Tensor, param_ndim: int | None) -> int:
    """How many images a parameter holds. Raises InputError for a `param_ndim` that its dimensions do not allow."""
    if param_ndim is None:
        return 1
    if not isinstance(param_ndim, int) or isinstance(param_ndim, bool) or abs(param_ndim) > parameter.ndim:
        raise InputError(
            f"param_ndim must be None or a whole number from {-parameter.ndim} to {parameter.ndim} for a parameter of "
            f"shape {tuple(parameter.shape)}, got {param_ndim!r}"
        )
    leading = parameter.ndim - param_ndim if param_ndim >= 0 else -param_ndim
    return math.prod(parameter.shape[:leading])


def radius_of(group: dict[str, Any], delta: Tensor) -> Any:
    """epsilon of a group: a number, or one for each image as (batch, 1), of the type and on the device of delta."""
    epsilon = group["epsilon"]
    return epsilon.to(delta)[:, None] if isinstance(epsilon, Tensor) else epsilon


def check_above_0(group: dict[str, Any]) -> None:
    """Check the options that every optimiser has: epsilon, one for all or for each image, lr and div_by_zero_eps."""
    least, wanted = torch.finfo(torch.float32).tiny, "a finite number above 0"
    check_per_image("epsilon", group["epsilon"], least, math.inf, wanted, group)
    check_number("lr", group["lr"], least, math.inf, wanted)
    if group["div_by_zero_eps"] is not None:
        check_number("div_by_zero_eps", group["div_by_zero_eps"], 0.0, math.inf, "a finite number of at least 0")


def check_number(name: str, value: Any, low: float, high: float, wanted: str) -> None:
    """Check that `value` is a number in [low, high]; `wanted` says so."""
    fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (fits and math.isfinite(value) and low <= value <= high):
        raise InputError(f"{name} must be {wanted}, got {value!r}")


def check_per_image(name: str, value: Any, low: float, high: float, wanted: str, group: dict[str, Any]) -> None:
    """check_number, or the same of every number of a tensor (batch,): one for each image of the group's parameters."""
    if not isinstance(value, Tensor):
        check_number(name, value, low, high, f"{wanted}, or a tensor with one for each image")
        return
    batches = sorted({image_count(parameter, group["param_ndim"]) for parameter in group["params"]})
    if value.ndim != 1 or [len(value)] != batches or value.is_complex() or value.dtype == torch.bool:
        shapes = " and ".join(f"({batch},)" for batch in batches)
        raise InputError(
            f"{name} must be a number or a tensor with one for each image, of shape {shapes}, got {value.dtype} of "
            f"shape {tuple(value.shape)}"
        )
    for image, number in enumerate(value.tolist()):
        check_number(f"{name} of image {image}", number, low, high, wanted)
