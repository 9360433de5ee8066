"""The state of a training after its last full epoch: weights, optimiser, the best weights so far; on disk if wanted.

| part of state.safetensors | content |
|---|---|
| tensors | weights (`now.`), the optimiser's moments (`moment.`), a copy of the best weights (`best.`) |
| metadata, as JSON | epochs done, best score and its epoch, and the fingerprint of the training |

The file is replaced as a whole: a kill leaves the epoch before.
"""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.manifest import replace_atomically

_STATE, _KNOWN = "state.safetensors", "training"


class Checkpoint:
    """epoch: epochs done; best_score: of the copy that is kept, the greatest; best_epoch: when that was.

    directory: where it is written and read, None for nowhere. fingerprint: what the state belongs to. Raises
    InputError where the folder holds the state of another training.
    """

    def __init__(
        self,
        directory: Path | None,
        fingerprint: str,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        patience: int,
    ) -> None:
        self._directory, self._fingerprint, self._patience = directory, fingerprint, patience
        self._module, self._optimizer = module, optimizer
        self.epoch, self.best_score, self.best_epoch = 0, float("-inf"), 0
        self._best = self._copy()
        if directory is not None and directory.is_dir():
            self._read(directory)

    @property
    def is_over(self) -> bool:
        """Whether `patience` epochs have passed since the best one."""
        return self.epoch - self.best_epoch >= self._patience

    def finish(self, score: float) -> None:
        """An epoch is done and has this score, of which more is better."""
        self.epoch += 1
        if score > self.best_score:
            self.best_score, self.best_epoch, self._best = score, self.epoch, self._copy()
        if self._directory is not None:
            self._write(self._directory)

    def restore_best(self) -> None:
        """Give the module the weights of the best epoch."""
        self._module.load_state_dict(self._best)

    def _copy(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self._module.state_dict().items()}

    def _write(self, directory: Path) -> None:
        from safetensors.torch import save

        tensors = {f"best.{name}": tensor for name, tensor in self._best.items()}
        tensors |= {f"now.{name}": tensor.detach() for name, tensor in self._module.state_dict().items()}
        for number, moments in self._optimizer.state_dict()["state"].items():
            tensors |= {f"moment.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        state = {"epoch": self.epoch, "best_score": self.best_score, "best_epoch": self.best_epoch}
        known = json.dumps(state | {"fingerprint": self._fingerprint})
        content = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, {_KNOWN: known})
        directory.mkdir(parents=True, exist_ok=True)
        replace_atomically(directory / _STATE, content)

    def _read(self, directory: Path) -> None:
        from safetensors import SafetensorError, safe_open

        if not (directory / _STATE).is_file():
            if all(path.name.startswith(".") for path in directory.iterdir()):
                return  # killed before it was written for the first time
            raise InputError(f"{directory}: holds no {_STATE}; expected the state of a training, or a new folder")
        try:
            with safe_open(str(directory / _STATE), framework="pt") as file:
                state = json.loads((file.metadata() or {})[_KNOWN])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise InputError(f"{directory / _STATE}: is no state of a training ({type(error).__name__})") from None
        if state["fingerprint"] != self._fingerprint:
            raise InputError(
                f"{directory}: holds the state of a training with other settings, captions or words; "
                "name a new folder, or remove this one first"
            )
        self.epoch, self.best_score, self.best_epoch = state["epoch"], state["best_score"], state["best_epoch"]
        self._module.load_state_dict(_part(tensors, "now."))
        self._best = _part(tensors, "best.")
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, "moment.").items():
            number, _, kind = name.partition(".")
            moments.setdefault(int(number), {})[kind] = value
        self._optimizer.load_state_dict(self._optimizer.state_dict() | {"state": moments})


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
