"""What the methods ask of an encoder.

A user's own object needs only the two methods of `DualEncoder`, and then works with the library (`Splice`,
`build_dictionary`) alone: registration takes the name of an encoder, and `load_encoder` makes a `PackagedEncoder` of
it, which can also prepare pictures, be written to a folder and be read back. An object of another class cannot be
registered.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor


@runtime_checkable
class DualEncoder(Protocol):
    """Images and text into one space of d dimensions. Embeddings need not be of unit norm."""

    def encode_image(self, pixels: Tensor, /) -> Tensor:
        """Preprocessed images (n, 3, height, width) to embeddings (n, d)."""
        ...

    def encode_text(self, texts: Sequence[str], /) -> Tensor:
        """n texts to embeddings (n, d)."""
        ...


@runtime_checkable
class PackagedEncoder(DualEncoder, Protocol):
    """A dual encoder that conceptry can put into a version."""

    name: str
    device: torch.device
    runtime: str

    def preprocess(self, image: Image.Image) -> Tensor:
        """One RGB picture to pixels (3, height, width), float32."""
        ...

    def save(self, directory: Path) -> None:
        """Write all that `read_encoder` needs: configuration, tokeniser and weights; no pickle."""
        ...


def encode_texts(encoder: DualEncoder, texts: Sequence[str], batch_size: int = 256) -> Tensor:
    """Embeddings (n, d), float32, of any number of texts, `batch_size` at a time."""
    return _joined([encoder.encode_text(texts[i : i + batch_size]).float() for i in range(0, len(texts), batch_size)])


def encode_images(encoder: PackagedEncoder, images: Iterable[Image.Image], batch_size: int = 64) -> Tensor:
    """Embeddings (n, d), float32, of any number of RGB pictures, `batch_size` at a time.

    Each picture is preprocessed before the next is asked for, so an iterator that decodes them lazily keeps one
    decoded picture and one batch of pixels in memory.
    """
    pixels, parts = map(encoder.preprocess, images), []
    while batch := list(islice(pixels, batch_size)):
        parts.append(encoder.encode_image(torch.stack(batch).to(encoder.device)).float())
    return _joined(parts)


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if len(parts) != 1 else parts[0]
