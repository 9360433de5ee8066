"""Explain samples of one model by Harsanyi interactions: the whole way from a sample to its And-Or graph.

Ren et al., "Defining and Quantifying the Emergence of Sparse Concepts in DNNs", CVPR 2023, arXiv:2111.06206.

| symbol | meaning | shape |
|---|---|---|
| n, N | number and set of players of the sample | - |
| v(S) | reward with the players of S present and the others at their baseline | (2^n,) |
| I(S) | AND interaction; with `interactions="and-or"` the AND part of v | (2^n,) |
| I_or(S) | OR interaction, where v is split | (2^n,) |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.explained.base import Description
from conceptry.models.explained.protocol import ExplainedModel
from conceptry.models.harsanyi import game as g
from conceptry.models.harsanyi import problem as p
from conceptry.models.harsanyi.engines import Corners, Engines
from conceptry.models.harsanyi.game import Reward, output_index
from conceptry.models.harsanyi.inputs import BaselineRows, columns_named, read_samples, settings_with_files
from conceptry.models.harsanyi.interactions.answer import AnswerOptions, SampleRecord
from conceptry.models.harsanyi.interactions.record import Explanations, check_listed, record_of
from conceptry.models.harsanyi.maskers.base import Masker
from conceptry.models.harsanyi.maskers.tensors import tensor_masker
from conceptry.models.harsanyi.sampled.explanation import sampled_record, samples_by_default
from conceptry.models.harsanyi.settings import PREDICTED, Settings, changed_settings
from conceptry.models.method import Package, Progress

if TYPE_CHECKING:
    from torch import nn

# Numbers in the masked inputs of one model call: what a network keeps of a large picture is many times the picture.
MAX_BATCH_NUMBERS = 2**22
_PARAMS = ("target", "top_k", "denoise", "details")
# Settings that mean something where the masker is given, or made of a tensor.
_TENSOR_SETTINGS = (
    *("temperature", "subtract_empty", "split_tolerance", "batch_size", "engine", "budget", "seed", "min_r2"),
    *("min_patterns", "max_patterns", "n_greedy", "thres_square_error", "thres_explain_ratio"),
)


class Harsanyi:
    """Explain a model by the groups of inputs that it uses together. Thread-safe where the model is.

    Args:
        model: its name, such as "zoo:wine", "models:/NAME/VERSION" or "torchvision:resnet18@FILE"; a scikit-learn
            estimator; a torch module; a function over arrays; or an `ExplainedModel` of one's own.
        settings: all settings as one object; `options` change single ones.
        groups: {player: columns} of a table; the same as a mapping for `players`.
        baseline_row: the row that absent columns take their values from, or several, whose mean v is; as `baseline`.
        device: of a named model, auto, cpu, cuda or cuda:INDEX; a module stays where it is for auto.
        statistics: background rows of a table (a DataFrame, an array or a CSV file), from which the baseline and the
            known categories are taken. Needed by a model of a table that does not bring its own.
        outputs: what the outputs are: "logits", "probabilities" or "values". By default the probabilities of a
            classifier that is known to give them, else values.
        allow_pickle: also load a named model that is stored as a pickle, which runs code from its file.
        modality: what a function takes: "table" (the default), "text", "image" or "points".
        shape: of one input of a module, (channels, height, width) or (points, 3), where it takes no table.
        classes: names of the outputs of an object.
        **options: settings by name, see `Settings`. `players` and `baseline` may be mappings. `background` names
            columns that are always present; a DataFrame for it is taken as `statistics`.

    Raises:
        InputError: for a model that is not found or cannot be explained so, and for unknown or unfit settings.

    Example:
        >>> from conceptry import Harsanyi
        >>> record = Harsanyi("zoo:wine").explain({
        ...     "alcohol": 13.2, "malic_acid": 1.8, "ash": 2.4, "alcalinity_of_ash": 16.0, "magnesium": 110.0,
        ...     "total_phenols": 2.9, "flavanoids": 3.2, "nonflavanoid_phenols": 0.3, "proanthocyanins": 2.0,
        ...     "color_intensity": 5.6, "hue": 1.05, "od280/od315_of_diluted_wines": 3.2, "proline": 1100.0,
        ... })
        >>> record.target, len(record.players)
        ('Barolo', 13)
        >>> sorted(record.patterns()[0])
        ['effect', 'kind', 'players']
    """

    method: ClassVar[str] = "harsanyi"

    def __init__(
        self,
        model: "str | ExplainedModel | nn.Module | Callable[[Any], Any] | Any",
        settings: Settings | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        baseline_row: BaselineRows = None,
        *,
        device: str = "auto",
        statistics: str | Path | pd.DataFrame | np.ndarray | None = None,
        outputs: str = "auto",
        allow_pickle: bool = False,
        modality: str | None = None,
        shape: Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        if isinstance(options.get("background"), (pd.DataFrame, np.ndarray)):
            if statistics is not None:
                raise InputError("background rows are given twice, as background and as statistics")
            statistics = options.pop("background")
        if isinstance(options.get("players"), Mapping):
            groups = options.pop("players")
        if not isinstance(options.get("baseline"), (str, type(None))):
            baseline_row = options.pop("baseline")
        if "background" in options:
            options["background"] = columns_named(options["background"])
        settings = changed_settings(settings or Settings(), options)

        from conceptry.models.explained.loaders.objects import as_explained

        self.model = model = as_explained(
            model, device, statistics=statistics, outputs=outputs, allow_pickle=allow_pickle, modality=modality,
            shape=shape, classes=classes,
        )  # fmt: skip
        settings, groups, rows = settings_with_files(settings, model, groups, baseline_row, statistics)
        self.settings = settings.for_model(model)
        self.groups, self.baseline_rows = groups, rows
        self._reward = Reward(str(self.settings.reward), self.settings.temperature)
        self.engines = Engines(self.model, self.settings, self._reward, len(rows or [{}]))
        if model.modality == "text" and self.settings.baseline != "delete":
            p.mask_token(model, self.settings)
        if self.settings.target != PREDICTED:
            output_index(self.settings.target, self.model, None)

    def problem(self, sample: Any) -> p.Problem:
        """The players of a sample, without asking the model.

        Raises InputError where the sample cannot be used or has too many players.
        """
        if self.model.modality == "table":
            return p.table_problem(self.model, self.settings, sample, self.groups, self.baseline_rows)
        make = {"text": p.text_problem, "image": p.image_problem, "points": p.points_problem}[self.model.modality]
        return make(self.model, self.settings, sample)

    @overload
    def explain(self, samples: "Mapping[str, Any] | pd.Series | str", **params: Any) -> SampleRecord: ...

    @overload
    def explain(self, samples: pd.DataFrame, **params: Any) -> Explanations: ...

    @overload
    def explain(self, samples: Any, *arguments: Any, **params: Any) -> Any: ...

    def explain(
        self,
        samples: Any,
        target: str | int | None = None,
        progress: Progress | None = None,
        *,
        top_k: int | None = None,
        denoise: bool = True,
        details: bool = False,
        **unknown: Any,
    ) -> Any:
        """Find all interactions of one sample, or of several.

        Args:
            samples: of a table {column: value}, a Series, values in the order of the columns, or a DataFrame for
                several; a text; an image (PIL, path, bytes, uint8 array, tensor); points (points, 3); or a list of
                such.
            target: the output to explain, by name or index, or "predicted"; by default as set for the explainer.
            progress: called with what is being done and the share of it that is done.
            top_k: how many patterns the answer has at the most.
            denoise: whether the answer has the patterns alone that denoising keeps.
            details: whether the answer has all rewards and interactions, too.

        Returns:
            `Interactions` of a single sample (`SparseInteractions` by the engines trees and sampled), else
            `Explanations`, which hold one for each.

        Raises:
            InputError: where a sample cannot be used or has too many players, and for unknown targets and parameters;
                of several samples it names the row.
        """
        if unknown:
            raise InputError(f"explain has no parameter {min(unknown)!r}; expected one of {', '.join(_PARAMS)}")
        if top_k is not None and top_k < 1:
            raise InputError(f"top_k must be at least 1, got {top_k}")
        options = AnswerOptions(None if top_k is None else int(top_k), bool(denoise), bool(details), self.settings)
        given, single = read_samples(samples, self.model)
        target, explained = None if target is None else str(target), []
        at_once = self._batch_size(max(1, len(self.model.columns)))
        for row, (sample, asked) in enumerate(self.engines.asked(given, self.problem, at_once)):
            try:
                explained.append(self._explain(sample, target, options, progress, asked))
            except InputError as error:
                raise InputError(str(error) if single else f"row {row}: {error}") from None
        return explained[0] if single else Explanations(tuple(explained))

    def to_package(self, directory: Path) -> Package:
        """Write the package folder of a version; see `conceptry.log_model`.

        Raises:
            InputError: where the explained model cannot be written, such as a Python function.
        """
        from conceptry.models.harsanyi.package import write_package  # which makes objects of this class

        package = write_package(self.model, self.settings, self.groups, self.baseline_rows, directory)
        return replace(package, notes=(*package.notes, *self.engines.notes))

    @classmethod
    def of_tensor(
        cls,
        function: Callable[[Any], Any],
        x: Any,
        baseline: Any = 0.0,
        target: str | int | None = None,
        *,
        players: Sequence[str] | None = None,
        segments: Any = None,
        masker: Masker | None = None,
        reward: str | None = None,
        outputs: str | None = None,
        classes: Sequence[str] | None = None,
        interactions: str = "and",
        top_k: int | None = None,
        denoise: bool = True,
        details: bool = False,
        progress: Progress | None = None,
        **options: Any,
    ) -> SampleRecord:
        """Find the interactions of one sample of a plain function: of up to 20 players all, of more by sampling.

        Args:
            function: from a batch (batch, *features), tensors or arrays as x is, to (batch,) or (batch, outputs).
            x: (*features), the sample, without a batch axis.
            baseline: values of absent features, a number or of a shape that broadcasts to that of x.
            target: index of the output, or its name in `classes`; by default the largest, of values the first.
            players: names of the n players.
            segments: player of each feature, 0 to n - 1, or -1 for what is always present; of a shape that broadcasts
                to that of x. By default each entry along the first of at most two axes is a player.
            masker: masked inputs in a way of one's own, instead of x, baseline and segments: an object with `players`
                and `masked(masks)`, whose result the function is called with.
            reward: "output", "log_odds", "log_odds_eps", "logit" or "probability". By default log_odds of logits and
                probabilities, else output.
            outputs: what the function returns: "logits", "probabilities" or "values". By default logits where the
                reward is one of a classifier, else values.
            classes: names of the outputs.
            interactions: "and", or "and-or": v split into an AND and an OR part.
            top_k, denoise, details, progress: see `explain`.
            **options: temperature, subtract_empty, split_tolerance, batch_size, engine ("exact" or "sampled"), budget,
                seed, min_r2, and the settings of denoising.

        Raises:
            InputError: for shapes that do not fit, and for unknown targets and settings.

        Example:
            >>> record = Harsanyi.of_tensor(lambda x: x[:, 0] * x[:, 1] + x[:, 2], [2.0, 3.0, -1.5])
            >>> record.patterns()
            [{'players': ['x1', 'x2'], 'effect': 6.0, 'kind': 'and'},
             {'players': ['x3'], 'effect': -1.5, 'kind': 'and'}]
        """
        if foreign := sorted(options.keys() - set(_TENSOR_SETTINGS)):
            raise InputError(f"of_tensor has no setting {foreign[0]!r}; expected one of {', '.join(_TENSOR_SETTINGS)}")
        form = outputs or ("values" if reward in (None, "output") else "logits")
        kind = reward or ("output" if form == "values" else "log_odds")
        settings = changed_settings(Settings(), {"reward": kind, "interactions": interactions, **options})
        model = g.TensorFunction(function, form, arrays=not isinstance(x, Tensor))
        description: dict[str, Any] = {"modality": "table", "sample": {}, "groups": {}}
        if masker is None:
            masker = tensor_masker(x, baseline, segments, players)
            if np.size(x) == len(masker.players):  # a player is one number, which figures can name
                description["sample"] = dict(zip(masker.players, np.ravel(torch.as_tensor(x)).tolist(), strict=True))
        elif players is not None or segments is not None:
            raise InputError("a masker says what the players are; leave out players and segments")
        game_reward = Reward(kind, settings.temperature)
        with torch.no_grad():
            every = masker.masked(np.ones((1, len(masker.players)), bool))
            outputs_of_x = model.forward(every) if isinstance(every, Tensor) else torch.as_tensor(model(every))
        about = Description("the function", "table").with_outputs(
            form, outputs_of_x.double().cpu().numpy(), [str(name) for name in classes or ()]
        )
        index = output_index(
            PREDICTED if target is None else str(target), about, outputs_of_x[0].double().cpu().numpy()
        )
        players, answer = tuple(masker.players), AnswerOptions(top_k, denoise, details, settings)
        ask, name = g.rewards_by_mask(model, masker, game_reward, index), about.classes[index]
        if samples_by_default(settings, len(players)):
            return sampled_record(ask, players, name, description, answer, settings.batch_size, None, progress)
        v = g.rewards_of(model, masker, game_reward, index, settings.batch_size, progress)
        return record_of(v, settings, players, name, None, len(v), description, answer)

    def _explain(
        self,
        sample: Any,
        target: str | None,
        options: AnswerOptions,
        progress: Progress | None,
        asked: tuple[p.Problem, Corners] | None = None,
    ) -> SampleRecord:
        problem, corners = asked or (self.problem(sample), None)
        if corners is None and self.engines.by_trees:
            corners = self.engines.corners([problem])[0]
        image = sample if self.model.modality == "image" else None
        index = self._target(problem, target or self.settings.target, corners)
        batch_size = self._batch_size(np.size(problem.sample))
        found = self.engines.sparse(problem, index, batch_size, options, image, progress, corners)
        if found is not None:
            if not options.denoise and options.top_k is None:
                check_listed(len(found.players), len(found.terms) - 1)
            return found
        if not options.denoise and options.top_k is None:
            check_listed(len(problem.players), 2 ** len(problem.players) - 1)
        if self.settings.learns_baseline:
            learned = p.learned_baseline(
                self.model, problem, self._reward, index, self.settings, self._batch_size, progress
            )
            v, calls, spreads = learned.v, learned.calls, None
        else:
            v, spreads = g.mean_rewards(self.model, problem.maskers, self._reward, index, batch_size, progress)
            learned, calls = None, len(v) * len(problem.maskers)
        return record_of(
            v, self.settings, problem.players, self.model.classes[index], learned, calls, problem.description, options,
            image, spreads,
        )  # fmt: skip

    def ask(self, sample: Any, subsets: Sequence[Sequence[int]], target: str | None = None) -> dict[str, Any]:
        """The target, and the rewards of subsets of the players of one sample, by their numbers."""
        problem = self.problem(sample)
        index = self._target(problem, target or self.settings.target)
        rewards = self.engines.rewards(problem, index, subsets, self._batch_size(np.size(problem.sample)))
        return {"target": self.model.classes[index], "rewards": rewards.tolist()}

    def _target(self, problem: p.Problem, target: str, corners: Corners | None = None) -> int:
        if target != PREDICTED:
            return output_index(target, self.model, None)
        (outputs,) = self.model(problem.sample) if corners is None else corners.outputs[:1]
        return g.predicted_output(outputs, self.model)

    def _batch_size(self, numbers: int) -> int:
        """Masked inputs of one call, where each holds so many numbers."""
        return max(1, min(self.settings.batch_size, MAX_BATCH_NUMBERS // numbers))
