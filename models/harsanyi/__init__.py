"""Harsanyi interactions: which groups of inputs a model uses together."""

from conceptry.models.errors import ConvergenceWarning
from conceptry.models.harsanyi.aggregate import Aggregation, aggregate
from conceptry.models.harsanyi.and_or import AndOrSplit, inverse_or, or_interactions, split
from conceptry.models.harsanyi.denoise import Denoised, denoise
from conceptry.models.harsanyi.game import rewards_of
from conceptry.models.harsanyi.graph import AndOrGraph, Pattern, build_graph
from conceptry.models.harsanyi.images import ImageMasker, grid_segments, image_baseline, slic_segments
from conceptry.models.harsanyi.indices import (
    counts_by_order,
    salient,
    shapley_interactions,
    shapley_values,
    strength_by_order,
    truncate,
)
from conceptry.models.harsanyi.interactions import Interactions
from conceptry.models.harsanyi.model import Harsanyi
from conceptry.models.harsanyi.moebius import (
    MAX_PLAYERS,
    inverse_moebius,
    moebius,
    moebius_adjoint,
    n_players,
    row_masks,
    subset_index,
    subset_masks,
    subset_sizes,
)
from conceptry.models.harsanyi.points import PointMasker, cluster_points
from conceptry.models.harsanyi.rewards import REWARDS, Reward
from conceptry.models.harsanyi.settings import Settings
from conceptry.models.harsanyi.sparsify import Sparsified, sparsify
from conceptry.models.harsanyi.tabular import TabularMasker, tabular_baseline
from conceptry.models.harsanyi.tensors import TensorMasker
from conceptry.models.harsanyi.text import TextMasker, group_words, split_words

__all__ = [
    "MAX_PLAYERS",
    "REWARDS",
    "Aggregation",
    "AndOrGraph",
    "AndOrSplit",
    "ConvergenceWarning",
    "Denoised",
    "Harsanyi",
    "ImageMasker",
    "Interactions",
    "Pattern",
    "PointMasker",
    "Reward",
    "Settings",
    "Sparsified",
    "TabularMasker",
    "TensorMasker",
    "TextMasker",
    "aggregate",
    "build_graph",
    "cluster_points",
    "counts_by_order",
    "denoise",
    "grid_segments",
    "group_words",
    "image_baseline",
    "inverse_moebius",
    "inverse_or",
    "moebius",
    "moebius_adjoint",
    "n_players",
    "or_interactions",
    "rewards_of",
    "row_masks",
    "salient",
    "shapley_interactions",
    "shapley_values",
    "slic_segments",
    "sparsify",
    "split",
    "split_words",
    "strength_by_order",
    "subset_index",
    "subset_masks",
    "subset_sizes",
    "tabular_baseline",
    "truncate",
]
