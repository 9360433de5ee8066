"""MILAN: what the units of a network respond to, in words.

Hernandez, Schwettmann, Bau, Bagashvili, Torralba, Andreas, "Natural Language Descriptions of Deep Visual Features",
ICLR 2022. Importing this does not import MLflow.
"""

from conceptry.models.milan.ablation import ablated
from conceptry.models.milan.annotations import load_annotations
from conceptry.models.milan.describer import Describer, load_describer, read_describer
from conceptry.models.milan.descriptions import Alternative, Description
from conceptry.models.milan.exemplar_settings import ExemplarSettings
from conceptry.models.milan.exemplars import compute_exemplars
from conceptry.models.milan.files import read_results
from conceptry.models.milan.networks import load_network
from conceptry.models.milan.records import LayerExemplars, UnitExemplars
from conceptry.models.milan.settings import DecodingSettings
from conceptry.models.milan.sources import ArraySource, open_source
from conceptry.models.milan.torch_source import TorchSource

__all__ = [
    "Alternative",
    "ArraySource",
    "DecodingSettings",
    "Describer",
    "Description",
    "ExemplarSettings",
    "LayerExemplars",
    "TorchSource",
    "UnitExemplars",
    "ablated",
    "compute_exemplars",
    "load_annotations",
    "load_describer",
    "load_network",
    "open_source",
    "read_describer",
    "read_results",
]
