"""An MLflow-tracked model registry of concept explainers.

| name | question |
|---|---|
| `Splice` | which words make up this embedding? |
| `Harsanyi` | which groups of inputs does the model use together? |
| `Perturbation` | what would have to change, and what does a class look like to the model? |
| `Milan` | what does this neuron respond to, in words? |

Each has `explain(inputs, **params)`, which returns a `conceptry.models.record.Record`. `log_model`, `save_model` and
`load_model` bring such objects into MLflow and back. Nothing heavy is imported before a name is used.
"""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conceptry._former import install as install_former_names

if TYPE_CHECKING:
    from conceptry.models.harsanyi import Harsanyi
    from conceptry.models.milan import Milan
    from conceptry.models.perturbation import Perturbation
    from conceptry.models.splice import Splice
    from conceptry.registry import load_model, log_model, save_model

__all__ = ["Harsanyi", "Milan", "Perturbation", "Splice", "load_model", "log_model", "save_model"]

_FACES = {
    "Harsanyi": "conceptry.models.harsanyi",
    "Milan": "conceptry.models.milan",
    "Perturbation": "conceptry.models.perturbation",
    "Splice": "conceptry.models.splice",
    "load_model": "conceptry.registry",
    "log_model": "conceptry.registry",
    "save_model": "conceptry.registry",
}

# A registered version carries its own `conceptry/models`, without this file. It lies earlier on `sys.path` than the
# installed package wherever MLflow has loaded it first, and then it is the version's own code that has to run.
_here = str(Path(__file__).parent)
_entries = [str(Path(entry or ".", "conceptry")) for entry in sys.path]
_before = _entries[: _entries.index(_here)] if _here in _entries else []
__path__ = [*(entry for entry in _before if Path(entry).is_dir()), _here]

install_former_names()


def __getattr__(name: str) -> Any:
    if name not in _FACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_FACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
