"""Any torch data set as a source of exemplars, and tensors as pictures."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from conceptry.models.errors import InputError


class TorchSource:
    """Any torch data set with a length, its items a tensor or a tuple that starts with one, the same each time.

    mean, std: of the channels, where the data set normalises its pictures; without them its pictures must be uint8 or
    lie in [0, 1]. digest: of what fixes the content; by default that of the name, the length and the first items.
    """

    parallel = False
    labels = None
    classes = ()

    def __init__(
        self,
        dataset: Any,
        name: str,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        digest: str | None = None,
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise InputError(f"{name}: exemplars have numbers, so the data set must have a length and be indexed")
        if (mean is None) != (std is None):
            raise InputError(f"{name}: mean and std must be given together")
        self.dataset, self.name, self._digest = dataset, name, digest
        self.mean, self.std = mean, std

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def digest(self) -> str:
        if self._digest is None:
            sha = hashlib.sha256(f"{self.name} {len(self)}".encode())
            for part in self.items(range(min(len(self), 4))) if len(self) else ():
                sha.update(
                    part.cpu().contiguous().numpy().tobytes() if isinstance(part, Tensor) else repr(part).encode()
                )
            self._digest = sha.hexdigest()
        return self._digest

    def items(self, indices: Sequence[int]) -> tuple[Any, ...]:
        from torch.utils.data import default_collate

        try:
            batch = default_collate([self.dataset[i] for i in indices])
        except (TypeError, RuntimeError) as error:
            reason = (str(error).splitlines() or [""])[0][:200]
            raise InputError(f"{self.name}: its items do not make a batch: {reason}") from None
        return tuple(batch) if isinstance(batch, list | tuple) else (batch,)

    def to_pictures(self, items: tuple[Any, ...]) -> Tensor:
        images = items[0]
        if isinstance(images, Tensor) and self.mean is not None and self.std is not None:
            mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (self.mean, self.std))
            images = (images * std + mean).clamp(0, 1)
        return as_bytes(images, f"{self.name}: give mean and std, or transform_outputs: its items")


def as_bytes(images: Any, what: str) -> Tensor:
    """Pictures (n, 1 or 3, H, W), uint8 or in [0, 1], as uint8 (n, 3, H, W). `what` starts the refusal."""
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] not in (1, 3):
        got = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"{what} are not pictures (n, 3, H, W), got {got}")
    if images.dtype != torch.uint8:
        low, high = float(images.min()), float(images.max())
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            raise InputError(f"{what} are not pictures in [0, 1], got values from {low:.4g} to {high:.4g}")
    return to_bytes(images)


def to_bytes(images: Tensor) -> Tensor:
    """Pictures (n, 1 or 3, H, W), uint8 or in [0, 1], as uint8 (n, 3, H, W); what lies outside is clipped."""
    if images.dtype != torch.uint8:
        images = images.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return images.expand(-1, 3, -1, -1)
