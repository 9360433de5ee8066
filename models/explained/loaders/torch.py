"""Torch modules over tables, pictures and point clouds, with gradients where the module lets them through.

| symbol | meaning | shape |
|---|---|---|
| r | a row as the module takes it | (k,) |
| x = (r - mean) / std | the same row in units of spread, the space in which a baseline is learned | (k,) |
| c | a cloud of points | (points, 3) |

A module over pictures takes them in [0, 1] and holds its own normalisation; see `explained.image_inputs`.
"""

from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.explained.base import Description, ModelBase, Source
from conceptry.models.explained.image_inputs import Scaling, TorchImages, as_matrix, floating_type, one_output
from conceptry.models.explained.signature import Inputs
from conceptry.models.explained.tables import reason_of, typed_frame


class TorchTable(ModelBase):
    """A module over rows (batch, k) of type `dtype`, its own where it computes in fractions."""

    def __init__(
        self,
        description: Description,
        source: Source,
        module: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(description, source)
        self.module, self.device, self.dtype = module, device, dtype

    def __call__(self, inputs: pd.DataFrame) -> np.ndarray:
        with torch.no_grad():
            return self.outputs(lambda: one_output(self.module(self._raw(inputs))), len(inputs))

    def _raw(self, rows: pd.DataFrame) -> Tensor:
        frame = typed_frame(rows, self.columns, fractions=self.dtype.is_floating_point)
        # By way of float64 alone where the module takes fractions: that changes whole numbers above 2^53.
        values = frame.to_numpy(np.float64 if self.dtype.is_floating_point else None)
        return torch.tensor(values, dtype=self.dtype, device=self.device)


class DifferentiableTorchTable(TorchTable):
    """A module over rows whose outputs can be differentiated; `encode` gives standardised columns."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        spread = [column.std or 1.0 for column in self.columns]
        self._mean = torch.tensor([column.mean or 0.0 for column in self.columns], device=self.device)
        self._std = torch.tensor(spread, device=self.device)

    def encode(self, inputs: pd.DataFrame) -> Tensor:
        return (self._raw(inputs).float() - self._mean) / self._std

    def forward(self, x: Tensor) -> Tensor:
        return as_matrix(one_output(self.module((x * self._std + self._mean).to(self.dtype))))

    def feature_owner(self, inputs: pd.DataFrame) -> Tensor:
        return torch.arange(len(self.columns), device=self.device)


class TorchPoints(ModelBase):
    """A module over clouds of `size` points (None: of any number), as float32 (batch, points, 3)."""

    def __init__(
        self, description: Description, source: Source, module: nn.Module, device: torch.device, size: int | None
    ) -> None:
        super().__init__(description, source)
        self.module, self.device, self.size = module, device, size
        self._dtype = floating_type(module)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.outputs(lambda: self.forward(self.encode(inputs)), len(inputs))

    def encode(self, inputs: np.ndarray) -> Tensor:
        clouds = torch.tensor(np.asarray(inputs), dtype=torch.float32, device=self.device)
        if clouds.ndim != 3 or clouds.shape[2] != 3 or self.size not in (None, clouds.shape[1]):
            raise InputError(
                f"{self.name}: takes clouds of {self.size or 'any number of'} points (batch, points, 3), "
                f"got {tuple(clouds.shape)}"
            )
        return clouds

    def forward(self, x: Tensor) -> Tensor:
        # A copy, since the module may write on its input.
        return as_matrix(one_output(self.module(x.to(self._dtype, copy=True))))

    def feature_owner(self, inputs: np.ndarray) -> Tensor:
        points = self.encode(inputs).shape[1]
        return torch.arange(points, device=self.device)[:, None].expand(points, 3)


def example_clouds(shape: tuple[int, ...]) -> np.ndarray:
    """Two clouds (2, points, 3) that a module over clouds of `shape` can be tried on."""
    points = shape[0] if shape[0] > 0 else 64
    return np.random.default_rng(0).normal(size=(2, points, 3))


def lets_gradients_through(module: nn.Module, batch: Tensor) -> bool:
    """Whether the outputs of `module` can be differentiated in its input at all."""
    if not batch.is_floating_point():
        return False
    with torch.enable_grad():
        x = batch.detach().clone().requires_grad_()
        outputs = one_output(module(x.clone()))  # a leaf cannot be written on
        if not outputs.requires_grad:
            return False
        (gradient,) = torch.autograd.grad(outputs.sum(), x, allow_unused=True)
    return gradient is not None


def try_batches(module: nn.Module, sample: Tensor, name: str) -> None:
    """Raise InputError where `module` fails, or was exported for one size of batch; sample: (1, *shape)."""
    reasons: dict[int, str] = {}
    with torch.no_grad():
        for rows in (1, 2, 3):
            try:
                module(sample.repeat(rows, *[1] * (sample.ndim - 1)))
            except ConceptryError:
                raise
            except Exception as error:  # a guard of the exported graph, or whatever a module raises
                reasons[rows] = reason_of(error)
    if len(reasons) == 3:
        raise InputError(
            f"{name}: the model failed on 2 samples of shape {tuple(sample.shape[1:])} and type "
            f"{str(sample.dtype).removeprefix('torch.')}: {reasons[2]}"
        )
    for rows, reason in reasons.items():
        raise InputError(
            f"{name}: the module does not take a batch of {rows} ({reason}); log it again with an "
            "input example of two rows or more, which leaves the size of the batch free"
        )


def exported_on(module: nn.Module, archive: Path, device: torch.device) -> nn.Module:
    """The module of a pt2 archive on `device`: its graph may name the device that it was exported on.

    A graph has the mode that it was exported in for good: `train` and `eval`, which torch refuses, leave it as it is.
    """
    if any(tensor.device.type != device.type for tensor in (*module.parameters(), *module.buffers())):
        from torch.export.passes import move_to_device_pass

        module = move_to_device_pass(torch.export.load(archive), device).module()

    def keep(self: nn.Module, mode: bool = True) -> nn.Module:
        return self

    module.train, module.eval = MethodType(keep, module), MethodType(keep, module)
    for part in module.modules():
        part.training = False
    return module


def torch_model(
    description: Description, source: Source, module: nn.Module, inputs: Inputs, device: torch.device
) -> ModelBase:
    """A module as the model of a table, of pictures or of points, differentiable where gradients pass.

    Its parameters take no gradients from here on.
    """
    if description.modality == "text":
        raise InputError(f"{description.name}: a module over texts is not explained; log it as a pyfunc")
    module.requires_grad_(False)
    dtype = getattr(torch, inputs.tensor or "float32")
    dtype = floating_type(module) if dtype.is_floating_point else dtype
    shape = inputs.shape or (len(description.columns),)
    sample = torch.zeros(1, *(32 if size < 0 else size for size in shape), dtype=dtype, device=device)
    try_batches(module, sample, description.name)
    if description.modality == "image":
        return TorchImages(description, source, module, device, Scaling(inputs.shape))
    if description.modality == "points":
        return TorchPoints(description, source, module, device, inputs.shape[0] if inputs.shape[0] > 0 else None)
    kind = DifferentiableTorchTable if lets_gradients_through(module, sample) else TorchTable
    return kind(description, source, module, device, dtype)
