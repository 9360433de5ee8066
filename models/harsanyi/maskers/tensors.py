"""Players as groups of features of one tensor: the masker of differentiable models, where baselines are learned.

    x_S = x where the owner is in S or is the background, else b

| symbol | meaning | shape |
|---|---|---|
| x | features of the sample | (*features) |
| b | baseline of each feature | (*features) |
| owner | player of each feature, BACKGROUND for none | (*features) int64 |
"""

from collections.abc import Sequence
from typing import Any

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


def tensor_masker(x: Any, baseline: Any, segments: Any = None, players: Sequence[str] | None = None) -> TensorMasker:
    """The masker of a sample without a batch axis.

    Args:
        x: (*features), an array or a tensor; whole numbers become float32.
        baseline: a number, or of a shape that broadcasts to that of x.
        segments: integers 0 to n - 1, the player of each feature, or BACKGROUND (-1) for features that are always
            present; of a shape that broadcasts to that of x, such as (height, width) for (channels, height, width). By
            default each entry along the first axis is a player, for up to two axes.
        players: n names, by default "x1" and so on.

    Raises:
        InputError: where shapes do not fit, x is not finite, a player owns nothing, or segments are needed.
    """
    features = torch.as_tensor(x)
    features = features if features.is_floating_point() else features.float()
    if segments is None:
        if not 1 <= features.ndim <= 2:
            raise InputError(
                f"x of shape {tuple(features.shape)} does not say what the players are; expected segments, the player "
                "of each feature"
            )
        segments = np.arange(features.shape[0]).reshape(-1, *[1] * (features.ndim - 1))
    own = {"baseline": torch.as_tensor(baseline).to(features), "segments": torch.as_tensor(np.asarray(segments))}
    for name, values in own.items():
        try:
            own[name] = values.expand(features.shape)
        except RuntimeError:
            raise InputError(
                f"{name} of shape {tuple(values.shape)} does not broadcast to {tuple(features.shape)}, the shape of x"
            ) from None
    owner = torch.from_numpy(check_owner(own["segments"].numpy(), "segments", len(players) if players else None))
    names = players or [f"x{k + 1}" for k in range(int(owner.max()) + 1)]
    return TensorMasker(features, own["baseline"].to(features), owner, [str(name) for name in names])


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
