"""The game: the reward of every subset of players, streamed through the model in batches.

    v(S) = reward(model(x_S)),     x_S = the sample with the players outside S at their baseline

| symbol | meaning | shape |
|---|---|---|
| n | number of players, at most 20 | scalar |
| v | rewards, row k the subset with bits binary_repr(k, n) | (2^n,) float64 |
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.moebius import subset_masks
from conceptry.models.harsanyi.players import Masker, check_players
from conceptry.models.harsanyi.rewards import Reward

Progress = Callable[[str, float], Any]


class Model(Protocol):
    """The part of an explained model that a game needs; `forward` besides, where the masker makes tensors."""

    @property
    def form(self) -> str: ...

    def __call__(self, inputs: Any, /) -> np.ndarray: ...


def rewards_of(
    model: Model,
    masker: Masker,
    reward: Reward,
    target: int,
    batch_size: int = 4096,
    progress: Progress | None = None,
) -> np.ndarray:
    """Rewards v (2^n,) float64 of all subsets of the masker's n players.

    The model is called on what the masker makes of `batch_size` subsets; where that is a tensor (TensorMasker), its
    `forward` is, without gradients. After each batch `progress("rewards", share)` hears the share that is done.

    Memory: 8 bytes x 2^n (8 MiB at n = 20) for the result, and at any time the masks, the model inputs and the
    model's own work for one batch only, that is batch_size x (n + 1 bytes + one masked input + what the model needs).

    Raises InputError for more than 20 players, for a batch size below 1, where the model does not return one row of
    numbers for each input, and where the reward refuses them.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    n = len(check_players(masker.players))
    v = np.empty(2**n)
    with torch.no_grad():  # not inference_mode: tensors that a model caches then would spoil later gradients
        for start in range(0, 2**n, batch_size):
            stop = min(start + batch_size, 2**n)
            outputs = _outputs(model, masker.masked(subset_masks(n, start, stop)), stop - start)
            v[start:stop] = reward(outputs, model.form, target).cpu().numpy()
            if progress is not None:
                progress("rewards", stop / 2**n)
    return v


def _outputs(model: Any, inputs: Any, count: int) -> Tensor:
    if isinstance(inputs, Tensor):
        outputs = model.forward(inputs)
    else:
        returned = model(inputs)
        try:  # a copy: torch warns of arrays that are not writable, such as views of a frame
            outputs = torch.from_numpy(np.array(returned, dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise InputError(f"the model must return rows of numbers: {error}") from None
    if outputs.ndim != 2 or len(outputs) != count:
        raise InputError(
            f"the model must return one row of outputs for each input, ({count}, outputs), "
            f"got shape {tuple(outputs.shape)}"
        )
    return outputs
