"""The public names of `conceptry.models.milan`, which imports them when they are first used."""

from conceptry.models.milan.ablation import ablated
from conceptry.models.milan.annotations.annotations import load_annotations
from conceptry.models.milan.describer.describer import Describer, load_describer, read_describer
from conceptry.models.milan.describer.ranking import Alternative, Description
from conceptry.models.milan.exemplars.compute import compute_exemplars
from conceptry.models.milan.exemplars.records import LayerExemplars, UnitExemplars, read_results
from conceptry.models.milan.exemplars.sources import ArraySource, TorchSource, open_source
from conceptry.models.milan.model import Milan
from conceptry.models.milan.network import load_network
from conceptry.models.milan.record import UnitDescription, UnitDescriptions
from conceptry.models.milan.settings import DecodingSettings, ExemplarSettings

__all__ = [
    "Alternative",
    "ArraySource",
    "DecodingSettings",
    "Describer",
    "Description",
    "ExemplarSettings",
    "LayerExemplars",
    "Milan",
    "TorchSource",
    "UnitDescription",
    "UnitDescriptions",
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
