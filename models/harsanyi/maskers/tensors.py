"""Players as groups of features of one tensor: the masker of differentiable models, where baselines are learned.

    x_S = x where the owner is in S or is the background, else b

| symbol | meaning | shape |
|---|---|---|
| x | features of the sample | (*features) |
| b | baseline of each feature | (*features) |
| owner | player of each feature, BACKGROUND for none | (*features) int64 |
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.maskers.base import check_owner, check_players, with_background


class TensorMasker:
    """Features `x` (*features) with a `baseline` and an int64 `owner` of the same shape; x_S has dtype and device of x.

    Raises InputError where shapes differ, features are not finite floats, or a player owns none.
    """

    def __init__(self, x: Tensor, baseline: Tensor, owner: Tensor, players: Sequence[str]):
        self.players = check_players(players)
        check_features(x, baseline, owner, len(self.players))
        self._x, self._baseline, self._owner = x, baseline.to(x), owner.to(x.device)

    def masked(self, masks: np.ndarray) -> Tensor:
        """x_S (batch, *features) for each row S of `masks` (batch, n) bool."""
        return torch.where(features_present(masks, self._owner, len(self.players)), self._x, self._baseline)


def features_present(masks: np.ndarray, owner: Tensor, n: int) -> Tensor:
    """Which features keep their value in each subset, bool (batch, *features), on the device of `owner`."""
    return torch.from_numpy(with_background(masks, n)).to(owner.device)[:, owner]


def check_features(x: Tensor, baseline: Tensor, owner: Tensor, n: int) -> None:
    """Raises InputError unless the three fit together and n players own features."""
    if not x.is_floating_point():
        raise InputError(f"features must have a floating dtype, got {x.dtype}")
    if x.shape != baseline.shape or x.shape != owner.shape:
        raise InputError(
            "features, baseline and owner must have one shape, got "
            f"{tuple(x.shape)}, {tuple(baseline.shape)} and {tuple(owner.shape)}"
        )
    for name, values in (("features", x), ("baseline", baseline)):
        if bad := int((~values.isfinite()).sum()):
            raise InputError(f"{name}: {bad} of {values.numel()} are NaN or infinite")
    check_owner(owner.cpu().numpy(), "owner", n)
