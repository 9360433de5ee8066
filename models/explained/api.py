"""The public names of `conceptry.models.explained`, which imports them when they are first used."""

from conceptry.models.explained.image_inputs import as_pixel_model
from conceptry.models.explained.load import load_explained, read_explained
from conceptry.models.explained.protocol import Column, DifferentiableModel, ExplainedModel, PackagedModel, PixelModel
from conceptry.models.explained.tables import check_row, columns_of

__all__ = [
    "Column",
    "DifferentiableModel",
    "ExplainedModel",
    "PackagedModel",
    "PixelModel",
    "as_pixel_model",
    "check_row",
    "columns_of",
    "load_explained",
    "read_explained",
]
