"""What the optimisers of perturbations share: images as rows, options of a group, gradients that are numbers.

A parameter holds a batch of perturbations: its first dimension counts the images, and each is treated by itself.
A parameter of one dimension holds images of one entry each.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from conceptry.models.errors import InputError


class PerImageOptimizer(Optimizer):
    """An optimiser whose step treats every image by itself; see FrankWolfe and Projected."""

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for parameter in group["params"]:
            if parameter.ndim == 0 or not parameter.is_floating_point():
                raise InputError(
                    f"a perturbation must be a tensor of real numbers with the batch as its first dimension, got "
                    f"{parameter.dtype} of shape {tuple(parameter.shape)}"
                )
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

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - torch's has overloads
        """Move every parameter that has a gradient one step, in place.

        Raises InputError for a gradient that holds NaN or infinity; elsewhere than on the CPU, where looking would
        make the host wait, they show as a gap that is not finite.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self.prepare(group)
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.numel():
                    self._step_parameter(parameter, group)
        return loss

    def prepare(self, group: dict[str, Any]) -> None:
        """What happens once a step, before the parameters of a group."""

    def _step_parameter(self, parameter: Tensor, group: dict[str, Any]) -> None:
        batch = len(parameter)
        gradient = parameter.grad
        assert gradient is not None
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


def check_per_image(name: str, value: Any, low: float, high: float, wanted: str, group: dict[str, Any]) -> None:
    """Check that a number, or each of a tensor (batch,), lies in [low, high]; `wanted` says so."""
    if isinstance(value, Tensor):
        batches = sorted({len(p) for p in group["params"]})
        fits = value.ndim == 1 and [len(value)] == batches and not value.is_complex() and value.dtype != torch.bool
        if not fits:
            raise InputError(
                f"{name} must be a number or a tensor with one number an image, ({', '.join(map(str, batches))},), "
                f"got {value.dtype} of shape {tuple(value.shape)}"
            )
        wrong = [v for v in value.tolist() if not (math.isfinite(v) and low <= v <= high)]
    else:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        wrong = [] if fits and math.isfinite(value) and low <= value <= high else [value]
    if wrong:
        raise InputError(f"{name} must be {wanted}, got {wrong[0]!r}")
