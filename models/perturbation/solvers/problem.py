"""A problem for the solver: images, targets, model and criterion, checked once before the first step."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from conceptry.models.errors import InputError, closest
from conceptry.models.perturbation.solvers.perturbations import PerturbationModel

Start = Tensor | Callable[[torch.Generator], Tensor]
Reduction = Callable[[Tensor], Tensor]
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False)
class Problem:
    """Checked arguments of `gradient.solve`.

    start: delta before the first step, a leaf; it is what moves, unless there is a `perturbation` of another form.
    """

    model: Callable[[Tensor], Any]
    data: Tensor
    target: Any
    criterion: Callable[[Any, Any], Tensor] | None
    bounds: tuple[Tensor, Tensor] | None
    support: Tensor | None
    start: Tensor
    confidence: float | None
    precision: str
    perturbation: PerturbationModel | None = None
    reduction: Reduction | None = None

    @property
    def parameters(self) -> list[Tensor]:
        """What the optimiser moves."""
        if self.perturbation is None:
            return [self.start]
        return [parameter for parameter in self.perturbation.parameters() if parameter.requires_grad]

    def perturbed(self) -> Tensor:
        """The pictures as the parameters have them now, differentiable in these."""
        return self.data + self.start if self.perturbation is None else self.perturbation(self.data)

    def outputs(self, perturbed: Tensor) -> Any:
        """The model's outputs; those of a lower precision in that of the pictures.

        The model is given a copy: one that works in place would write on the iterate.
        """
        lower, perturbed = PRECISIONS[self.precision], perturbed.clone()
        if lower is None:
            return self.model(perturbed)
        with torch.autocast(self.data.device.type, dtype=lower):
            outputs = self.model(perturbed)
        return outputs.to(self.data.dtype) if isinstance(outputs, Tensor) else outputs

    def losses(self, outputs: Any) -> Tensor:
        """(batch,) the criterion."""
        if self.criterion is None:
            return functional.cross_entropy(outputs, self.target, reduction="none")
        return self.criterion(outputs, self.target)

    def gradients(self, losses: Tensor, parameters: list[Tensor], sign: float, scale: float) -> list[Tensor | None]:
        """The gradient of scale times the reduced losses in each parameter, divided by scale; sign: 1 to minimise."""
        if self.reduction is None:
            value, weight = losses, torch.full_like(losses, sign * scale)
        else:
            value = self.reduction(sign * losses)
            if not isinstance(value, Tensor) or value.ndim:
                got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
                raise InputError(f"reduction_fn must return one number for all losses, got {got}")
            weight = torch.full_like(value, scale)
        found = torch.autograd.grad(value, parameters, weight, allow_unused=self.perturbation is not None)
        if scale != 1.0:
            found = [None if gradient is None else gradient / scale for gradient in found]
        return [g if g is None or self.support is None else g * self.support for g in found]

    def check_perturbed(self, perturbed: Any) -> None:
        """Raise InputError for a perturbation model that makes something else than pictures of the same shape."""
        if not isinstance(perturbed, Tensor) or perturbed.shape != self.data.shape:
            got = tuple(perturbed.shape) if isinstance(perturbed, Tensor) else f"a {type(perturbed).__name__}"
            raise InputError(f"perturbation_model must return the pictures' shape {tuple(self.data.shape)}, got {got}")

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
    perturbation_model: Any = None,
    reduction_fn: Reduction | None = None,
    options: Mapping[str, Any] | None = None,
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
    perturbation = _checked_perturbation(perturbation_model, data, pixel_range, support, start)
    _check_optimizer(optimizer, perturbation is not None and perturbation is perturbation_model, options or {})
    if reduction_fn is not None and not callable(reduction_fn):
        raise InputError(f"reduction_fn must be a function of (batch,) losses, got a {type(reduction_fn).__name__}")
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
    delta.requires_grad_(perturbation is None)
    return Problem(
        model, data, target, criterion, bounds, support, delta, confidence, precision, perturbation, reduction_fn
    )


def check_keywords(call: str, known: Iterable[str], optimizer: Any, options: Mapping[str, Any]) -> None:
    """Raise InputError for an option that neither the function `call`, of arguments `known`, nor the optimiser has.

    Says nothing of an optimiser that takes any option or is made already.
    """
    taken = None if isinstance(optimizer, Optimizer) else _option_names(optimizer, options.get("InnerOpt"))
    if taken is None:
        return
    names = [*dict.fromkeys([*known, *taken])]
    for name in options:
        if name not in names:
            near = closest(name, names) or sorted(names)
            raise InputError(
                f"{call} has no argument {name!r}, and {_name_of(optimizer)} no such option; expected one such as "
                f"{', '.join(near)}"
            )


def _option_names(optimizer: Any, inner: Any = None) -> list[str] | None:
    """The keywords that an optimiser takes after its parameters, those of its inner one included; None for any."""
    make = optimizer
    if isinstance(optimizer, partial):
        make, inner = optimizer.func, inner or optimizer.keywords.get("InnerOpt")
    names: list[str] = []
    for part in make.__mro__ if isinstance(make, type) else [make]:
        if part is Optimizer and inner is None:  # some class before it takes any keyword
            return None
        if isinstance(part, type) and "__init__" not in part.__dict__:
            continue
        try:
            parameters = inspect.signature(part.__init__ if isinstance(part, type) else part).parameters
        except (TypeError, ValueError):  # of a compiled function
            return None
        names += [name for name, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if "InnerOpt" in parameters:
            inner = inner or parameters["InnerOpt"].default
        if not any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
            more = [] if inner is None else _option_names(inner)
            return None if more is None else [name for name in (*names, *more) if name not in ("self", "params")]
    return None


def _name_of(optimizer: Any) -> str:
    make = optimizer.func if isinstance(optimizer, partial) else optimizer
    return getattr(make, "__name__", type(make).__name__)


def _check_optimizer(optimizer: Any, shared: bool, options: Mapping[str, Any]) -> None:
    """shared: the perturbation model is the user's own object, so that an optimiser may have its parameters already."""
    if not isinstance(optimizer, Optimizer):
        if not callable(optimizer):
            raise InputError(
                f"optimizer must be a class, or a function that makes an optimiser of ([delta], **options), got "
                f"{type(optimizer).__name__}"
            )
        return
    if not shared:
        raise InputError(
            f"optimizer must be a class, or a function that makes an optimiser of ([delta], **options), got "
            f"{type(optimizer).__name__} made already; that needs a perturbation_model made already, whose parameters "
            "it moves"
        )
    if options:
        raise InputError(
            f"{next(iter(options))} is an option of an optimiser to be made, and {type(optimizer).__name__} is made "
            "already; leave it out"
        )


def _checked_perturbation(
    perturbation_model: Any, data: Tensor, pixel_range: Any, support: Any, start: Any
) -> PerturbationModel | None:
    """The perturbation model, made from the pictures where it is a class or a function."""
    if perturbation_model is None:
        return None
    for name, value in (("pixel_range", pixel_range), ("support", support), ("start", start)):
        if value is not None:
            raise InputError(f"{name} is of a delta for each picture, and perturbation_model has parameters of its own")
    made = perturbation_model
    if isinstance(made, type) or (callable(made) and not hasattr(made, "parameters")):
        made = made(data)
    if not isinstance(made, PerturbationModel):
        raise InputError(
            f"perturbation_model must be a torch module of pictures, or make one of them, got {type(made).__name__}"
        )
    if not any(parameter.requires_grad for parameter in made.parameters()):
        raise InputError("perturbation_model has no parameter that asks for a gradient")
    return made


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
