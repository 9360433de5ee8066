"""MILAN: what the units of a network respond to, in words.

Hernandez, Schwettmann, Bau, Bagashvili, Torralba, Andreas, "Natural Language Descriptions of Deep Visual Features",
ICLR 2022. Importing this does not import MLflow.
"""

from conceptry.models.milan.records import LayerExemplars, UnitExemplars

__all__ = ["LayerExemplars", "UnitExemplars"]
