"""What the methods ask of an encoder.

A user's own object needs only the two methods of `DualEncoder` to be used as a library. An encoder that can be
registered must also be able to prepare pictures, to be written to a folder and to be read back (`PackagedEncoder`).
"""

from collections.abc import Sequence
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


def encode_images(encoder: PackagedEncoder, images: Sequence[Image.Image], batch_size: int = 64) -> Tensor:
    """Embeddings (n, d), float32, of any number of RGB pictures, `batch_size` at a time."""
    batches = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
    return _joined(
        [
            encoder.encode_image(torch.stack([encoder.preprocess(image) for image in batch]).to(encoder.device)).float()
            for batch in batches
        ]
    )


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if len(parts) != 1 else parts[0]
