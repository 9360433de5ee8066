"""What is explained: any model by name, seen through one small protocol; importing this does not import MLflow."""

from typing import TYPE_CHECKING

from conceptry.models import lazy_face

if TYPE_CHECKING:
    from conceptry.models.explained.api import *  # noqa: F403
else:
    __getattr__, __dir__ = lazy_face(__name__)
