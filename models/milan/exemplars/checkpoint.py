"""The checkpoint of a run that writes into a folder: continued after a kill, and recognised when the run is done.

| file | content |
|---|---|
| exemplars.json | what the exemplars of the folder's layers were computed from and with |
| .lock | held while a run writes |
| .unfinished/run.json | what a run that is not done computes from and with |
| .unfinished/first.npz | how far the first pass is, its sketches, top images and their maps |
| .unfinished/second.json | how far the second pass is |
| .unfinished/LAYER/ | images and masks so far |

Each of these is replaced as a whole, so a run that is killed at any moment leaves the last one or the one before.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.explained.hooks import module_of
from conceptry.models.explained.source import UNSAID, OwnPreparation
from conceptry.models.folders import writing
from conceptry.models.manifest import read_json, replace_atomically, replacing
from conceptry.models.milan.settings import ExemplarSettings

RECORD, UNFINISHED = "exemplars.json", ".unfinished"
_RUN, _FIRST, _SECOND = "run.json", "first.npz", "second.json"
_SAYS = {
    "k": "k",
    "quantile": "quantile",
    "image_size": "image_size",
    "batch_size": "batch_size",
    "channels": "channels",
    "hooks": "hooks",
    "preparation": "preprocessing of the network",
    "model_sha256": "weights of the network",
    "data_sha256": "data",
    "size": "number of pictures",
    "layers": "layers",
}


def run_record(
    name: str,
    network: Any,
    data: Any,
    layers: dict[str, list[int] | None],
    settings: ExemplarSettings,
    hooks: Sequence[Any],
) -> dict[str, Any]:
    """All that the results of a run depend on, as JSON, and the names of classes that the user has given.

    network: a torch module or a `PixelModel`. layers: with the units asked for, None for all.
    """
    module = module_of(network)
    assert module is not None  # a feed has seen to it
    return {
        "model": name,
        "model_sha256": module_digest(module),
        **said_of(network).to_record(),
        "data": data.name,
        "data_sha256": data.digest,
        "size": len(data),
        "k": settings.k,
        "quantile": settings.quantile,
        "image_size": None if settings.size is None else list(settings.size),
        "batch_size": settings.batch_size,
        "channels": settings.channels,
        "hooks": [None if hook is None else getattr(hook, "__qualname__", type(hook).__name__) for hook in hooks],
        "layers": layers,
    }


def said_of(network: Any) -> OwnPreparation:
    """What the user has said of a network when it was loaded by name."""
    own = None if isinstance(network, nn.Module) else getattr(network, "own_preparation", None)
    return own or UNSAID


def module_digest(module: nn.Module) -> str:
    """SHA-256 (hex) of the kind of a module, and of the names and values of its parameters and buffers."""
    sha = hashlib.sha256(f"{type(module).__module__}.{type(module).__qualname__}".encode())
    for name, tensor in module.state_dict().items():
        if not isinstance(tensor, Tensor):
            continue  # what a module keeps besides tensors
        values = tensor.detach().cpu().contiguous()
        sha.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        sha.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def finished_layers(directory: Path, record: dict[str, Any]) -> list[str]:
    """The layers of the run that the folder already holds.

    Raises InputError where what it holds was computed otherwise: with other settings, of another network or data.
    """
    if not (directory / RECORD).is_file():
        return []
    there = read_json(directory / RECORD)
    # The size of batches changes no more than rounding.
    differs = [key for key in _SAYS if key not in ("layers", "batch_size") and there.get(key) != record[key]]
    differs += (
        ["units"]
        if any(
            layer in there["layers"] and there["layers"][layer] != units for layer, units in record["layers"].items()
        )
        else []
    )
    if differs:
        raise InputError(
            f"{directory}: holds exemplars of a run with {_difference(differs[0], there, record)}; "
            "name another folder, or start over (resume=False, --restart)"
        )
    return [layer for layer in record["layers"] if layer in there["layers"]]


def _difference(key: str, there: dict[str, Any], record: dict[str, Any]) -> str:
    if key in ("k", "quantile", "image_size", "batch_size", "size"):
        return f"{_SAYS[key]} {there.get(key)}, now {record[key]}"
    if key == "layers":
        return f"the layers {', '.join(there['layers'])}, now {', '.join(record['layers'])}"
    if key in ("data_sha256", "model_sha256") and there.get(key[:-7]) != record[key[:-7]]:
        return f"{key[:-7]} {there.get(key[:-7])}, now {record[key[:-7]]}"
    return f"other {_SAYS.get(key, key)}"


@dataclass
class Checkpoint:
    """The state of one run on the disk; `open_checkpoint` makes it."""

    directory: Path

    @property
    def folder(self) -> Path:
        return self.directory / UNFINISHED

    def save_first(self, arrays: dict[str, np.ndarray]) -> None:
        with writing(self.folder), replacing(self.folder / _FIRST) as path, path.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)  # type: ignore[arg-type]  # the stubs take arrays as names only

    def load_first(self) -> dict[str, np.ndarray]:
        path = self.folder / _FIRST
        if not path.is_file():
            return {}
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)

    def save_second(self, done: int) -> None:
        with writing(self.folder):
            replace_atomically(self.folder / _SECOND, json.dumps({"done": done}).encode())

    def load_second(self) -> int:
        path = self.folder / _SECOND
        return int(read_json(path)["done"]) if path.is_file() else 0

    def finish(self, record: dict[str, Any]) -> None:
        """Move the layers to their place, and say in the record what they are."""
        with writing(self.directory):
            for layer in record["layers"]:
                if (self.folder / layer).is_dir():  # else it was moved before the run was killed
                    shutil.rmtree(self.directory / layer, ignore_errors=True)
                    (self.folder / layer).rename(self.directory / layer)
            known = record | {"layers": _layers_in(self.directory / RECORD) | record["layers"]}
            replace_atomically(self.directory / RECORD, (json.dumps(known, indent=2, sort_keys=True) + "\n").encode())
            shutil.rmtree(self.folder)


def _layers_in(path: Path) -> dict[str, Any]:
    """Layers listed in the run record at `path`, or {} if there is no record."""
    return read_json(path)["layers"] if path.is_file() else {}


def open_checkpoint(directory: Path, record: dict[str, Any]) -> Checkpoint:
    """The state of this run, that of a killed one where there is one.

    Raises InputError where a run with other settings, of another network or other data is unfinished there, and where
    a layer is there that no run has recorded.
    """
    state = Checkpoint(directory)
    path = state.folder / _RUN
    with writing(directory):
        if path.is_file() and not _layers_in(path).keys() - _layers_in(directory / RECORD).keys():
            shutil.rmtree(state.folder)  # the run was killed when all but this was done
        foreign = [layer for layer in record["layers"] if (directory / layer).exists()]
        if foreign and not path.is_file():
            raise InputError(
                f"{directory}: holds a folder {foreign[0]} that no run has recorded; "
                "move it away, or name another folder"
            )
        state.folder.mkdir(exist_ok=True)
        for part in state.folder.glob(".*.part"):  # of a run that was killed while it wrote
            part.unlink()
        if not path.is_file() or not (state.folder / _FIRST).is_file():  # nothing was done yet, so nothing is lost
            replace_atomically(path, json.dumps(record).encode())
    there = read_json(path)
    if differs := [key for key in _SAYS if there.get(key) != json.loads(json.dumps(record[key]))]:
        raise InputError(
            f"{directory}: a run with {_difference(differs[0], there, record)} is unfinished there; "
            "name another folder, or start over (resume=False, --restart)"
        )
    return state


def forget(directory: Path) -> None:
    """Remove what runs have left and written in `directory`: unfinished state, and the layers of its record."""
    with writing(directory):
        layers = _layers_in(directory / RECORD) | _layers_in(directory / UNFINISHED / _RUN)
        shutil.rmtree(directory / UNFINISHED, ignore_errors=True)
        for layer in layers:
            shutil.rmtree(directory / layer, ignore_errors=True)
        (directory / RECORD).unlink(missing_ok=True)
