"""The public names of `conceptry.models.harsanyi`, which imports them when they are first used."""

from conceptry.models.errors import ConvergenceWarning
from conceptry.models.harsanyi.baseline import Sparsified, sparsify
from conceptry.models.harsanyi.game import REWARDS, Reward, rewards_of
from conceptry.models.harsanyi.graph import AndOrGraph, Pattern, build_graph
from conceptry.models.harsanyi.interactions.aggregate import Aggregation, aggregate
from conceptry.models.harsanyi.interactions.and_or import AndOrSplit, inverse_or, or_interactions, split
from conceptry.models.harsanyi.interactions.denoise import Denoised, denoise
from conceptry.models.harsanyi.interactions.indices import (
    counts_by_order,
    salient,
    shapley_interactions,
    shapley_values,
    strength_by_order,
    truncate,
)
from conceptry.models.harsanyi.interactions.moebius import (
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
from conceptry.models.harsanyi.interactions.record import Explanations, Interactions
from conceptry.models.harsanyi.interactions.terms import Terms
from conceptry.models.harsanyi.maskers.images import ImageMasker, grid_segments, image_baseline, slic_segments
from conceptry.models.harsanyi.maskers.points import PointMasker, cluster_points
from conceptry.models.harsanyi.maskers.tabular import TabularMasker, tabular_baseline
from conceptry.models.harsanyi.maskers.tensors import TensorMasker
from conceptry.models.harsanyi.maskers.text import TextMasker, group_words, split_words
from conceptry.models.harsanyi.model import Harsanyi
from conceptry.models.harsanyi.sampled.engine import sampled_interactions
from conceptry.models.harsanyi.sampled.record import SampledInteractions
from conceptry.models.harsanyi.settings import Settings
from conceptry.models.harsanyi.trees.interactions import TreeInteractions, tree_interactions
from conceptry.models.harsanyi.trees.reading import read as read_trees

__all__ = [
    "MAX_PLAYERS",
    "REWARDS",
    "Aggregation",
    "AndOrGraph",
    "AndOrSplit",
    "ConvergenceWarning",
    "Denoised",
    "Explanations",
    "Harsanyi",
    "ImageMasker",
    "Interactions",
    "Pattern",
    "PointMasker",
    "Reward",
    "SampledInteractions",
    "Settings",
    "Sparsified",
    "TabularMasker",
    "TensorMasker",
    "Terms",
    "TextMasker",
    "TreeInteractions",
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
    "read_trees",
    "rewards_of",
    "row_masks",
    "salient",
    "sampled_interactions",
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
    "tree_interactions",
    "truncate",
]
