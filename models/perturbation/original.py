"""Names of the published implementation, rai-toolbox, so that its scripts run with an import changed.

| there | here |
|---|---|
| `from rai_toolbox.optim import L1qFrankWolfe` | `from conceptry.models.perturbation.original import L1qFrankWolfe` |
| `from rai_toolbox.perturbations import gradient_ascent` | the same module |
| `from rai_toolbox.perturbations.init import uniform_like_l2_n_ball_` | the same module |
"""

from conceptry.models.perturbation.optimizers.frank_wolfe import (
    L1FrankWolfe,
    L1qFrankWolfe,
    L2FrankWolfe,
    LinfFrankWolfe,
)
from conceptry.models.perturbation.optimizers.transforms import (
    ChainedParamTransformingOptimizer,
    ClampedGradientOptimizer,
    ClampedParameterOptimizer,
    L1NormedGradientOptim,
    L1qNormedGradientOptim,
    L2NormedGradientOptim,
    L2ProjectedOptim,
    LinfProjectedOptim,
    ParamTransformingOptimizer,
    SignedGradientOptim,
    TopQGradientOptimizer,
)
from conceptry.models.perturbation.optimizers.transforms import FrankWolfeStep as FrankWolfe
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
    "random_restart",
    "uniform_like_l1_n_ball_",
    "uniform_like_l2_n_ball_",
    "uniform_like_linf_n_ball_",
]
