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

What exemplars are computed with.
"""

import math
from dataclasses import dataclass

from conceptry.models.errors import InputError, shown
from conceptry.models.method import option
from conceptry.models.milan.describer.vocabulary import LENGTH

GREEDY, SAMPLE, BEAM, MI, RERANK = "greedy", "sample", "beam", "mi", "rerank"
STRATEGIES = (GREEDY, SAMPLE, BEAM, MI, RERANK)
MAX_BEAM_SIZE, MAX_LENGTH, MAX_TEMPERATURE = 5_000, 100, 100.0


@dataclass(frozen=True)
class DecodingSettings:
    """A search for descriptions; see the table above."""

    strategy: str = option(RERANK, "How the description is chosen.", STRATEGIES)
    temperature: float = option(0.2, "T, the weight of the language model (mi, rerank).")
    beam_size: int = option(50, "Hypotheses of a unit that a search goes on with (beam, mi, rerank).")
    length: int = option(LENGTH, "Tokens of a description at most.")
    alternatives: int = option(5, "Further descriptions that are reported, the next best ones.")
    clip: bool = option(False, "Rank by a dual encoder the candidates of an mi search (mi, rerank).")
    clip_weight: float = option(0.5, "Weight of the whole picture against its masked region (clip).")
    clip_temperature: float = option(0.5, "T of the search for candidates (clip).")
    seed: int = option(0, "Of the drawn descriptions (sample).")

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise InputError(f"strategy must be one of {', '.join(STRATEGIES)}, got {shown(self.strategy)}")
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


@dataclass(frozen=True)
class ExemplarSettings:
    """k: pictures of each unit. quantile: the share of a unit's activations that its masks leave out.

    image_size: of the delivered pictures and masks, a side or (height, width); None takes that of the network's own
    pictures (the original delivers 224). batch_size: pictures in one forward pass, which changes nothing
    but speed, memory and the rounding of the network itself; None chooses by device and size of pictures.

    Raises InputError for values outside their range.
    """

    k: int = 15
    quantile: float = 0.99
    image_size: int | tuple[int, int] | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if not _whole(self.k):
            raise InputError(f"k, the pictures of each unit, must be a whole number of at least 1, got {self.k!r}")
        if isinstance(self.quantile, bool) or not isinstance(self.quantile, int | float) or not 0 < self.quantile < 1:
            raise InputError(f"quantile must be between 0 and 1, both excluded, got {self.quantile!r}")
        if self.batch_size is not None and not _whole(self.batch_size):
            raise InputError(f"batch_size must be a whole number of at least 1, got {self.batch_size!r}")
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
