"""A version over a whole data set: by Spark, or by any engine that calls a function on parts of a table.

| name | what |
|---|---|
| `predictor` | a callable class over pandas tables, for `map_batches` of Ray Data and `map_partitions` of Dask |
| `explain` | one Spark job, from an input to a folder of answers: `conceptry batch` |
| `Settings` | how `explain` asks and writes |

Nothing heavy is imported before a name is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conceptry.evaluation.batch.job import Settings, explain
    from conceptry.evaluation.batch.predictor import Predictor as predictor  # noqa: N813  # called like a function

__all__ = ["Settings", "explain", "predictor"]

_FACES = {"Settings": ("job", "Settings"), "explain": ("job", "explain"), "predictor": ("predictor", "Predictor")}


def __getattr__(name: str) -> Any:
    if name not in _FACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _FACES[name]
    return getattr(importlib.import_module(f"conceptry.evaluation.batch.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
