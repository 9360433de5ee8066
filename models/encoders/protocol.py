"""What the methods ask of an encoder.

A user's own object needs only the two methods of `DualEncoder`, and then works with the library (`Splice`,
`build_dictionary`). A version carries its encoder, so that needs a `PackagedEncoder`, which can also prepare pictures
and be written to a folder: `load_encoder` makes one of a name, `wrap_open_clip` one of an open_clip model.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from conceptry.models.errors import InputError


@runtime_checkable
class DualEncoder(Protocol):
    """Images and text into one space of d dimensions. Embeddings need not be of unit norm."""

    def encode_image(self, pixels: Tensor, /) -> Tensor:
        """Preprocessed images (n, 3, height, width) to embeddings (n, d)."""
        ...

    def encode_text(self, texts: Any, /) -> Tensor:
        """n texts, or what else the encoder takes for them such as tokens, to embeddings (n, d)."""
        ...


@runtime_checkable
class PackagedEncoder(DualEncoder, Protocol):
    """A dual encoder that conceptry can put into a version."""

    name: str
    runtime: str

    @property
    def device(self) -> torch.device:
        """Where its networks live."""
        ...

    def preprocess(self, image: Image.Image) -> Tensor:
        """One RGB picture to pixels (3, height, width), float32."""
        ...

    def save(self, directory: Path) -> None:
        """Write all that `read_encoder` needs: configuration, tokeniser and weights; no pickle."""
        ...


def takes_texts(encoder: Any) -> Any:
    """The encoder. Raises InputError for a bare model of open_clip, which takes tokens."""
    if type(encoder).__module__.startswith("open_clip."):
        raise InputError(
            "a bare open_clip model takes tokens, not texts; give tokens, or wrap it by "
            "conceptry.models.encoders.wrap_open_clip(model, architecture)"
        )
    return encoder


def encode_texts(encoder: DualEncoder, texts: Sequence[str], batch_size: int = 256) -> Tensor:
    """Embeddings (n, d), float32, of any number of texts, `batch_size` at a time; a string is one text."""
    texts = [texts] if isinstance(texts, str) else texts
    return _joined([encoder.encode_text(texts[i : i + batch_size]).float() for i in range(0, len(texts), batch_size)])


def encode_images(encoder: PackagedEncoder, images: Iterable[Image.Image], batch_size: int = 64) -> Tensor:
    """Embeddings (n, d), float32, of any number of RGB pictures, `batch_size` at a time.

    Each picture is preprocessed before the next is asked for, so an iterator that decodes them lazily keeps one
    decoded picture and one batch of pixels in memory.
    """
    return encode_pixels(encoder, map(encoder.preprocess, images), batch_size)


def encode_pixels(encoder: PackagedEncoder, pixels: Iterable[Tensor], batch_size: int = 64) -> Tensor:
    """Embed images as `encode_images` does, given what `preprocess` made of each."""
    waiting, parts = iter(pixels), []
    while batch := list(islice(waiting, batch_size)):
        parts.append(encoder.encode_image(torch.stack(batch).to(encoder.device)).float())
    return _joined(parts)


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if len(parts) != 1 else parts[0]
