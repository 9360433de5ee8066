"""The explanation of one sample by a budget of subsets, from its game: masks to rewards."""

from collections.abc import Callable
from typing import Any

import numpy as np

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.interactions.answer import AnswerOptions
from conceptry.models.harsanyi.interactions.sparse import (
    Quality,
    SparseInteractions,
    with_empty_first,
    without_empty,
)
from conceptry.models.harsanyi.settings import AUTO, MAX_PLAYERS, SAMPLED, TREES, Settings
from conceptry.models.method import Progress


def samples_by_default(settings: Settings, n: int) -> bool:
    """Whether a plain function of n players is sampled: where that is asked for, and where not all subsets can be."""
    if settings.engine == TREES:
        raise InputError("a function has no trees; expected engine exact, sampled or auto")
    return settings.engine == SAMPLED or (settings.engine == AUTO and n > MAX_PLAYERS)


def sampled_record(
    ask: Callable[[np.ndarray], np.ndarray],
    players: tuple[str, ...],
    target: str,
    description: dict[str, Any],
    options: AnswerOptions,
    batch_size: int,
    image: np.ndarray | None,
    progress: Progress | None,
) -> SparseInteractions:
    """The interactions of a game, masks to rewards, from a budget of subsets: that of the settings in `options`."""
    from conceptry.models.harsanyi.sampled.engine import sampled_interactions

    settings = options.settings
    found = sampled_interactions(
        ask,
        len(players),
        settings.budget,
        settings.seed,
        interactions=settings.interactions,
        min_r2=settings.min_r2,
        progress=progress,
        batch_size=batch_size,
    )
    terms, full, empty = with_empty_first(found.sparse), found.v_full, found.v_empty
    if settings.subtract_empty:
        terms, full, empty = without_empty(terms), full - empty, 0.0
    quality = Quality(found.r2, found.r2_interval, found.believable)
    return SparseInteractions(
        players,
        target,
        terms,
        (empty, full),
        found.residual,
        SAMPLED,
        found.calls,
        description,
        quality,
        options,
        image,
    )
