"""Sparse perturbations: what would have to change, and what a class looks like to a model."""

from conceptry.models.perturbation.ascent import gradient_ascent, random_restart
from conceptry.models.perturbation.frank_wolfe import L1FrankWolfe, L1qFrankWolfe, L2FrankWolfe, LinfFrankWolfe
from conceptry.models.perturbation.projected import L2Projected, LinfProjected
from conceptry.models.perturbation.solver import Solution, solve
from conceptry.models.perturbation.untouched import untouched

__all__ = [
    "L1FrankWolfe",
    "L1qFrankWolfe",
    "L2FrankWolfe",
    "L2Projected",
    "LinfFrankWolfe",
    "LinfProjected",
    "Solution",
    "gradient_ascent",
    "random_restart",
    "solve",
    "untouched",
]
