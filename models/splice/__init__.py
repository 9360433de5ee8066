"""SpLiCE: sparse nonnegative decompositions of CLIP embeddings into words."""

from typing import TYPE_CHECKING

from conceptry.models import lazy_face

if TYPE_CHECKING:
    from conceptry.models.splice.api import *  # noqa: F403
else:
    __getattr__, __dir__ = lazy_face(__name__)
