"""Which engine finds the interactions of a sample, and what it finds.

| engine | asks | finds | taken by auto |
|---|---|---|---|
| trees | the model for the sample and the baseline | all terms, exactly | where the reward is a sum over the trees |
| exact | the model for all 2^n subsets | all terms, exactly | else, up to max_players |
| sampled | the model for a budget of subsets | terms with R2 on others | beyond |

The reward is a sum over trees where it is the very number that the leaves add up to, or that number with the other sign
or over a temperature:

| reward | of | outputs of the model |
|---|---|---|
| output | values of regressors; probabilities of forests and trees; margins of boosters | as the reward says |
| probability | forests and trees | probabilities |
| logit | boosted classifiers | logits |
| log_odds | boosted classifiers of two classes, whose margin it is | logits or probabilities |

Whether it is, the model's own answer for an example decides, not a table alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import DifferentiableModel, ExplainedModel
from conceptry.models.explained.tables import typed_frame
from conceptry.models.harsanyi.game import Reward, mean_by_mask
from conceptry.models.harsanyi.interactions.answer import AnswerOptions
from conceptry.models.harsanyi.interactions.sparse import SparseInteractions, without_empty
from conceptry.models.harsanyi.sampled.explanation import sampled_record
from conceptry.models.harsanyi.settings import (
    AUTO,
    EXACT,
    LEAST_BUDGET,
    MAX_SAMPLED,
    SAMPLED,
    TREES,
    Settings,
)
from conceptry.models.method import Progress

if TYPE_CHECKING:
    from conceptry.models.harsanyi.problem import Problem
    from conceptry.models.harsanyi.trees.ensemble import Ensemble
    from conceptry.models.harsanyi.trees.model import TreeModel


class Corners(NamedTuple):
    """Of a sample, and below it of its baselines: the model's outputs (1 + baselines, k), and features of the trees."""

    outputs: np.ndarray
    features: np.ndarray


class Engines:
    """The engines of one explained model.

    n_baselines: rows of the baseline, each of which is asked with every subset.

    Raises InputError where the settings ask for an engine that the model or the reward does not have.
    """

    def __init__(self, model: ExplainedModel, settings: Settings, reward: Reward, n_baselines: int = 1) -> None:
        self.model, self.settings, self.reward, self.n_baselines = model, settings, reward, n_baselines
        if settings.learns_baseline and not isinstance(model, DifferentiableModel):
            raise InputError(
                f"a learned baseline needs a differentiable (torch) model, {model.name} is none; "
                "choose another baseline"
            )
        if settings.engine == TREES and self.trees is None:
            raise InputError(f"{model.name}: engine trees cannot explain it: {self.why_no_trees}")

    def engine_of(self, n: int) -> str:
        """The engine for a sample of n players. Raises InputError for more players than it takes."""
        if self.settings.engine != AUTO:
            return self.settings.engine
        if self.settings.learns_baseline:
            return EXACT
        if self.by_trees:
            return TREES
        if n > MAX_SAMPLED:
            raise InputError(
                f"{n} players, and the engine sampled takes {MAX_SAMPLED} at the most; group inputs, so that several "
                "of them are one player"
            )
        return EXACT if n <= self.settings.max_players else SAMPLED

    @property
    def by_trees(self) -> bool:
        """Whether the engine is trees, for samples of any number of players."""
        if self.settings.engine == AUTO:
            return not self.settings.learns_baseline and self.trees is not None
        return self.settings.engine == TREES

    def sparse(
        self,
        problem: "Problem",
        index: int,
        batch_size: int,
        options: AnswerOptions,
        image: np.ndarray | None,
        progress: Progress | None,
        corners: "Corners | None" = None,
    ) -> SparseInteractions | None:
        """The interactions of a sample by the engine trees or sampled; None where it is the exact one.

        corners: what `corners` says of this sample, where the engine is trees.
        """
        engine = self.engine_of(len(problem.players))
        if engine == TREES:
            assert corners is not None
            return self._by_trees(problem, index, options, progress, corners)
        if engine == EXACT:
            return None
        ask, target = mean_by_mask(self.model, problem.maskers, self.reward, index), self.model.classes[index]
        found = sampled_record(ask, problem.players, target, problem.description, options, batch_size, image, progress)
        return replace(found, calls=found.calls * len(problem.maskers))

    def rewards(self, problem: "Problem", index: int, subsets: Sequence[Sequence[int]], batch_size: int) -> np.ndarray:
        """Rewards of subsets of the players, by their numbers, whatever the engine."""
        n = len(problem.players)
        masks = np.zeros((len(subsets), n), bool)
        for row, players in enumerate(subsets):
            if players and not 0 <= min(players) <= max(players) < n:
                raise InputError(f"subset {row} has players {list(players)}; expected numbers from 0 to {n - 1}")
            masks[row, list(players)] = True
        ask = mean_by_mask(self.model, problem.maskers, self.reward, index)
        batches = range(0, len(masks), batch_size)
        found = np.concatenate([ask(masks[start : start + batch_size]) for start in batches])
        return found - ask(np.zeros((1, n), bool)) if self.settings.subtract_empty else found

    @property
    def why(self) -> str:
        """What explains samples of the model, and why, as a sentence without its end."""
        settings = self.settings
        if settings.engine != AUTO:
            return f"engine {settings.engine}, as asked for"
        if settings.learns_baseline:
            return "engine exact: a baseline is learned over all subsets"
        if self.trees is not None:
            return f"engine trees: the {self.reward.kind} is a sum over the trees of {self.trees.kind}"
        return f"engine exact up to {settings.max_players} players, sampled beyond"

    @property
    def notes(self) -> tuple[str, ...]:
        """What registering says of the engine: which one it is where that is not the exact one for every sample."""
        wide = self.model.modality == "table" and len(self.model.columns) > self.settings.max_players
        return (self.why,) if self.settings.engine == AUTO and (wide or self.trees is not None) else ()

    def warm_up(self) -> None:
        """Compile what explaining needs besides the kernels of the exact engine, and read the trees."""
        if self.settings.engine in (AUTO, TREES) and (trees := self.trees) is not None:
            from conceptry.models.harsanyi.trees.interactions import terms_of

            ensemble, *_ = [trees.ensemble(k) for k in range(trees.n_outputs)]
            rows = np.zeros((2, ensemble.n_features))
            terms_of(ensemble, rows[0], rows[1:], np.zeros(ensemble.n_features, np.int64), 1)
        elif self.settings.engine == SAMPLED:
            from conceptry.models.harsanyi.sampled.engine import sampled_interactions

            sampled_interactions(lambda masks: masks[:, :3].sum(1) + 0.5 * masks[:, 5] * masks[:, 9], 16, LEAST_BUDGET)

    def redraw(self, share: float, seed: int) -> int:
        """Exchange what the leaves of the last `share` of a tree ensemble say; returns how many trees were changed."""
        estimator = getattr(self.model, "estimator", None)
        if estimator is None:
            return 0
        from conceptry.models.harsanyi.trees.reading import redraw

        changed = redraw(getattr(estimator, "native_booster", estimator), share, seed)
        vars(self).pop("_read", None)  # what was read of the trees before
        return changed

    @property
    def calls(self) -> int:
        """Masked inputs that the model is asked for a sample, at the most."""
        if self.settings.engine in (AUTO, TREES) and self.trees is not None:
            return 1 + self.n_baselines
        return self._subsets * self.n_baselines

    @property
    def _subsets(self) -> int:
        """Subsets of players that the model is asked of a sample, at the most."""
        settings, columns = self.settings, len(self.model.columns) if self.model.modality == "table" else None
        exact = 2 ** min(settings.max_players, columns or settings.max_players)
        if settings.engine == EXACT or settings.learns_baseline:
            return exact
        if settings.engine == SAMPLED:
            return settings.budget
        return exact if columns and columns <= settings.max_players else max(exact, settings.budget)

    @property
    def trees(self) -> "TreeModel | None":
        """The trees of the model, where the reward is a sum over them."""
        return self._read[0]

    @property
    def why_no_trees(self) -> str:
        """Why the model has no trees whose sum the reward is."""
        return self._read[1]

    @cached_property
    def _read(self) -> "tuple[TreeModel | None, str]":
        """The trees, or the reason why there are none."""
        estimator = getattr(self.model, "estimator", None)
        if self.model.modality != "table" or estimator is None:
            return None, "it is no tree ensemble over a table"
        if self.settings.interactions != "and":
            return None, f"trees have AND interactions, and {self.settings.interactions} is asked for"
        from conceptry.models.harsanyi.trees.reading import read

        try:
            trees = read(getattr(estimator, "native_booster", estimator))
        except InputError as error:
            return None, str(error)
        return (trees, "") if self._is_sum_over(trees) else (None, self._why_no_sum(trees))

    def _why_no_sum(self, trees: "TreeModel") -> str:
        return f"the {self.reward.kind} of its {self.model.form} is not a sum over its trees, whose {trees.output} is"

    def _is_sum_over(self, trees: "TreeModel") -> bool:
        """Whether the reward is the number that the leaves add up to, on the word of the model itself."""
        kind, form = self.reward.kind, self.model.form
        fits = {
            "output": (trees.output, form)
            in (("value", "values"), ("probability", "probabilities"), ("margin", "logits")),
            "probability": (trees.output, form) == ("probability", "probabilities"),
            "logit": (trees.output, form) == ("margin", "logits"),
            "log_odds": trees.output == "margin" and trees.n_outputs == 1,
        }
        if not fits.get(kind, False):
            return False
        typical = {c.name: [c.median if c.kind == "numeric" else c.mode] for c in self.model.columns}
        if any(value is None for (value,) in typical.values()):
            return True  # each explained sample is tried as well
        example = pd.DataFrame(typical)
        index = len(self.model.classes) - 1
        own = float(self.reward(torch.from_numpy(self.model(example).astype(np.float64)), form, index)[0])
        rows = self._encoded(trees, example)
        ensemble = self._ensemble(trees, index)
        return abs(float(ensemble.predict(rows)[0]) - own) <= self._allowed(trees, own, ensemble.scale(rows))

    def _allowed(self, trees: "TreeModel", own: float, scale: float) -> float:
        """By how much the sum of the terms may differ from the reward `own` of the model itself.

        Probabilities p near 0 or 1 are rounded, and their log-odds by 1 / (p (1 - p)) as much.
        """
        allowed = trees.tolerance * max(scale, abs(own))
        if self.reward.kind != "log_odds" or self.model.form != "probabilities":
            return allowed
        precision = np.finfo(np.float64 if trees.in_double else np.float32).eps
        odds = np.exp(-abs(own))
        return allowed + 4 * float(precision) * (1 + odds) ** 2 / odds

    def _encoded(self, trees: "TreeModel", rows: pd.DataFrame) -> np.ndarray:
        """Features of the trees, of rows of the model's columns."""
        from conceptry.models.harsanyi.trees.tables import by_column

        table, _ = by_column("row", typed_frame(rows, self.model.columns, fractions=True), trees)
        return trees.encode(trees.given(table))

    def _ensemble(self, trees: "TreeModel", index: int) -> "Ensemble":
        """The trees that add up to the reward of an output."""
        one = trees.output == "margin" and trees.n_outputs == 1
        factor = -1.0 if one and index == 0 else 1.0
        if self.reward.kind == "log_odds":
            factor /= self.reward.temperature
        return trees.ensemble(0 if one else min(index, trees.n_outputs - 1), factor)

    def corners(self, problems: "Sequence[Problem]") -> "list[Corners]":
        """What the model says of the samples, and of the baselines of each, in one call for all."""
        trees = self.trees
        assert trees is not None
        tables = []
        for problem in problems:
            every, none = np.ones((1, len(problem.players)), bool), np.zeros((1, len(problem.players)), bool)
            tables += [problem.maskers[0].masked(every), *(masker.masked(none) for masker in problem.maskers)]
        table = pd.concat(tables, ignore_index=True)
        outputs, features = self.model(table).astype(np.float64), self._encoded(trees, table)
        parts = np.cumsum([1 + len(problem.maskers) for problem in problems])[:-1]
        pairs = zip(np.split(outputs, parts), np.split(features, parts), strict=True)
        return [Corners(*pair) for pair in pairs]

    def asked(
        self, samples: Sequence[Any], problem_of: "Callable[[Any], Problem]", at_once: int
    ) -> "Iterator[tuple[Any, tuple[Problem, Corners] | None]]":
        """The samples, and where the engine is trees what the model says of them, asked `at_once` rows in one call.

        None beside a sample that is to be asked about alone, as after a call that was refused: that shows which sample
        is at fault.
        """
        step = max(1, at_once // (1 + self.n_baselines)) if len(samples) > 1 and self.by_trees else 1
        for start in range(0, len(samples), step):
            part = samples[start : start + step]
            answers: Iterable[tuple[Problem, Corners] | None] = [None] * len(part)
            if len(part) > 1:
                try:
                    problems = [problem_of(sample) for sample in part]
                    answers = zip(problems, self.corners(problems), strict=True)
                except InputError:
                    pass
            yield from zip(part, answers, strict=True)

    def _by_trees(
        self,
        problem: "Problem",
        index: int,
        options: AnswerOptions,
        progress: Progress | None,
        corners: "Corners",
    ) -> SparseInteractions:
        """The interactions of a sample, read off the trees.

        Raises InputError where their sum is not the reward that the model itself gives.
        """
        from conceptry.models.harsanyi.trees.interactions import terms_of

        trees, n = self.trees, len(problem.players)
        assert trees is not None
        full, *empties = self.reward(torch.from_numpy(corners.outputs), self.model.form, index).tolist()
        empty, rows = float(np.mean(empties)), corners.features
        ensemble = self._ensemble(trees, index)
        terms, spreads = terms_of(ensemble, rows[0], rows[1:], trees.feature_owners(problem.owner), n)
        sums, scale = (float(terms.effects.sum()), float(terms.effects[0])), ensemble.scale(rows)
        for what, found, own in (("sample", sums[0], full), ("baseline", sums[1], empty)):
            if not abs(found - own) <= self._allowed(trees, own, scale):
                raise InputError(
                    f"the terms read from {trees.kind} add up to {found!r} for the {what}, and the {self.reward.kind} "
                    f"of the model itself is {own!r}; take the engine exact or sampled, which ask the model alone"
                )
        if progress is not None:
            progress("trees", 1.0)
        residual = max(abs(sums[0] - full), abs(sums[1] - empty)) / (max(abs(full), abs(empty)) or 1.0)
        if self.settings.subtract_empty:
            terms, full, empty = without_empty(terms), full - empty, 0.0
        return SparseInteractions(
            problem.players, self.model.classes[index], terms, (empty, full), residual, TREES, len(rows),
            problem.description, options=options, spreads=spreads if len(empties) > 1 else None,
        )  # fmt: skip
