"""Dual encoders of images and text behind one small protocol; `load_encoder` turns a name into one of them."""

from conceptry.models.encoders.load import load_encoder, read_encoder
from conceptry.models.encoders.protocol import DualEncoder, PackagedEncoder

__all__ = ["DualEncoder", "PackagedEncoder", "load_encoder", "read_encoder"]
