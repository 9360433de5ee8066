"""Dual encoders of images and text behind one small protocol; `load_encoder` turns a name into one of them."""

from typing import TYPE_CHECKING

from conceptry.models import lazy_face

if TYPE_CHECKING:
    from conceptry.models.encoders.api import *  # noqa: F403
else:
    __getattr__, __dir__ = lazy_face(__name__)
