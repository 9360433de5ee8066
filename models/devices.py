"""Where tensors live: one rule for every method."""

import torch

from conceptry.models.errors import InputError
from conceptry.models.method import whole_number


def resolve_device(name: str = "auto") -> torch.device:
    """The torch device called `name`: "auto" (CUDA where there is one, else CPU), "cpu", "cuda" or "cuda:INDEX".

    A named CUDA device has an index ("cuda" is "cuda:0"). The one that auto chooses has none, by which a part that
    cannot run there knows that it may run on the CPU.

    Raises InputError for another name, and for a CUDA device that is not there: a named device is never replaced.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not (kind == "cuda" and whole_number(index) is not None)):
        raise InputError(f"device must be auto, cpu, cuda or cuda:INDEX, got {name!r}")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            raise InputError(f"device {name!r} is not there: this machine offers {count} CUDA devices; use cpu or auto")
        return torch.device("cuda", int(index or 0))
    return torch.device("cpu")
