"""Sparse perturbations: what would have to change, and what a class looks like to a model."""

from typing import TYPE_CHECKING

from conceptry.models import lazy_face

if TYPE_CHECKING:
    from conceptry.models.perturbation.api import *  # noqa: F403
else:
    __getattr__, __dir__ = lazy_face(__name__)
