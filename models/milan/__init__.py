"""MILAN: what the units of a network respond to, in words.

Hernandez, Schwettmann, Bau, Bagashvili, Torralba, Andreas, "Natural Language Descriptions of Deep Visual Features",
ICLR 2022. Importing this does not import MLflow.
"""

from typing import TYPE_CHECKING

from conceptry.models import lazy_face

if TYPE_CHECKING:
    from conceptry.models.milan.api import *  # noqa: F403
else:
    __getattr__, __dir__ = lazy_face(__name__)
