"""A problem for the solver: images, targets, model and criterion, checked once before the first step."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from conceptry.models.errors import InputError

Start = Tensor | Callable[[torch.Generator], Tensor]
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False)
class Problem:
    """Checked arguments of `gradient.solve`."""

    model: Callable[[Tensor], Any]
    data: Tensor
    target: Any
    criterion: Callable[[Any, Any], Tensor] | None
    bounds: tuple[Tensor, Tensor] | None
    support: Tensor | None
    start: Tensor
    confidence: float | None
    precision: str

    def outputs(self, delta: Tensor) -> Any:
        """The model's outputs at x + delta; those of a lower precision in that of the pictures."""
        lower = PRECISIONS[self.precision]
        if lower is None:
            return self.model(self.data + delta)
        with torch.autocast(self.data.device.type, dtype=lower):
            outputs = self.model(self.data + delta)
        return outputs.to(self.data.dtype) if isinstance(outputs, Tensor) else outputs

    def losses(self, outputs: Any) -> Tensor:
        """(batch,) the criterion."""
        if self.criterion is None:
            return functional.cross_entropy(outputs, self.target, reduction="none")
        return self.criterion(outputs, self.target)

    def check_outputs(self, outputs: Any) -> None:
        """Raise InputError for outputs that the criterion or the confidence cannot be taken of."""
        if self.criterion is not None and self.confidence is None:
            return
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(self.data):
            raise InputError(
                f"the model must return logits of shape ({len(self.data)}, classes) for cross-entropy and confidence, "
                f"got {shape}; pass a criterion for other outputs"
            )
        wrong = (self.target < 0) | (self.target >= outputs.shape[1])
        if bool(wrong.any()):
            image = int(wrong.nonzero()[0])
            raise InputError(
                f"target must hold classes from 0 to {outputs.shape[1] - 1}, got {int(self.target[image])} for "
                f"image {image}"
            )

    def check_losses(self, losses: Any) -> None:
        """Raise InputError for a criterion that is not one differentiable number an image."""
        if not isinstance(losses, Tensor) or losses.shape != (len(self.data),):
            got = f"shape {tuple(losses.shape)}" if isinstance(losses, Tensor) else f"a {type(losses).__name__}"
            raise InputError(f"criterion must return one loss an image, shape ({len(self.data)},), got {got}")
        if torch.is_grad_enabled() and not losses.requires_grad:
            raise InputError(
                "the loss does not depend on the pictures in a way that torch can differentiate; does the model "
                "leave torch, detach its outputs or work without gradients?"
            )


def check_problem(
    *,
    model: Callable[[Tensor], Any],
    data: Tensor,
    target: Any,
    optimizer: Any,
    steps: int,
    criterion: Callable[[Any, Any], Tensor] | None,
    pixel_range: tuple[float, float] | None,
    support: Tensor | None,
    start: Start | None,
    seed: int,
    confidence: float | None,
    precision: str,
    compile: bool,
) -> Problem:
    """Check the arguments of `gradient.solve`, which documents them."""
    if not callable(model):
        raise InputError(f"model must be a torch module or a function of pictures, got a {type(model).__name__}")
    if not isinstance(data, Tensor) or not data.is_floating_point() or data.ndim == 0 or not data.numel():
        got = f"{data.dtype} of shape {tuple(data.shape)}" if isinstance(data, Tensor) else f"a {type(data).__name__}"
        raise InputError(f"data must be a tensor of real numbers with at least one picture, got {got}")
    data = data.clone() if data.is_inference() else data.detach()
    if not bool(data.isfinite().all()):
        raise InputError("data must be finite, got NaN or infinity")
    if isinstance(optimizer, torch.optim.Optimizer) or not callable(optimizer):
        raise InputError(
            f"optimizer must be a class, or a function that makes an optimiser of ([delta], **options), got "
            f"{type(optimizer).__name__}"
        )
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
        raise InputError(f"steps must be a whole number of at least 0, got {steps!r}")
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if confidence is not None and not (isinstance(confidence, (int, float)) and 0 < confidence <= 1):
        raise InputError(f"confidence must be a probability above 0 and at most 1, got {confidence!r}")
    target = _checked_target(target, data, classes=criterion is None or confidence is not None)
    support = _checked_support(support, data)
    delta = _checked_start(start, seed, data)
    bounds = _checked_bounds(pixel_range, data)
    if support is not None:
        delta *= support
    if bounds is not None:
        torch.clamp(delta, *bounds, out=delta)
    if compile:
        model = torch.compile(model)
    return Problem(model, data, target, criterion, bounds, support, delta, confidence, precision)


def _checked_target(target: Any, data: Tensor, classes: bool) -> Any:
    if not classes:
        return target
    if not isinstance(target, Tensor):
        try:
            target = torch.as_tensor(target, device=data.device)
        except (TypeError, ValueError, RuntimeError):
            raise InputError(f"target must hold one class an image, got a {type(target).__name__}") from None
    if target.is_floating_point() or target.dtype == torch.bool or target.shape != (len(data),):
        raise InputError(
            f"target must hold one class an image, integers of shape ({len(data)},), got {target.dtype} of shape "
            f"{tuple(target.shape)}"
        )
    if target.device != data.device:
        raise InputError(f"data is on {data.device}, but target is on {target.device}")
    return target.long()


def _checked_support(support: Tensor | None, data: Tensor) -> Tensor | None:
    if support is None:
        return None
    if not isinstance(support, Tensor) or support.dtype != torch.bool:
        got = support.dtype if isinstance(support, Tensor) else type(support).__name__
        raise InputError(f"support must be a boolean tensor, got {got}")
    try:
        return support.to(data.device).expand(data.shape)
    except RuntimeError:
        raise InputError(
            f"support must broadcast to the pictures' shape {tuple(data.shape)}, got {tuple(support.shape)}"
        ) from None


def _checked_start(start: Start | None, seed: int, data: Tensor) -> Tensor:
    """A new tensor, which no later run shares."""
    if start is None:
        return torch.zeros_like(data, memory_format=torch.contiguous_format)
    if not isinstance(start, Tensor):
        if not callable(start):
            raise InputError(f"start must be a tensor or a function of a generator, got a {type(start).__name__}")
        start = start(torch.Generator().manual_seed(seed))
    if not isinstance(start, Tensor) or start.shape != data.shape:
        got = tuple(start.shape) if isinstance(start, Tensor) else type(start).__name__
        raise InputError(f"start must have the pictures' shape {tuple(data.shape)}, got {got}")
    start = start.detach().to(data, copy=True).contiguous()
    if not bool(start.isfinite().all()):
        raise InputError("start must be finite, got NaN or infinity")
    return start


def _checked_bounds(pixel_range: Any, data: Tensor) -> tuple[Tensor, Tensor] | None:
    """What delta may be, as the pictures: from <= 0 to >= 0, so that the cut shortens delta in every norm."""
    if pixel_range is None:
        return None
    fits = isinstance(pixel_range, (tuple, list)) and len(pixel_range) == 2
    low, high = pixel_range if fits else (math.nan, math.nan)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"pixel_range must be two finite numbers, the least first, got {pixel_range!r}")
    least, most = float(data.min()), float(data.max())
    if least < low or most > high:
        raise InputError(f"pixel_range is {low:g} to {high:g}, but data reaches from {least:g} to {most:g}")
    return low - data, high - data
