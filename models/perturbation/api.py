"""The public names of `conceptry.models.perturbation`, which imports them when they are first used."""

from conceptry.models.explained.hooks import evaluation_mode, untouched
from conceptry.models.perturbation.class_scores import ClassScores
from conceptry.models.perturbation.explanation import Explanation, PathPoint
from conceptry.models.perturbation.model import Perturbation
from conceptry.models.perturbation.optimizers.frank_wolfe import (
    L1FrankWolfe,
    L1qFrankWolfe,
    L2FrankWolfe,
    LinfFrankWolfe,
)
from conceptry.models.perturbation.optimizers.projected import L2Projected, LinfProjected
from conceptry.models.perturbation.record import Comparison, Perturbations
from conceptry.models.perturbation.settings import Settings
from conceptry.models.perturbation.solvers.ascent import gradient_ascent, random_restart
from conceptry.models.perturbation.solvers.gradient import Solution, solve
from conceptry.models.perturbation.solvers.perturbations import AdditivePerturbation
from conceptry.models.perturbation.tasks import counterfactual, explain_error, invert, probe

__all__ = [
    "AdditivePerturbation",
    "ClassScores",
    "Comparison",
    "Explanation",
    "L1FrankWolfe",
    "L1qFrankWolfe",
    "L2FrankWolfe",
    "L2Projected",
    "LinfFrankWolfe",
    "LinfProjected",
    "PathPoint",
    "Perturbation",
    "Perturbations",
    "Settings",
    "Solution",
    "counterfactual",
    "evaluation_mode",
    "explain_error",
    "gradient_ascent",
    "invert",
    "probe",
    "random_restart",
    "solve",
    "untouched",
]
