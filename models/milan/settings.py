"""How descriptions are searched for: what distinguishes two versions of one describer, and what a request may change.

| strategy | which description |
|---|---|
| greedy | the most probable token after the most probable token |
| sample | one drawn from p(s given E) |
| beam | the most probable one that a beam search finds |
| mi | of a beam search for log p(s given E) - T log p_LM(s), the best |
| rerank | of those that beam finds, the one of the greatest log p(s given E) - T log p_LM(s) |

With clip, the candidates of an mi search at clip_temperature are ranked by how well a dual encoder matches them to the
exemplars; the original takes a beam of 1,000 there.

What exemplars are computed with, and the options of a version.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from conceptry.models.errors import InputError, truncated_repr
from conceptry.models.explained.protocol import IMAGENET
from conceptry.models.explained.source import HELP, OwnPreparation
from conceptry.models.method import Work, keep_plain_numbers, option

GREEDY, SAMPLE, BEAM, MI, RERANK = "greedy", "sample", "beam", "mi", "rerank"
STRATEGIES = (GREEDY, SAMPLE, BEAM, MI, RERANK)
LENGTH = 15  # tokens of a description, in the paper
MAX_BEAM_SIZE, MAX_LENGTH, MAX_TEMPERATURE = 5_000, 100, 100.0
MODEL, DATA = "zoo:scenes", "zoo:emoji-scenes"
DEFAULT_SIZE = 2000  # scenes that exemplars are chosen from
EMOJI_CLIP, EMOJI_MILAN, PHOTOS = "zoo:emoji-clip", "zoo:emoji-milan", "zoo:photos"
CLIP_DISSECT = "clip-dissect"
OF_WORDS = ("alternatives",)  # settings that say something to a describer of single words
NONE = "none"
CHANNELS = ("first", "last")  # which axis of maps the units are
# The other methods say image_size for what the network takes; here that has been the size of the stored exemplars from
# the start, and a script that stores small ones must not come to feed the network small pictures.
INPUT_SIZE = "input_size"


@dataclass(frozen=True)
class DecodingSettings:
    """A search for descriptions; see the table above."""

    strategy: str = option(RERANK, "How descriptions are searched for.", STRATEGIES)
    temperature: float = option(0.2, "Weight T of the language model (mi, rerank).")
    beam_size: int = option(50, "Hypotheses per unit that a search keeps (beam, mi, rerank).")
    length: int = option(LENGTH, "Maximum number of tokens of a description.")
    alternatives: int = option(5, "Number of runner-up descriptions to report.")
    clip: bool = option(False, "Rank the candidates of an mi search by a dual encoder (mi, rerank).")
    clip_weight: float = option(0.5, "Weight of the whole image against its masked region (clip).")
    clip_temperature: float = option(0.5, "Weight T in the search for candidates (clip).")
    seed: int = option(0, "Seed of the `sample` strategy.")

    def __post_init__(self) -> None:
        keep_plain_numbers(self)
        if self.strategy not in STRATEGIES:
            raise InputError(f"strategy must be one of {', '.join(STRATEGIES)}, got {truncated_repr(self.strategy)}")
        for name, least, most in (
            ("beam_size", 1, MAX_BEAM_SIZE),
            ("length", 1, MAX_LENGTH),
            ("alternatives", 0, MAX_BEAM_SIZE),
        ):
            if not least <= getattr(self, name) <= most:
                raise InputError(f"{name} must be from {least} to {most:,}, got {getattr(self, name)}")
        for name, most in (("temperature", MAX_TEMPERATURE), ("clip_temperature", MAX_TEMPERATURE), ("clip_weight", 1)):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= most):
                raise InputError(f"{name} must be from 0 to {most:g}, got {value}")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed must be from 0 to below 2^63, got {self.seed}")
        if self.clip and self.strategy not in (MI, RERANK):
            raise InputError(
                f"clip ranks the candidates of mi and rerank, not of {self.strategy}; leave one of them out"
            )

    @property
    def hypotheses(self) -> int:
        """How many are kept of a unit."""
        return 1 if self.strategy in (GREEDY, SAMPLE) else self.beam_size


def check_words(is_words: bool, given: Mapping[str, Any]) -> None:
    """Raises InputError where a describer of single words is given a setting of a search."""
    if is_words and (unknown := [name for name in given if name not in OF_WORDS]):
        raise InputError(
            f"{unknown[0]} is of describers that search for words one after another, and this one is {CLIP_DISSECT}; "
            "leave it out"
        )


@dataclass(frozen=True)
class ExemplarSettings:
    """k: pictures of each unit. quantile: the share of a unit's activations that its masks leave out.

    image_size: of the delivered pictures and masks, a side or (height, width); None takes that of the network's own
    pictures (the original delivers 224). batch_size: pictures in one forward pass, which changes nothing
    but speed, memory and the rounding of the network itself; None chooses by device and size of pictures. channels:
    which axis of a layer's maps the units are, "first" (n, units, h, w) or "last" (n, h, w, units); None goes by the
    layer, and refuses maps that may be either.

    Raises InputError for values outside their range.
    """

    k: int = 15
    quantile: float = 0.99
    image_size: int | tuple[int, int] | None = None
    batch_size: int | None = None
    channels: str | None = None

    def __post_init__(self) -> None:
        keep_plain_numbers(self)
        if not _whole(self.k):
            raise InputError(f"k, the pictures of each unit, must be a whole number of at least 1, got {self.k!r}")
        if isinstance(self.quantile, bool) or not isinstance(self.quantile, int | float) or not 0 < self.quantile < 1:
            raise InputError(f"quantile must be between 0 and 1, both excluded, got {self.quantile!r}")
        if self.batch_size is not None and not _whole(self.batch_size):
            raise InputError(f"batch_size must be a whole number of at least 1, got {self.batch_size!r}")
        if self.channels not in (None, *CHANNELS):
            raise InputError(f"channels must be one of {', '.join(CHANNELS)}, got {self.channels!r}")
        if self.image_size is not None:
            sides = self.image_size if isinstance(self.image_size, tuple) else (self.image_size, self.image_size)
            if len(sides) != 2 or not all(_whole(side) for side in sides):
                raise InputError(f"image_size must be a side or (height, width) in pixels, got {self.image_size!r}")

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the delivered pictures; None for the network's own."""
        size = self.image_size
        return (size, size) if isinstance(size, int) else size


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@dataclass(frozen=True)
class ExemplarSource:
    """Which exemplars: options of a registration."""

    model: str | None = option(
        None,
        "Network whose units are described: zoo:NAME, classifier:FOLDER, torchvision:NAME@WEIGHTS, "
        "torchvision:NAME@FILE, timm:NAME[@FILE], open_clip:ARCH@TAG, imagenet:NAME, models:/NAME/VERSION or "
        f"runs:/RUN/PATH of the pytorch flavour. [default: {MODEL}, or that of --exemplars]",
    )
    layers: str | None = option(
        None, "Comma-separated layer names, e.g. layer3,layer4. [default: its stages, or all of --exemplars]"
    )
    data: str | None = option(
        None,
        "Image data set to choose exemplars from: zoo:emoji-scenes, another zoo:NAME, or folder:PATH. "
        f"[default: {DATA}, or that of --exemplars]",
    )
    size: int | None = option(None, f"Maximum number of images. [default: {DEFAULT_SIZE} scenes; all of other data]")
    exemplars: str | None = option(None, "Results folder of `conceptry exemplars`, OUTPUT/MODEL/DATA, to use instead.")
    k: int | None = option(None, "Number of exemplars per unit. [default: 15]")
    quantile: float | None = option(None, "Share of a unit's activations that its masks leave out. [default: .99]")
    image_size: int | None = option(
        None,
        "Side of the stored images in pixels, not of what the network takes, which is --input-size. "
        "[default: as the network takes them]",
    )
    channels: str | None = option(
        None,
        "Axis of the units in the maps of a layer: last in Swin and ConvNeXt blocks. [default: by the layer]",
        CHANNELS,
    )
    classes: str | None = option(None, HELP["classes"])
    input_size: str | None = option(None, HELP["size"])
    mean: str | None = option(None, HELP["mean"])
    std: str | None = option(None, HELP["std"])
    preprocessing: str | None = option(None, HELP["preprocessing"], (IMAGENET,))

    def __post_init__(self) -> None:
        keep_plain_numbers(self)
        if self.exemplars is None:
            self.settings()
            return
        of_network = ("classes", INPUT_SIZE, "mean", "std", "preprocessing")
        for name in ("size", "k", "quantile", "image_size", "channels", *of_network):
            if getattr(self, name) is not None:
                raise InputError(f"{name} is of exemplars to compute, and {self.exemplars} holds them; leave it out")

    def settings(self) -> ExemplarSettings:
        """Raises InputError for values outside their range."""
        given = {name: getattr(self, name) for name in ("k", "quantile", "image_size", "channels")}
        return ExemplarSettings(**{name: value for name, value in given.items() if value is not None})

    def preparation(self) -> OwnPreparation:
        """What is said of the network's images. Raises InputError for texts that say nothing of the kind."""
        return OwnPreparation.of_texts(
            self.classes, self.input_size, self.mean, self.std, self.preprocessing, INPUT_SIZE
        )

    def layer_names(self) -> tuple[str, ...]:
        """Those that were named. Raises InputError for a layer that is named twice."""
        names = tuple(name.strip() for name in (self.layers or "").split(",") if name.strip())
        if len(set(names)) != len(names):
            raise InputError(f"layers must differ from one another, got {self.layers}")
        return names


WORK = Work(1_000_000, "tokens of hypotheses, rows x beam_size x length", "a smaller beam_size")
SEARCH = tuple(field.name for field in dataclasses.fields(DecodingSettings))


@dataclass(frozen=True)
class MilanOptions(DecodingSettings, ExemplarSource):
    """What distinguishes one version of MILAN from another."""

    describer: str = option(EMOJI_MILAN, f"Describer: zoo:NAME, describer:FOLDER or {CLIP_DISSECT}.")
    words: str | None = option(
        None,
        f"Text file with the words of {CLIP_DISSECT}, one per line. "
        f"[default: the vocabulary of {PHOTOS} with that, else the words of the emoji world]",
    )
    clip_encoder: str | None = option(
        None,
        f"Dual encoder for clip and {CLIP_DISSECT}, named as in splice, or {NONE}. "
        f"[default: {EMOJI_CLIP} for {EMOJI_MILAN} and {CLIP_DISSECT}; else {NONE}]",
    )

    def __post_init__(self) -> None:
        DecodingSettings.__post_init__(self)
        ExemplarSource.__post_init__(self)
        given = {n: v for n, v in asdict(self.settings_of_search()).items() if v != getattr(DecodingSettings(), n)}
        check_words(self.is_words, given)
        if self.words is not None and not self.is_words:
            raise InputError(f"words are those of {CLIP_DISSECT}, and describer is {self.describer}; leave them out")
        if self.encoder_name is None and (self.clip or self.is_words):
            raise InputError(f"{'clip' if self.clip else CLIP_DISSECT} needs a dual encoder; name it as clip_encoder")

    @property
    def is_words(self) -> bool:
        """Whether the describer is one of single words."""
        return self.describer == CLIP_DISSECT

    @property
    def encoder_name(self) -> str | None:
        """The dual encoder to load, if any."""
        if self.clip_encoder is None:
            return EMOJI_CLIP if self.describer in (EMOJI_MILAN, CLIP_DISSECT) else None
        return None if self.clip_encoder == NONE else self.clip_encoder

    def settings_of_search(self) -> DecodingSettings:
        """The part that says how to search."""
        return DecodingSettings(**{name: getattr(self, name) for name in SEARCH})


OPTIONS = MilanOptions
SUMMARY = "Register a milan explainer: describes the units of a network in words."
