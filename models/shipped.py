"""The networks that ship with conceptry: one folder each, of weights, configuration and provenance."""

from importlib import metadata
from pathlib import Path
from typing import Literal

from conceptry.models.errors import InputError, closest

_WEIGHTS = Path(__file__).parent / "zoo" / "weights"
_INSTALLED = "conceptry/models/zoo/weights"

Kind = Literal["encoder", "classifier", "describer", "probes"]
_DESCRIBED_BY = {
    "encoder": ("open_clip_config.json", "conse.json"),
    "classifier": ("classifier.json",),
    "describer": ("describer.json",),
    "probes": ("probes.json",),
}


def shipped_names(kind: Kind = "encoder") -> list[str]:
    """The names of the networks of a kind that ship, as in `zoo:NAME`."""
    folders = [path for path in _weights().iterdir() if (path / "provenance.json").is_file()]
    return sorted(path.name for path in folders if any((path / file).is_file() for file in _DESCRIBED_BY[kind]))


def weights_directory(name: str, kind: Kind = "encoder") -> Path:
    """The folder of the network called `name`; raises InputError listing those of its kind."""
    names = shipped_names(kind)
    if name not in names:
        if not names:
            raise InputError(f"the zoo has no network {name!r}: no {kind} ships with this version")
        near = closest(name, names, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"the zoo has no network {name!r} among its {kind}s; they are {', '.join(names)}{hint}")
    return _weights() / name


def _weights() -> Path:
    """The folder of all: beside this file, or where this is the copy of the code in a version, as it is installed."""
    if _WEIGHTS.is_dir():
        return _WEIGHTS
    try:
        installed = Path(str(metadata.distribution("conceptry").locate_file(_INSTALLED)))
    except metadata.PackageNotFoundError:
        installed = None
    if installed is None or not installed.is_dir():
        raise InputError("the networks that ship with conceptry are not here; install it: pip install conceptry")
    return installed
