"""From one sample of a model to its players: what each owns, and what takes their place when they are absent.

| modality | sample | position (what a player owns one or several of) |
|---|---|---|
| table | {column: value} | column |
| text | a text | word |
| image | uint8 (H, W, 3) | pixel, by segment |
| points | float (P, 3) | point, by cluster |
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import Column, DifferentiableModel, ExplainedModel
from conceptry.models.explained.tables import check_row, with_unseen
from conceptry.models.harsanyi.baseline import Sparsified, sparsify
from conceptry.models.harsanyi.game import Reward
from conceptry.models.harsanyi.interactions.moebius import MAX_PLAYERS
from conceptry.models.harsanyi.maskers.base import Masker
from conceptry.models.harsanyi.maskers.images import (
    ImageMasker,
    grid_names,
    grid_segments,
    image_baseline,
    slic_segments,
)
from conceptry.models.harsanyi.maskers.points import PointMasker, cluster_points
from conceptry.models.harsanyi.maskers.tabular import TabularMasker, tabular_baseline
from conceptry.models.harsanyi.maskers.text import TextMasker, group_words, split_words
from conceptry.models.harsanyi.settings import EXACT, LEARNED, MAX_SAMPLED, SAMPLED, Settings
from conceptry.models.method import Progress, whole_number

POINTS_SEED = 0
_WAY_OUT = {
    "table": "group columns by a JSON file {player: [columns]}, or keep some as background",
    "text": "group words by players words:%d",
    "image": "choose a coarser grid or fewer segments",
    "points": "choose fewer clusters",
}


@dataclass(frozen=True)
class Problem:
    """One sample as a game.

    maskers: masked inputs of the model for any subsets, one for each row of a baseline; v is the mean over them.
    sample, absent: inputs of one row, with every player present and with none, by the first masker. owner: which player
    owns each position (see above), int64, -1 for what is always present.
    description: the sample and its players in JSON-ready form.
    """

    maskers: tuple[Masker, ...]
    sample: Any
    absent: Any
    owner: np.ndarray
    description: dict[str, Any]

    @property
    def players(self) -> tuple[str, ...]:
        return tuple(self.maskers[0].players)

    def features(self, model: DifferentiableModel) -> tuple[Tensor, Tensor, Tensor]:
        """The sample, its baseline, and the player that owns each feature, in the model's continuous space."""
        x, baseline = model.encode(self.sample)[0], model.encode(self.absent)[0]
        owner = torch.from_numpy(self.owner)
        if model.modality == "image":  # (H, W), the same for every channel
            return x, baseline, owner.expand(x.shape).to(x.device)
        return x, baseline, owner[model.feature_owner(self.sample).cpu()].to(x.device)


def table_problem(
    model: ExplainedModel,
    settings: Settings,
    row: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]] | None = None,
    baseline_rows: Sequence[Mapping[str, Any]] | None = None,
) -> Problem:
    """Columns, or groups of them, as players. Raises InputError naming the column that cannot be used."""
    columns = _known_columns(model, row)
    row = check_row(row, columns)
    background = settings.background_columns([column.name for column in columns])
    grouped = {name for group in (groups or {}).values() for name in group} | set(background)
    alone = [column.name for column in model.columns if column.name not in grouped]
    _check_count(len(groups or ()) + len(alone), settings, "table")
    if settings.baseline_is_rows:
        assert baseline_rows
        baselines = [_checked_row(line, number, model.columns) for number, line in enumerate(baseline_rows)]
    else:
        kind = "mean" if settings.baseline == LEARNED else str(settings.baseline)
        baselines = [tabular_baseline(model.columns, kind)]
    maskers = [TabularMasker(row, columns, baseline, groups, background) for baseline in baselines]
    masker = maskers[0]
    unseen = {new.name: row[new.name] for new, own in zip(columns, model.columns, strict=True) if new != own}
    description = {
        "modality": "table",
        **({"unseen": unseen} if unseen else {}),
        **({"baselines": len(maskers)} if len(maskers) > 1 else {}),
        "sample": {
            name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()
        },
        "groups": {k: list(v) for k, v in groups.items()} if groups else {},
    }
    sample = masker.masked(np.ones((1, len(masker.players)), bool))
    return Problem(tuple(maskers), sample, _masked_empty(masker), masker.owner, description)


def _checked_row(row: Mapping[str, Any], number: int, columns: Sequence[Column]) -> Mapping[str, Any]:
    try:
        return check_row(row, columns)
    except InputError as error:
        raise InputError(f"row {number} of the baseline: {error}") from None


def _known_columns(model: ExplainedModel, row: Mapping[str, Any]) -> tuple[Column, ...]:
    """The model's columns, with categories of the row that no background row has where the model takes them.

    The background may be a part of the training data, encoders may ignore what they do not know, and free text is new
    in every row: so the model itself is asked.
    """
    columns = with_unseen(row, model.columns)
    if columns == tuple(model.columns):
        return columns
    try:
        model(pd.DataFrame([check_row(row, columns)]))
    except InputError:
        return tuple(model.columns)  # whose check names the category
    return columns


def text_problem(model: ExplainedModel, settings: Settings, text: str) -> Problem:
    """Words, or groups of consecutive ones, as players."""
    words = _words(model, text)
    if not words:
        raise InputError("expected a text that is not blank")
    count = _count(settings.players, "words", optional=True)
    _check_count(min(count or len(words), len(words)), settings, "text")
    groups = group_words(words, min(count, len(words))) if count else None
    token = None if settings.baseline == "delete" else mask_token(model, settings)
    masker = TextMasker(words, token, groups, text=text)
    absent, owner = _masked_empty(masker), masker.owner
    if settings.learns_baseline:  # in the space of the model's tokens, of which a word can have several
        tokens: Any = model.tokens  # type: ignore[attr-defined]  # of a differentiable model of texts
        counts = [len(tokens(word)) for word in words]
        if sum(counts) != len(tokens(text)):
            raise InputError("a learned baseline needs tokens that follow the words; choose another baseline")
        owner = np.repeat(owner, counts)
        absent = [" ".join([str(token)] * len(owner))]
    names = zip(masker.players, groups or (), strict=False)
    described = {name: [words[k] for k in group] for name, group in names}
    description = {"modality": "text", "sample": {"text": text, "words": words}, "groups": described}
    return Problem((masker,), [text], absent, owner, description)


def image_problem(model: ExplainedModel, settings: Settings, image: np.ndarray) -> Problem:
    """Cells of a grid, or SLIC segments, as players."""
    players = str(settings.players)
    if players.startswith("slic"):
        segments, names = slic_segments(image, _count(players, "slic")), None
    else:
        rows, columns = _grid(players)
        segments = grid_segments(image.shape[0], image.shape[1], rows, columns)
        names = grid_names(rows, columns)
    _check_count(int(segments.max()) + 1, settings, "image")
    kind = "mean" if settings.baseline == LEARNED else str(settings.baseline)
    masker = ImageMasker(image, segments, image_baseline(image, kind), names)
    description = {"modality": "image", "sample": {"segments": segments.tolist()}, "groups": {}}
    return Problem((masker,), image[None], _masked_empty(masker), masker.owner, description)


def points_problem(model: ExplainedModel, settings: Settings, points: np.ndarray) -> Problem:
    """Clusters of points as players; an absent point lies at the centroid of the cloud."""
    count = _count(settings.players, "clusters")
    _check_count(count, settings, "points")
    clusters = cluster_points(points, count, POINTS_SEED)
    masker = PointMasker(points, clusters)
    description = {"modality": "points", "sample": {"clusters": np.asarray(clusters).tolist()}, "groups": {}}
    return Problem((masker,), points[None], _masked_empty(masker), np.asarray(clusters, np.int64), description)


def mask_token(model: ExplainedModel, settings: Settings) -> str:
    """The token that stands for an absent word: the one given, else the model's own."""
    given = str(settings.baseline).partition(":")[2]
    own = getattr(model, "mask_token", None)
    if not given and own is None:
        raise InputError(f"{model.name} names no mask token; give one as the baseline token:WORD, or use delete")
    return given or str(own)


def _check_count(n: int, settings: Settings, modality: str) -> None:
    """Raise InputError for too many players, before anything is done for each of them."""
    most = settings.most_players
    if most is not None and n > most:
        way = _WAY_OUT[modality].replace("%d", str(most))
        if settings.engine != SAMPLED and n <= MAX_PLAYERS:
            way += f", or raise max_players (up to {MAX_PLAYERS})"
        if settings.engine == EXACT and n <= MAX_SAMPLED:
            way += ", or take the engine sampled"
        raise InputError(f"{n} players, and at most {most} are accepted; {way}")


def _words(model: ExplainedModel, text: str) -> list[str]:
    """The words of a text. A piece that the model's tokens divide elsewhere, such as 's or [MASK], stays whole."""
    tokens = getattr(model, "tokens", None)
    if tokens is None:
        return split_words(text)
    words = []
    for piece in text.split():
        parts = split_words(piece)
        follows = sum(len(tokens(part)) for part in parts) == len(tokens(piece))
        words += parts if follows else [piece]
    return words


def _masked_empty(masker: Masker) -> Any:
    return masker.masked(np.zeros((1, len(masker.players)), bool))


def _count(players: str | None, kind: str, optional: bool = False) -> int:
    name, _, count = str(players).partition(":")
    if name == kind and optional and not count:
        return 0
    if name != kind or not whole_number(count):
        form = f"{kind} or {kind}:K" if optional else f"{kind}:K"
        raise InputError(f"players must be {form} with K at least 1, got {players!r}")
    return int(count)


def _grid(players: str) -> tuple[int, int]:
    name, _, shape = players.partition(":")
    rows, _, columns = shape.partition("x")
    if name != "grid" or not whole_number(rows) or not whole_number(columns):
        raise InputError(f"players must be grid:ROWSxCOLUMNS or slic:K, got {players!r}")
    return int(rows), int(columns)


def learned_baseline(
    model: Any,
    problem: Problem,
    reward: Reward,
    index: int,
    settings: Settings,
    batch_size_of: Callable[[int], int],
    progress: Progress | None,
) -> Sparsified:
    """The baseline that minimises the L1 of the AND interactions, within a box around the registered start.

    batch_size_of: masked inputs of one call of the model, by how many numbers one of them holds.
    """
    x, baseline, owner = problem.features(model)
    lower, upper, spread = learning_bounds(model, problem, x, baseline, settings.learning_range)

    def rewards(masked: Tensor) -> Tensor:
        return reward(model.forward(masked), model.form, index)

    return sparsify(
        rewards,
        x,
        baseline,
        owner,
        len(problem.players),
        lower=lower,
        upper=upper,
        scale=spread,
        steps=settings.learning_steps,
        lr=settings.learning_rate,
        batch_size=batch_size_of(x.numel()),
        subtract_empty=settings.subtract_empty,
        progress=progress,
    )


def learning_bounds(
    model: Any, problem: Problem, x: Tensor, baseline: Tensor, reach: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The box that a baseline is learned in, and how far features spread: lower, upper and spread, each as x.

    reach: half of the box around `baseline`, in spreads. Pixels and categories have no meaning outside [0, 1].
    """
    # Columns are standardised; of anything else the sample itself says how far its features spread.
    spread = torch.full_like(x, 1.0 if model.modality == "table" else float(x.std()))
    lower, upper = baseline - reach * spread, baseline + reach * spread
    if model.modality == "table":
        categorical = torch.tensor([column.kind == "categorical" for column in model.columns], device=x.device)
        bounded = categorical[model.feature_owner(problem.sample)]
    else:
        bounded = torch.full_like(x, model.modality == "image", dtype=torch.bool)
    lower = torch.where(bounded, lower.clamp(min=0.0), lower)
    return lower, torch.where(bounded, upper.clamp(max=1.0), upper), spread
