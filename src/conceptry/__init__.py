"""An MLflow-tracked model registry of concept explainers."""

import sys
from pathlib import Path

# A registered version carries its own `conceptry/models`, without this file. It lies earlier on `sys.path` than the
# installed package wherever MLflow has loaded it first, and then it is the version's own code that has to run.
_here = str(Path(__file__).parent)
_entries = [str(Path(entry or ".", "conceptry")) for entry in sys.path]
_before = _entries[: _entries.index(_here)] if _here in _entries else []
__path__ = [*(entry for entry in _before if Path(entry).is_dir()), _here]
