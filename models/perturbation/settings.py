"""The hyperparameters of a perturbation: what distinguishes one registered version, and what a request may change.

Radii that are left open grow with the picture, so that one default serves all sizes. With N = C H W entries, of which a
step of L1-q moves k = (1 - q) N; 7760 at q = .975 is the published radius:

| optimizer | default epsilon | at (1, 16, 16) | at (3, 224, 224) |
|---|---|---|---|
| l1q_frank_wolfe | 2.062 k, so that a moved entry may cross its range twice | 52.8 (q = .9) | 7760 (q = .975) |
| l1_frank_wolfe | 7760 / 150528 N | 13.2 | 7760 |
| l2_frank_wolfe, l2_projected | sqrt(N) / 4 | 4 | 97 |
| linf_frank_wolfe, linf_projected | 1 / 4, a cube whose corners have that l2 norm | .25 | .25 |
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conceptry.models.errors import InputError, truncated_repr
from conceptry.models.explained.source import ExplainedSource
from conceptry.models.method import Work, keep_plain_numbers, option

PROBE, COUNTERFACTUAL, EXPLAIN_ERROR, INVERT = "probe", "counterfactual", "explain_error", "invert"
MODES = (PROBE, COUNTERFACTUAL, EXPLAIN_ERROR, INVERT)
L1Q = "l1q_frank_wolfe"
OPTIMIZER_NAMES = (L1Q, "l1_frank_wolfe", "l2_frank_wolfe", "linf_frank_wolfe", "l2_projected", "linf_projected")
NOISE, GREY = "noise", "grey"
STARTS = (NOISE, GREY)
PRECISIONS = ("float32", "bfloat16", "float16")
MAX_STEPS = 10_000
LEAST, MOST = 1e-9, 1e9  # of radii and steps: their squares are still numbers in float32
_L1_SHARE = 7760 / (3 * 224 * 224)
_RANGES = _L1_SHARE / (1 - 0.975)


@dataclass(frozen=True)
class Settings:
    """What is asked, which steps are taken within which ball, and how sparse the answer has to be."""

    mode: str = option(COUNTERFACTUAL, "Default mode of a request.", MODES)
    optimizer: str = option(L1Q, "Optimizer: kind of steps and norm of the ball.", OPTIMIZER_NAMES)
    q: float = option(0.9, "Share of gradient entries that a step drops (l1q_frank_wolfe).")
    dq: float = option(0.0, "Each step draws its own q within this distance of q (l1q_frank_wolfe).")
    epsilon: float | None = option(
        None,
        "Radius of the ball, for pixels in [0, 1]. [default, with N entries: 2.062 (1 - q) N for l1q, .0516 N for l1, "
        "sqrt(N) / 4 for l2, 1/4 for linf]",
    )
    lr: float | None = option(
        None, "Step size. [default: 2 for Frank-Wolfe, decaying with the steps; 2.5 epsilon / steps for projected]"
    )
    steps: int = option(45, "Gradient steps.")
    max_changed: float | None = option(None, "Largest fraction of pixels that may change. [default: no limit]")
    confidence: float | None = option(
        None, "Stop as soon as the target has this probability, which sparsest has to reach too. [default: never]"
    )
    start: str = option(NOISE, "Start of a probe that is given no image.", STARTS)
    layer: str | None = option(
        None, "Dotted name of the layer that invert matches. [default: the input of the last Linear]"
    )
    sparsest: bool = option(False, "Search over epsilon and q for the counterfactual that changes the fewest pixels.")
    clip: bool = option(True, "Keep pixels within [0, 1] and round the result to 8 bits.")
    use_best: bool = option(False, "Return the step of lowest loss instead of the last one.")
    restarts: int = option(1, "Number of runs, from other random starts or draws of q; the best one is kept.")
    seed: int = option(0, "Seed of the noise, of the draws of q, and of restarts.")
    precision: str = option("float32", "Floating-point type of the network.", PRECISIONS)

    def __post_init__(self) -> None:
        keep_plain_numbers(self)
        for name, choices in (
            ("mode", MODES),
            ("optimizer", OPTIMIZER_NAMES),
            ("start", STARTS),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in choices:
                raise InputError(
                    f"{name} must be one of {', '.join(choices)}, got {truncated_repr(getattr(self, name))}"
                )
        for name in ("epsilon", "lr"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be a finite number above 0, got {value}")
            if value is not None and not LEAST <= value <= MOST:
                raise InputError(f"{name} must be from {LEAST:g} to {MOST:g}, got {value}")
        epsilon = self.epsilon
        if self.clip and self.optimizer.startswith("linf") and epsilon is not None and epsilon > 1:
            raise InputError(
                f"epsilon {epsilon:g} of {self.optimizer} bounds nothing, since pixels lie in [0, 1]; expected at most "
                f"1, such as {epsilon:g} / 255 = {epsilon / 255:.4g} where it counts in levels from 0 to 255"
            )
        if not 0 <= self.q < 1:
            raise InputError(f"q must be from 0 to below 1, got {self.q}")
        if not 0 <= self.dq <= 1:
            raise InputError(f"dq must be from 0 to 1, got {self.dq}")
        if not 1 <= self.steps <= MAX_STEPS:
            raise InputError(f"steps must be 1 to {MAX_STEPS:,}, got {self.steps}")
        if self.restarts < 1:
            raise InputError(f"restarts must be at least 1, got {self.restarts}")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed must be from 0 to below 2^63, got {self.seed}")
        for name in ("max_changed", "confidence"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise InputError(f"{name} must be above 0 and at most 1, got {value}")
        self._check_together()

    def _check_together(self) -> None:
        if self.mode == INVERT and self.confidence is not None:
            raise InputError("confidence is of a class, and invert matches a layer; leave one of them out")
        if self.restarts > 1 and not self.is_random:
            raise InputError(
                f"{self.optimizer} takes the same steps from any start, so restarts need dq above 0 (l1q_frank_wolfe) "
                "or a projected optimizer"
            )
        if not self.sparsest:
            return
        if self.mode != COUNTERFACTUAL:
            raise InputError(f"sparsest searches a counterfactual, and mode is {self.mode}")
        if self.optimizer != L1Q:
            raise InputError(f"sparsest searches over q, which {self.optimizer} has not; use {L1Q}")
        if self.max_changed is not None:
            raise InputError("sparsest finds the least fraction itself; leave max_changed out")

    @property
    def is_projected(self) -> bool:
        return self.optimizer.endswith("_projected")

    @property
    def is_random(self) -> bool:
        """Whether two runs over the same picture can differ."""
        return self.is_projected or (self.optimizer == L1Q and self.dq > 0)

    def radius(self, entries: int, q: float | None = None) -> float:
        """epsilon, or the default of the table above for pictures of so many entries and another q than registered."""
        if self.epsilon is not None:
            return self.epsilon
        if self.optimizer == L1Q:
            # (1 - q) N is rounded, and a step moves at least one entry.
            return _RANGES * max((1 - (self.q if q is None else q)) * entries, 1.0)
        if self.optimizer == "l1_frank_wolfe":
            return _L1_SHARE * entries
        return math.sqrt(entries) / 4 if self.optimizer.startswith("l2") else 1 / 4

    def unbounded(self, entries: int) -> str:
        """A sentence where the ball holds every picture of so many entries, so that epsilon bounds nothing; else ""."""
        norm = self.optimizer.partition("_")[0]
        widest = {"l1": float(entries), "l2": math.sqrt(entries)}.get(norm, math.inf)
        if not self.clip or self.epsilon is None or self.epsilon < widest:
            return ""
        return (
            f"epsilon {self.epsilon:g} of {self.optimizer} bounds nothing: two pictures of {entries} entries in [0, 1] "
            f"are at most {widest:.4g} apart; where it counts in levels from 0 to 255, give {self.epsilon / 255:.4g}"
        )

    def override(self, values: Mapping[str, Any]) -> "Settings":
        """These settings with the given ones changed; None and "" leave what there is.

        What was registered gives way where it cannot hold beside what is given: epsilon, lr and restarts belong to
        their optimizer, restarts of l1q_frank_wolfe to a dq above 0, `sparsest` to counterfactuals by l1q_frank_wolfe,
        `confidence` to classes; `sparsest` and `max_changed` exclude each other.
        """
        given = {name: value for name, value in values.items() if value is not None and value != ""}
        way: dict[str, Any] = {}
        if given.get("optimizer", self.optimizer) != self.optimizer:
            way |= {"epsilon": None, "lr": None, "restarts": 1}
        if given.get("optimizer", self.optimizer) == L1Q and given.get("dq", self.dq) == 0:
            way["restarts"] = 1
        if given.get("mode", COUNTERFACTUAL) != COUNTERFACTUAL or given.get("optimizer", L1Q) != L1Q:
            way["sparsest"] = False
        if given.get("mode") == INVERT:
            way["confidence"] = None
        if given.get("sparsest"):
            way["max_changed"] = None
        elif "max_changed" in given:
            way["sparsest"] = False
        return dataclasses.replace(self, **(way | given))


@dataclass(frozen=True)
class PerturbationOptions(Settings, ExplainedSource):
    """What distinguishes one version of perturbations from another."""

    model: str = option(
        "zoo:digits-16-robust",
        "Explained image classifier: zoo:NAME, classifier:FOLDER, torchvision:NAME[@WEIGHTS or FILE], "
        "timm:NAME[@FILE], imagenet:NAME, or models:/ and runs:/ of the pytorch flavour.",
    )

    def settings(self) -> Settings:
        """The part that says how to perturb."""
        return Settings(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Settings)})


OPTIONS = PerturbationOptions
WORK = Work(20_000, "gradient steps, rows x steps x restarts", "fewer steps")
SUMMARY = "Register a perturbation explainer: finds the sparse changes of an image that change a network's answer."
