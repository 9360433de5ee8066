"""Explain samples of one model by Harsanyi interactions: the whole way from a sample to its And-Or graph.

Ren et al., "Defining and Quantifying the Emergence of Sparse Concepts in DNNs", CVPR 2023, arXiv:2111.06206.

| symbol | meaning | shape |
|---|---|---|
| n, N | number and set of players of the sample | - |
| v(S) | reward with the players of S present and the others at their baseline | (2^n,) |
| I(S) | AND interaction; with `interactions="and-or"` the AND part of v | (2^n,) |
| I_or(S) | OR interaction, where v is split | (2^n,) |
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import DifferentiableModel, ExplainedModel
from conceptry.models.harsanyi import problem as p
from conceptry.models.harsanyi.baseline import Sparsified, sparsify
from conceptry.models.harsanyi.game import Reward, rewards_of
from conceptry.models.harsanyi.interactions.and_or import split
from conceptry.models.harsanyi.interactions.moebius import moebius
from conceptry.models.harsanyi.interactions.record import Interactions
from conceptry.models.harsanyi.settings import PREDICTED, Settings

# Numbers in the masked inputs of one model call: what a network keeps of a large picture is many times the picture.
MAX_BATCH_NUMBERS = 2**22


class Harsanyi:
    """A model with the settings to explain it by.

    groups: {player: columns} for tables; baseline_row: the row of the baseline "row". Thread-safe where the model is.
    """

    def __init__(
        self,
        model: ExplainedModel,
        settings: Settings | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        baseline_row: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.settings = (settings or Settings()).for_model(model)
        self.groups, self.baseline_row = groups, baseline_row
        self._reward = Reward(str(self.settings.reward), self.settings.temperature)
        if self.settings.learns_baseline and not isinstance(model, DifferentiableModel):
            raise InputError(
                f"a learned baseline needs a differentiable (torch) model, {model.name} is none; "
                "choose another baseline"
            )
        if model.modality == "text" and self.settings.baseline != "delete":
            p.mask_token(model, self.settings)
        if self.settings.target != PREDICTED:
            self._index_of(self.settings.target)

    def problem(self, sample: Any) -> p.Problem:
        """The players of a sample, without asking the model.

        Raises InputError where the sample cannot be used or has too many players.
        """
        if self.model.modality == "table":
            return p.table_problem(self.model, self.settings, sample, self.groups, self.baseline_row)
        make = {"text": p.text_problem, "image": p.image_problem, "points": p.points_problem}[self.model.modality]
        return make(self.model, self.settings, sample)

    def explain(
        self, sample: Any, target: str | None = None, progress: Callable[[str, float], None] | None = None
    ) -> Interactions:
        """All interactions of a sample: a mapping {column: value}, a text, a picture uint8 (H, W, 3) or points (P, 3).

        Raises InputError where the sample cannot be used, has too many players, or the target is unknown.
        """
        problem = self.problem(sample)
        index = self._target(problem, target or self.settings.target)
        if self.settings.learns_baseline:
            learned = self._learn(problem, index, progress)
            v, calls = learned.v, learned.calls
        else:
            batch_size = self._batch_size(np.size(problem.sample))
            v = rewards_of(self.model, problem.masker, self._reward, index, batch_size, progress)
            learned, calls = None, len(v)
        if self.settings.subtract_empty:
            v = v - v[0]
        if self.settings.interactions == "and-or":
            parts = split(v, self.settings.split_tolerance)
            i_and, i_or, gap = parts.i_and, parts.i_or, parts.gap / (parts.l1 or 1.0)
        else:
            i_and, i_or, gap = moebius(v), None, 0.0
        return Interactions(
            problem.players, self.model.classes[index], v, i_and, i_or, gap, learned, calls, problem.description
        )

    def _target(self, problem: p.Problem, target: str) -> int:
        if target != PREDICTED:
            return self._index_of(target)
        (outputs,) = self.model(problem.sample)
        if len(self.model.classes) == 2 and len(outputs) == 1:
            return int(outputs[0] > (0.5 if self.model.form == "probabilities" else 0.0))
        return int(np.argmax(outputs)) if self.model.form != "values" else 0

    def _index_of(self, target: str) -> int:
        classes = self.model.classes
        if target in classes:
            return classes.index(target)
        if target.isdigit() and int(target) < len(classes):
            return int(target)
        near = difflib.get_close_matches(target, classes, n=3) or classes[:10]
        raise InputError(
            f"{self.model.name} has no output {target!r}; expected {PREDICTED}, an index below "
            f"{len(classes)}, or a name: {', '.join(near)}"
        )

    def _batch_size(self, numbers: int) -> int:
        """Masked inputs of one call, where each holds so many numbers."""
        return max(1, min(self.settings.batch_size, MAX_BATCH_NUMBERS // numbers))

    def _learn(self, problem: p.Problem, index: int, progress: Callable[[str, float], None] | None) -> Sparsified:
        """The baseline that minimises the L1 of the AND interactions, within a box around the registered start."""
        model: Any = self.model
        x, baseline, owner = problem.features(model)
        # Columns are standardised; of anything else the sample itself says how far its features spread.
        spread = torch.full_like(x, 1.0 if self.model.modality == "table" else float(x.std()))
        reach = self.settings.learning_range * spread
        lower, upper = baseline - reach, baseline + reach
        bounded = _between_0_and_1(self.model, problem, x)
        lower = torch.where(bounded, lower.clamp(min=0.0), lower)
        upper = torch.where(bounded, upper.clamp(max=1.0), upper)

        def rewards(masked: Tensor) -> Tensor:
            return self._reward(model.forward(masked), model.form, index)

        return sparsify(
            rewards,
            x,
            baseline,
            owner,
            len(problem.players),
            lower=lower,
            upper=upper,
            scale=spread,
            steps=self.settings.learning_steps,
            lr=self.settings.learning_rate,
            batch_size=self._batch_size(x.numel()),
            subtract_empty=self.settings.subtract_empty,
            progress=progress,
        )


def _between_0_and_1(model: Any, problem: p.Problem, x: Tensor) -> Tensor:
    """Which features are pixels or categories, bool (*features): these have no meaning outside [0, 1]."""
    if model.modality == "table":
        categorical = torch.tensor([column.kind == "categorical" for column in model.columns], device=x.device)
        return categorical[model.feature_owner(problem.sample)]
    return torch.full_like(x, model.modality == "image", dtype=torch.bool)
