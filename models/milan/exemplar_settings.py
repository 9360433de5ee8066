"""What exemplars are computed with."""

from dataclasses import dataclass

from conceptry.models.errors import InputError


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
