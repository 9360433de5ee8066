"""A sketch of the distribution of every unit's activations, from which quantiles are read.

The code of a float32 is its sign, its exponent and the first 7 bits of its mantissa: 128 bins in each octave. How
often each code occurs is counted exactly, so the sketch depends on no order, no batches and no device, and one that is
written and read goes on bit for bit.

Only the OCTAVES = 16 octaves below the largest magnitude M of a unit are told apart; smaller values count as 0. The
quantile q, the least value that at least the asked share of the values does not exceed, is answered by the middle l
of its bin:

    |l - q| <= max(2^-8 |q|, 2^-15 M)

| symbol | meaning | shape |
|---|---|---|
| U | units | |
| recent, counts | see `_kernels`; recent ones in 32 bits, which caches hold better | (U, ZEROS + 2 BINS) |
| base | code of the smallest magnitude that is told from 0 | (U,) |
| total | values of each unit so far | |
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.jit import over_rows
from conceptry.models.milan.exemplars._kernels import BINS, INFINITE, LOWEST, OCTAVES, ZEROS, count, rank_of

RELATIVE, FLOOR = 2.0**-8, 2.0 ** (1 - OCTAVES)
_WIDTH = ZEROS + 2 * BINS
_LOWER = 0x7FFFFFFF
_MOST = 2**31 - 1  # values that 32 bits can count


class NotFiniteError(InputError):
    """An activation is NaN or infinite; `image` is its number in the batch."""

    def __init__(self, image: int) -> None:
        super().__init__(f"picture {image} of the batch gives an activation that is NaN or infinite")
        self.image = image


class Sketch:
    """Counts of the activations of U units, none at first. least: float32 (U,), the smallest so far."""

    def __init__(self, units: int) -> None:
        self.base = np.full(units, LOWEST, np.int64)
        self.least = np.full(units, np.inf, np.float32)
        self.total = 0
        self._recent = np.zeros((units, _WIDTH), np.int32)
        self._older: np.ndarray | None = None  # int64, from before the recent ones came near 2^31
        self._older_base = self.base.copy()
        self._n_recent = 0

    def add(self, x: Tensor) -> np.ndarray:
        """Count the activations x (n, U, h, w); returns the largest of each unit on each picture, float32 (n, U).

        Raises NotFiniteError, an InputError, for NaN and infinities; the sketch is then of no more use.
        """
        n, _, height, width = x.shape
        if self._n_recent + n * height * width > _MOST:
            self._settle()
        high, low = (self._add_on_cpu if x.device.type == "cpu" else self._add_tensors)(x.detach().float())
        self._n_recent += n * height * width
        self.total += n * height * width
        np.minimum(self.least, low.min(0), out=self.least)
        return high + np.float32(0)  # which makes -0 the 0 that it equals

    def _add_on_cpu(self, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
        n, units = x.shape[:2]
        last = x.permute(0, 2, 3, 1)
        by_columns = last.is_contiguous() and not x.is_contiguous()
        values = last.reshape(n, -1, units) if by_columns else x.reshape(n, units, -1).contiguous()
        bits = values.numpy().view(np.int32)
        high, low = np.empty((n, units), np.int32), np.empty((n, units), np.int32)
        bad: list[int] = []

        def count_units(part: slice) -> None:
            bad.append(count(bits, by_columns, part.start, part.stop, self._recent, self.base, high, low))

        over_rows(count_units, units)
        if found := [image for image in bad if image >= 0]:
            raise NotFiniteError(min(found))
        return _from_keys(high), _from_keys(low)

    def _add_tensors(self, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """`_add_on_cpu` by tensors, on the device of x."""
        x = x.flatten(2)
        finite = x.isfinite().flatten(1).all(1)
        if not bool(finite.all()):
            raise NotFiniteError(int((~finite).nonzero()[0]))
        bits = x.contiguous().view(torch.int32)
        codes = (bits & _LOWER) >> 16
        self._raise(self._recent, self.base, codes.amax((0, 2)).cpu().numpy())
        at = codes - torch.from_numpy(self.base).to(codes)[:, None]
        slots = torch.where(at >= 0, ZEROS + at + BINS * (bits < 0), 0).long()
        slots += _WIDTH * torch.arange(x.shape[1], device=x.device)[:, None]
        counted = torch.bincount(slots.flatten(), minlength=x.shape[1] * _WIDTH).reshape(-1, _WIDTH)
        self._recent += counted.cpu().numpy()
        return x.amax(2).cpu().numpy(), x.amin(2).cpu().numpy()

    @staticmethod
    def _raise(counts: np.ndarray, base: np.ndarray, codes: np.ndarray) -> None:
        """Move the windows up to the octaves of the codes (U,) that lie above them."""
        for unit in np.flatnonzero(codes >= base + BINS):
            new = (int(codes[unit]) // 128 + 1) * 128 - BINS
            by = min(new - int(base[unit]), BINS)
            for start in (ZEROS, ZEROS + BINS):
                part = counts[unit, start : start + BINS]
                counts[unit, 0] += part[:by].sum()
                part[: BINS - by] = part[by:].copy()
                part[BINS - by :] = 0
            base[unit] = new

    def _settle(self) -> None:
        """Add the recent counts to the older ones, in 64 bits."""
        self._older = self.counts
        self._older_base = self.base.copy()
        self._recent[:] = 0
        self._n_recent = 0

    @property
    def counts(self) -> np.ndarray:
        """All counts, int64 (U, ZEROS + 2 BINS); which of the slots for 0 a value is counted in means nothing."""
        if self._older is None:
            return self._recent.astype(np.int64)
        self._raise(self._older, self._older_base, self.base + BINS - 1)
        return self._older + self._recent

    def quantile(self, share: float) -> np.ndarray:
        """The middle of the bin of the quantile, float32 (U,); see the error above."""
        rank = max(math.ceil(share * self.total), 1)
        at = rank_of(self.counts, rank)
        codes = np.abs(at) - 1 + self.base
        edges = (np.stack([codes, np.minimum(codes + 1, INFINITE - 1)]).astype(np.uint32) << 16).view(np.float32)
        return np.where(at == 0, 0, np.sign(at) * edges.mean(0, dtype=np.float64)).astype(np.float32)

    def levels(self, share: float, largest: np.ndarray) -> np.ndarray:
        """What an activation has to exceed to be in the mask, float32 (U,); largest (U,): the unit's maximum.

        It is the quantile but where the unit saturates, which would leave nothing above it: there it lies below the
        maximum by the error that the sketch has anyway. A unit that never varies keeps its one value as its level.
        """
        levels, high = self.quantile(share), largest.astype(np.float64)
        magnitude = np.maximum(np.abs(high), np.abs(self.least.astype(np.float64)))
        below = high - np.maximum(RELATIVE * np.abs(high), FLOOR * magnitude)
        levels = np.where(levels >= largest, below.astype(np.float32), levels)
        return np.where(self.least == largest, largest, levels)

    def state(self) -> dict[str, np.ndarray]:
        """All of the sketch, as arrays."""
        self._settle()
        assert self._older is not None
        return {"counts": self._older, "base": self.base, "least": self.least, "total": np.array(self.total)}


def sketch_from_state(state: Mapping[str, np.ndarray]) -> Sketch:
    """The sketch that `Sketch.state` was taken from."""
    sketch = Sketch(len(state["base"]))
    sketch.base, sketch.least = state["base"].copy(), state["least"].copy()
    sketch.total = int(state["total"])
    sketch._older, sketch._older_base = state["counts"].copy(), state["base"].copy()
    return sketch


def _from_keys(keys: np.ndarray) -> np.ndarray:
    """The floats that int32 keys stand for, see `_kernels`."""
    return (keys ^ ((keys >> 31) & np.int32(_LOWER))).view(np.float32)
