"""Perturbations of a form of their own: one that all pictures share, and where it starts from.

| symbol | meaning | shape |
|---|---|---|
| x | pictures | (batch, ...) |
| delta | perturbation; a universal one has no batch dimension | as x, or as its last dimensions |

`AdditivePerturbation` is x + delta. The uniform draws within norm balls:

| ball | draw |
|---|---|
| L1 | gaps between sorted uniform numbers, which are uniform in the simplex, with signs |
| L2 | the first n coordinates of a point on the sphere of n + 2 dimensions |
| Linf | every entry by itself |

Voelker, Gosmann, Stewart, "Efficiently sampling vectors and coordinates from the n-sphere and n-ball", 2017.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.perturbation.optimizers.base import check_number, image_count


@runtime_checkable
class PerturbationModel(Protocol):
    """Pictures to perturbed pictures of the same shape, not in place; its parameters are what an optimiser moves."""

    def __call__(self, data: Tensor, /) -> Tensor: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


class AdditivePerturbation(nn.Module):
    """x + delta, where delta may be one for each picture or, by broadcasting, one for all.

    Args:
        data_or_shape: pictures (batch, ...), whose type and device delta takes, or a shape.
        init_fn: changes delta in place, of zeros, to what it starts from, such as `uniform_like_l2_n_ball_`.
        device, dtype: of delta, in place of those of the pictures.
        delta_ndim: how many of the last dimensions delta has; negative: how many of the first ones it lacks, so that
            -1 is a universal perturbation; None for all of them.
        **init_fn_kwargs: of `init_fn`.

    Example:
        >>> import torch
        >>> from conceptry.models.perturbation import AdditivePerturbation
        >>> AdditivePerturbation(torch.zeros(8, 3, 32, 32), delta_ndim=-1).delta.shape
        torch.Size([3, 32, 32])
    """

    def __init__(
        self,
        data_or_shape: Tensor | Sequence[int],
        init_fn: Callable[..., Any] | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        delta_ndim: int | None = None,
        **init_fn_kwargs: Any,
    ) -> None:
        super().__init__()
        like = data_or_shape if isinstance(data_or_shape, Tensor) else torch.empty(0)
        shape = tuple(data_or_shape.shape if isinstance(data_or_shape, Tensor) else data_or_shape)
        if delta_ndim is not None:
            if not isinstance(delta_ndim, int) or abs(delta_ndim) > len(shape):
                raise InputError(f"delta_ndim must be from {-len(shape)} to {len(shape)}, got {delta_ndim!r}")
            shape = shape[len(shape) - delta_ndim if delta_ndim >= 0 else -delta_ndim :]
        if init_fn is None and init_fn_kwargs:
            raise InputError(f"{next(iter(init_fn_kwargs))} is of an init_fn, and none is given")
        self.delta = nn.Parameter(torch.zeros(shape, dtype=dtype or like.dtype, device=device or like.device))
        if init_fn is not None:
            init_fn(self.delta, **init_fn_kwargs)

    def forward(self, data: Tensor) -> Tensor:
        """Pictures (batch, ...) to x + delta."""
        return data + self.delta


@torch.no_grad()
def uniform_like_l1_n_ball_(
    x: Tensor, epsilon: float = 1.0, param_ndim: int | None = -1, generator: torch.Generator | None = None
) -> None:
    """Overwrite x by draws that are uniform within the L1 ball.

    Args:
        x: (batch, ...), whose images are drawn by themselves.
        epsilon: radius, above 0.
        param_ndim: how many of the last dimensions make up one image; negative: how many of the first ones count
            images; None: all are one image.
        generator: of the draws; None for torch's own.
    """
    count, source = _rows(x, epsilon, param_ndim), _source(generator)
    drawn = torch.rand(count, x.numel() // count, dtype=x.dtype, device=source.device, generator=source)
    ordered = drawn.sort(dim=1).values
    gaps = ordered.diff(dim=1, prepend=ordered.new_zeros(count, 1))
    signs = torch.empty_like(gaps).uniform_(-1, 1, generator=source).sign_()
    x.copy_((epsilon * (signs * gaps)).view(x.shape))


@torch.no_grad()
def uniform_like_l2_n_ball_(
    x: Tensor, epsilon: float = 1.0, param_ndim: int | None = -1, generator: torch.Generator | None = None
) -> None:
    """Overwrite x by draws that are uniform within the L2 ball; arguments as of `uniform_like_l1_n_ball_`."""
    count, source = _rows(x, epsilon, param_ndim), _source(generator)
    entries = x.numel() // count
    drawn = torch.empty(count, entries + 2, dtype=x.dtype, device=source.device).normal_(generator=source)
    drawn /= torch.linalg.vector_norm(drawn, dim=1, keepdim=True)
    x.copy_((epsilon * drawn[:, :entries]).reshape(x.shape))


@torch.no_grad()
def uniform_like_linf_n_ball_(
    x: Tensor, epsilon: float = 1.0, param_ndim: int | None = None, generator: torch.Generator | None = None
) -> None:
    """Overwrite x by draws that are uniform within the Linf ball, every entry by itself whatever `param_ndim` is."""
    _rows(x, epsilon, param_ndim)
    source = _source(generator)
    x.copy_(torch.empty(x.shape, dtype=x.dtype, device=source.device).uniform_(-epsilon, epsilon, generator=source))


def _rows(x: Tensor, epsilon: float, param_ndim: int | None) -> int:
    check_number("epsilon", epsilon, torch.finfo(torch.float32).tiny, torch.inf, "a finite number above 0")
    return image_count(x, param_ndim)


def _source(generator: torch.Generator | None) -> torch.Generator:
    return torch.default_generator if generator is None else generator
