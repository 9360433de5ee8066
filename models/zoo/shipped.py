"""The networks that ship with conceptry: one folder each, of weights, configuration and provenance."""

import difflib
from pathlib import Path

from conceptry.models.errors import InputError

_WEIGHTS = Path(__file__).parent / "weights"


def shipped_names() -> list[str]:
    """The names of the networks that ship, as in `zoo:NAME`."""
    return sorted(path.name for path in _WEIGHTS.iterdir() if (path / "provenance.json").is_file())


def weights_directory(name: str) -> Path:
    """The folder of the network called `name`; raises InputError listing those there are."""
    names = shipped_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"the zoo has no network {name!r}; it has {', '.join(names)}{hint}")
    return _WEIGHTS / name
