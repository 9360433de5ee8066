"""rai-toolbox, the published implementation, behind our arguments; the L1 optimiser, broken there, literally.

| ours | rai-toolbox |
|---|---|
| L1qFrankWolfe, L2FrankWolfe, LinfFrankWolfe | the same names |
| L2Projected, LinfProjected | L2ProjectedOptim, LinfProjectedOptim |
| L1FrankWolfe | raises IndexError on (N, C, H, W); the reference is `literal_l1` |
"""

import importlib
import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from conceptry.evaluation.benchmarks.measure import Record
from conceptry.evaluation.benchmarks.perturbation.problems import RIVAL, Case, wait
from conceptry.models.perturbation.optimizers.frank_wolfe import (
    L1FrankWolfe,
    L1qFrankWolfe,
    L2FrankWolfe,
    LinfFrankWolfe,
)
from conceptry.models.perturbation.optimizers.projected import L2Projected, LinfProjected, usual_lr
from conceptry.models.perturbation.settings import Settings
from conceptry.models.perturbation.solvers.ascent import gradient_ascent

RIVAL_THERE = importlib.util.find_spec("rai_toolbox") is not None
LITERAL = "literal transcription"
PARITY, DIFFERENCE = "parity", "largest pixel difference"


@dataclass(frozen=True)
class Pair:
    """One optimiser of ours, its name in rai-toolbox ("" where that is broken), and in `Settings`."""

    ours: type[Optimizer]
    theirs: str
    name: str


PAIRS = (
    Pair(L1qFrankWolfe, "L1qFrankWolfe", "l1q_frank_wolfe"),
    Pair(L2FrankWolfe, "L2FrankWolfe", "l2_frank_wolfe"),
    Pair(LinfFrankWolfe, "LinfFrankWolfe", "linf_frank_wolfe"),
    Pair(L2Projected, "L2ProjectedOptim", "l2_projected"),
    Pair(LinfProjected, "LinfProjectedOptim", "linf_projected"),
    Pair(L1FrankWolfe, "", "l1_frank_wolfe"),
)


def rival_solve(case: Case) -> tuple[Tensor, Tensor]:
    """The L1-q solve of the case by rai-toolbox."""
    found = _theirs(case, "L1qFrankWolfe", {**case.options, "generator": torch.Generator().manual_seed(0)})
    wait(case)
    return found


def parity(case: Case) -> list[Record]:
    """How far every optimiser's pixels are from those of the implementation that it follows, on the same batch."""
    records = []
    for pair in PAIRS:
        if pair.theirs and not RIVAL_THERE:
            continue
        options = options_of(pair, case)
        ours, _ = _ours(case, pair, options)
        theirs = _theirs(case, pair.theirs, options)[0] if pair.theirs else literal_l1(case, options["epsilon"])
        extra = {DIFFERENCE: float((ours - theirs).abs().max())}
        records.append(Record(f"{PARITY}, {pair.name}", RIVAL if pair.theirs else LITERAL, None, extra=extra))
    return records


def options_of(pair: Pair, case: Case) -> dict[str, float]:
    """The options of the optimiser that are usual for the pictures of the case, with no chance in them."""
    epsilon = Settings(optimizer=pair.name).radius(case.data[0].numel())
    if pair.name.endswith("_projected"):
        return {"epsilon": epsilon, "lr": usual_lr(epsilon, case.steps)}
    return {"epsilon": epsilon, "lr": 2.0} | ({"q": 0.9, "dq": 0.0} if pair.ours is L1qFrankWolfe else {})


def literal_l1(case: Case, epsilon: float) -> Tensor:
    """What L1 Frank-Wolfe is to find, (batch, ...): every step moves toward the one vertex -epsilon sign(g_j) e_j."""
    delta = torch.zeros_like(case.data)
    for t in range(case.steps):
        x = (case.data + delta).requires_grad_()
        (gradient,) = torch.autograd.grad(functional.cross_entropy(case.network(x), case.target, reduction="sum"), x)
        a = 2 / (2 + t)
        for image, g in enumerate(gradient):
            j = g.abs().argmax()
            vertex = torch.zeros_like(g)
            vertex.view(-1)[j] = -epsilon * g.reshape(-1)[j].sign()
            delta[image] = (1 - a) * delta[image] + a * vertex
    return case.data + delta


def ours_with(case: Case, pair: Pair) -> tuple[Tensor, Tensor]:
    """(perturbed, losses) of the case by one of our optimisers, with its usual options."""
    return _ours(case, pair, options_of(pair, case))


def _ours(case: Case, pair: Pair, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    return gradient_ascent(
        model=case.network,
        data=case.data,
        target=case.target,
        optimizer=pair.ours,
        steps=case.steps,
        targeted=True,
        **options,
    )


def _theirs(case: Case, name: str, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    optim: Any = importlib.import_module("rai_toolbox.optim")  # optional
    solvers: Any = importlib.import_module("rai_toolbox.perturbations")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TypedStorage is deprecated")  # it looks at storages the old way
        return solvers.gradient_ascent(
            model=case.network,
            data=case.data,
            target=case.target,
            optimizer=getattr(optim, name),
            steps=case.steps,
            targeted=True,
            **options,
        )
