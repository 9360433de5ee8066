"""The public names of `conceptry.models.splice`, which imports them when they are first used."""

from conceptry.models.errors import ConvergenceWarning
from conceptry.models.splice.decomposition import Decomposition, decompose
from conceptry.models.splice.dictionary import build_dictionary, load_image_mean, load_text_mean, mean_embedding
from conceptry.models.splice.explanation import Explanation
from conceptry.models.splice.model import Splice
from conceptry.models.splice.original import (
    SPLICE,
    ClassSummaries,
    ConceptSummary,
    available_models,
    decompose_classes,
    decompose_dataset,
    decompose_image,
    get_preprocess,
    get_tokenizer,
    get_vocabulary,
    load,
)
from conceptry.models.splice.vocabulary import load_vocabulary

__all__ = [
    "SPLICE",
    "ClassSummaries",
    "ConceptSummary",
    "ConvergenceWarning",
    "Decomposition",
    "Explanation",
    "Splice",
    "available_models",
    "build_dictionary",
    "decompose",
    "decompose_classes",
    "decompose_dataset",
    "decompose_image",
    "get_preprocess",
    "get_tokenizer",
    "get_vocabulary",
    "load",
    "load_image_mean",
    "load_text_mean",
    "load_vocabulary",
    "mean_embedding",
]
