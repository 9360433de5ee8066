"""Weights from a checkpoint file: tensors alone are read, never code, and put under the names that a network has.

| in the file | read as |
|---|---|
| tensors by name, `.safetensors` or as `torch.save` writes them | the state |
| the same below "state_dict", "model_state_dict" or "model" | the state |
| names below `module.`, `_orig_mod.`, `model.`, alone or in a row | names without them |
| `module.normalizer.new_mean`, `module.normalizer.new_std` | the normalisation that belongs to the weights |
| `module.attacker.*` | a second copy of network and normalisation, left out |

The last two, beside weights below `module.model.`, are how the Madry lab's library `robustness` saves a network that
was trained adversarially.
"""

import argparse
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from conceptry.models.errors import InputError

_CONTAINERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_ATTACKER = re.compile(r"(module\.|_orig_mod\.)*attacker\.")
_NORMALISER = re.compile(r"(?:module\.|_orig_mod\.)*normali[sz]er?\.(?:new_)?(mean|std)")
# Torchvision's densenets were once written with a dot more, and their published files still are.
_DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")
_FOREIGN = re.compile(r"(?:GLOBAL|[Uu]nsupported class) ([\w.]+)")  # as torch's reader names what it refuses
# What numbers of NumPy are made of, by the names of releases 1 and 2.
_SCALAR: Any = np.float64(0).__reduce__()[0]
_NUMBERS = [
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.dtype,
    *{type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"},
]
_LISTED = 3


@dataclass(frozen=True)
class Checkpoint:
    """state: tensors by the network's names. mean, std: of a normalisation that the file holds, else empty."""

    state: Mapping[str, Tensor]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


def is_file_name(tag: str) -> bool:
    """Whether the part behind the @ names a file rather than weights that a library publishes."""
    return "." in tag or "/" in tag or "\\" in tag or Path(tag).is_file()


def read_checkpoint(path: Path, wanted: Iterable[str]) -> Checkpoint:
    """The checkpoint at `path`, its names brought to `wanted`, those of the network's state, where they can be.

    Raises InputError where there is no such file, where it holds other objects than tensors and numbers, which would
    have to run code to be read, and where it holds no tensors.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; expected a checkpoint, .safetensors or as torch.save writes it (.pt, .pth)"
        )
    content = _content(path)
    while (container := next((key for key in _CONTAINERS if isinstance(content.get(key), Mapping)), None)) is not None:
        content = content[container]
    state = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not state:
        raise InputError(
            f"{path}: holds no weights; expected tensors by name, or below one of {', '.join(_CONTAINERS)}"
        )
    statistics = {match[1]: value for key, value in state.items() if (match := _NORMALISER.fullmatch(key))}
    state = {key: value for key, value in state.items() if not _NORMALISER.fullmatch(key) and not _ATTACKER.match(key)}
    wanted = set(wanted)
    while not wanted & state.keys():
        prefix = next((p for p in _PREFIXES if state and all(key.startswith(p) for key in state)), None)
        if prefix is None:
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    mean, std = _statistics(statistics, path)
    return Checkpoint(state, mean, std)


class Undrawn(TorchFunctionMode):
    """Modules made in the block have parameters that nobody has drawn: `fill` has to set all of them.

    Drawing them takes a second for each hundred million. It is left in this thread alone, so networks of other threads
    are made as ever.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init" or func in (Tensor.normal_, Tensor.uniform_):
            tensor = kwargs["tensor"] if "tensor" in kwargs else args[0]
            if isinstance(tensor, nn.Parameter):  # of buffers some are in no state, and stay as they are made
                return tensor
        return func(*args, **kwargs)


def fill(module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Load `state` into `module`; raises InputError with the first names and shapes that do not fit."""
    own = module.state_dict()
    fitting = OrderedDict((key if key in own else _DENSE.sub(r"\1", key), value) for key, value in state.items())
    # Counts of batches are used in training alone, and old files have none.
    fitting |= {key: own[key] for key in own.keys() - fitting.keys() if key.endswith("num_batches_tracked")}
    shapes = [
        f"{key} of shape {tuple(fitting[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in fitting and fitting[key].shape != own[key].shape
    ]
    if wrong := [
        f"{what} {_first(keys)}"
        for what, keys in (
            ("lacks", [key for key in own if key not in fitting]),
            ("has the unknown", [key for key in fitting if key not in own]),
            ("has", shapes),
        )
        if keys
    ]:
        raise InputError(f"{name}: the weights do not fit the network: the file {'; it '.join(wrong)}")
    # Some modules look up the version of their format, which safetensors and renamed states do not hold.
    fitting._metadata = getattr(state, "_metadata", own._metadata)  # type: ignore[attr-defined]  # torch's own place
    module.load_state_dict(fitting)


def _content(path: Path) -> Mapping[Any, Any]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        # Training scripts keep their options beside the weights, a namespace of plain values, and figures of NumPy.
        with torch.serialization.safe_globals([argparse.Namespace, *_NUMBERS]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # readers of damaged files raise many types
        if found := _FOREIGN.search(str(error)):
            raise InputError(
                f"{path}: holds {found[1]} beside tensors, and is not loaded, since reading that may run code from "
                "the file; where you trust it, read it by torch.load(FILE, weights_only=False) and write the "
                "state_dict alone with torch.save"
            ) from None
        reason = "a TorchScript archive" if "TorchScript" in str(error) else type(error).__name__
        raise InputError(
            f"{path}: is no checkpoint that can be read ({reason}); expected .safetensors, "
            "or the tensors of a state_dict as torch.save writes them"
        ) from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds {type(content).__name__}, expected tensors by name (a state_dict)")
    return content


def _statistics(found: Mapping[str, Tensor], path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not found:
        return (), ()
    mean, std = (tuple(found[key].flatten().tolist()) if key in found else () for key in ("mean", "std"))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise InputError(f"{path}: its normaliser has mean {mean} and std {std}, expected three numbers each, std > 0")
    return mean, std


def _first(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
