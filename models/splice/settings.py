"""The options of a SpLiCE version: what distinguishes one registered version from another."""

import math
from dataclasses import dataclass

from conceptry.models.encoders.load import RUNTIMES
from conceptry.models.errors import InputError
from conceptry.models.method import keep_plain_numbers, option
from conceptry.models.splice.solvers import SOLVERS


@dataclass(frozen=True)
class SpliceOptions:
    """What distinguishes one SpLiCE version from another."""

    encoder: str = option(
        "zoo:emoji-clip",
        "Encoder: zoo:NAME, open_clip:ARCH@TAG-or-FILE, onnx:FOLDER, or clip:ViT-B/32, clip:ViT-B/16, clip:RN50.",
    )
    runtime: str = option("torch", "Runtime of the encoder's networks.", RUNTIMES)
    vocabulary: str = option(
        "emoji", "Vocabulary: emoji, laion, laion_bigrams, mscoco, or a text file with one entry per line."
    )
    vocabulary_size: int | None = option(None, "Keep only this many of the last, most important words. [default: all]")
    l1_penalty: float = option(0.25, "L1 penalty lambda: a higher one gives fewer words.")
    solver: str = option("active_set", "Solver of the decomposition.", SOLVERS)
    tolerance: float = option(1e-6, "Duality gap at which a solve has converged.")
    image_mean: str | None = option(
        None, "Mean image embedding: a folder of images, a file, or published. [default: the encoder's own]"
    )
    text_mean: str | None = option(
        None, "Mean text embedding: a file, or a text file of captions. [default: the mean of the vocabulary]"
    )

    def __post_init__(self) -> None:
        keep_plain_numbers(self)
        for name in ("l1_penalty", "tolerance"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be a finite number above 0, got {value}")


OPTIONS = SpliceOptions
SUMMARY = "Register a splice explainer: decomposes CLIP embeddings into words."
