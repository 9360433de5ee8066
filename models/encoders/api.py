"""The public names of `conceptry.models.encoders`, which imports them when they are first used."""

from conceptry.models.encoders.clip import wrap_open_clip
from conceptry.models.encoders.load import load_encoder, read_encoder
from conceptry.models.encoders.protocol import DualEncoder, PackagedEncoder

__all__ = ["DualEncoder", "PackagedEncoder", "load_encoder", "read_encoder", "wrap_open_clip"]
