"""Harsanyi interactions: which groups of inputs a model uses together."""

from typing import TYPE_CHECKING

from conceptry.models import lazy_face

if TYPE_CHECKING:
    from conceptry.models.harsanyi.api import *  # noqa: F403
else:
    __getattr__, __dir__ = lazy_face(__name__)
