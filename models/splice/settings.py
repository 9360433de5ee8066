"""The options of a SpLiCE version: what distinguishes one registered version from another."""

import math
from dataclasses import dataclass

from conceptry.models.encoders.load import RUNTIMES
from conceptry.models.errors import InputError
from conceptry.models.method import Work, keep_plain_numbers, option
from conceptry.models.splice.solvers import SOLVERS


@dataclass(frozen=True)
class Defaults:
    """What goes with an encoder where nothing else is asked for."""

    vocabulary: str = "emoji"
    l1_penalty: float = 0.25


# At .45, photographs get six words, of which .6 have a right one among the first five; half as many words lose none.
_PHOTOS = Defaults("photos", 0.45)


def defaults_of(encoder: object) -> Defaults:
    """The vocabulary and the penalty of an encoder, by its name or by itself."""
    name = encoder if isinstance(encoder, str) else getattr(encoder, "name", None)
    # A map of `conceptry train photos --images` leads into the space of zoo:photos.
    of_photos = isinstance(name, str) and (name == "zoo:photos" or name.startswith("textunlock:"))
    return _PHOTOS if of_photos else Defaults()


@dataclass(frozen=True)
class SpliceOptions:
    """What distinguishes one SpLiCE version from another."""

    encoder: str = option(
        "zoo:emoji-clip",
        "Encoder: zoo:emoji-clip, zoo:photos (photographs), textunlock:FOLDER, open_clip:ARCH@TAG-or-FILE, "
        "onnx:FOLDER, or clip:ViT-B/32, clip:ViT-B/16, clip:RN50.",
    )
    runtime: str = option("torch", "Runtime of the encoder's networks.", RUNTIMES)
    vocabulary: str | None = option(
        None,
        "Vocabulary: emoji, photos, laion, laion_bigrams, mscoco, or a text file with one entry per line. "
        "[default: photos for zoo:photos and textunlock:FOLDER, else emoji]",
    )
    vocabulary_size: int | None = option(None, "Keep only this many of the last, most important words. [default: all]")
    l1_penalty: float | None = option(
        None,
        "L1 penalty lambda: a higher one gives fewer words. "
        "[default: .45 for zoo:photos and textunlock:FOLDER, else .25]",
    )
    solver: str = option("active_set", "Solver of the decomposition.", SOLVERS)
    tolerance: float = option(1e-6, "Duality gap at which a solve has converged.")
    image_mean: str | None = option(
        None, "Mean image embedding: a folder of images, a file, or published. [default: the encoder's own]"
    )
    text_mean: str | None = option(
        None, "Mean text embedding: a file, or a text file of captions. [default: the mean of the vocabulary]"
    )

    def __post_init__(self) -> None:
        for name, value in vars(defaults_of(self.encoder)).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        keep_plain_numbers(self)
        for name in ("l1_penalty", "tolerance"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be a finite number above 0, got {value}")


OPTIONS = SpliceOptions
SUMMARY = "Register a splice explainer: decomposes CLIP embeddings into words."
# A solve takes as many steps as it finds words, and longer ones the more there are: for 10,000 words 8 ms a row at the
# penalty .25, 14 ms at .1, 120 at .05, 560 at .025 and 4,300 at .01.
WORK = Work(
    10_000, "rows at the registered l1_penalty, where one at a fraction f of it counts 1 / f^2", "a higher l1_penalty"
)
