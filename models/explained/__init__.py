"""What is explained: any model by name, seen through one small protocol.

| name | is |
|---|---|
| `ExplainedModel`, `DifferentiableModel`, `PackagedModel`, `Column` | `conceptry.models.explained.protocol` |
"""

from conceptry.models.explained.protocol import Column, DifferentiableModel, ExplainedModel, PackagedModel

__all__ = ["Column", "DifferentiableModel", "ExplainedModel", "PackagedModel"]
