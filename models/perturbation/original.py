"""Names of the published implementation, rai-toolbox, so that its scripts run with an import changed.

| there | here |
|---|---|
| `from rai_toolbox.optim import L1qFrankWolfe` | `from conceptry.models.perturbation.original import L1qFrankWolfe` |
| `from rai_toolbox.perturbations import gradient_ascent` | the same module |
| `from rai_toolbox.perturbations.init import uniform_like_l2_n_ball_` | the same module |
| `from rai_experiments.models.pretrained import load_model` | the same module |
"""

from typing import Any

import torch
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.explained.image_inputs import as_pixel_model
from conceptry.models.explained.load import load_explained
from conceptry.models.perturbation.optimizers.composed import (
    ChainedParamTransformingOptimizer,
    L2ProjectedOptim,
    LinfProjectedOptim,
)
from conceptry.models.perturbation.optimizers.composed import FrankWolfeStep as FrankWolfe
from conceptry.models.perturbation.optimizers.frank_wolfe import (
    L1FrankWolfe,
    L1qFrankWolfe,
    L2FrankWolfe,
    LinfFrankWolfe,
)
from conceptry.models.perturbation.optimizers.top_q import L1qNormedGradientOptim, TopQGradientOptimizer
from conceptry.models.perturbation.optimizers.transforms import (
    ClampedGradientOptimizer,
    ClampedParameterOptimizer,
    L1NormedGradientOptim,
    L2NormedGradientOptim,
    ParamTransformingOptimizer,
    SignedGradientOptim,
)
from conceptry.models.perturbation.solvers.ascent import gradient_ascent, random_restart
from conceptry.models.perturbation.solvers.perturbations import (
    AdditivePerturbation,
    PerturbationModel,
    uniform_like_l1_n_ball_,
    uniform_like_l2_n_ball_,
    uniform_like_linf_n_ball_,
)

__all__ = [
    "AdditivePerturbation",
    "ChainedParamTransformingOptimizer",
    "ClampedGradientOptimizer",
    "ClampedParameterOptimizer",
    "FrankWolfe",
    "L1FrankWolfe",
    "L1NormedGradientOptim",
    "L1qFrankWolfe",
    "L1qNormedGradientOptim",
    "L2FrankWolfe",
    "L2NormedGradientOptim",
    "L2ProjectedOptim",
    "LinfFrankWolfe",
    "LinfProjectedOptim",
    "ParamTransformingOptimizer",
    "PerturbationModel",
    "SignedGradientOptim",
    "TopQGradientOptimizer",
    "gradient_ascent",
    "load_model",
    "random_restart",
    "uniform_like_l1_n_ball_",
    "uniform_like_l2_n_ball_",
    "uniform_like_linf_n_ball_",
]


class PixelNetwork(nn.Module):
    """A network by its name, as a module from pixels (batch, C, H, W) in [0, 1] to outputs; see `load_model`.

    Attributes:
        classes: their names, in the order of the outputs.
    """

    def __init__(self, name: str, device: str | torch.device = "auto") -> None:
        super().__init__()
        self.model = as_pixel_model(load_explained(name, device))
        self.name, self.classes, self.network = name, self.model.classes, self.model.module

    def forward(self, x: Tensor) -> Tensor:
        """Pixels to logits, or to whatever the network puts out."""
        return self.model.from_pixels(x)

    def to(self, device: Any) -> "PixelNetwork":  # pyright: ignore[reportIncompatibleMethodOverride] - of devices alone
        """The network on another device, for which it is loaded again: its normalisation moves with it."""
        if not isinstance(device, (str, int, torch.device)):
            raise InputError(f"expected a device, such as 'cuda:0', got {device!r}")
        wanted, own = torch.device(device), next(self.network.parameters()).device
        there = wanted.type == own.type and wanted.index in (None, own.index)
        return self if there else PixelNetwork(self.name, wanted)

    def cpu(self) -> "PixelNetwork":  # pyright: ignore[reportIncompatibleMethodOverride] - returns another object
        """`to("cpu")`."""
        return self.to("cpu")

    def cuda(self, device: int | torch.device | None = None) -> "PixelNetwork":  # pyright: ignore[reportIncompatibleMethodOverride] - returns another object
        """`to` a CUDA device."""
        return self.to("cuda" if device is None else device)


def load_model(name: str) -> PixelNetwork:
    """A network that ships, or the checkpoint of a ResNet-50.

    Args:
        name: a file such as "mitll_imagenet_l2_3_0.pt", which has to be there as nothing is downloaded; or any name
            that `load_explained` takes, such as "zoo:digits-16-robust".

    Raises:
        InputError: where there is no such file or network.
    """
    return PixelNetwork(name if ":" in name else f"torchvision:resnet50@{name}")
