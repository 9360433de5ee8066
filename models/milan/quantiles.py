"""A sketch of the distribution of every unit's activations, from which quantiles are read.

The code of a float32 is its sign, its exponent and the first 7 bits of its mantissa: 128 bins in each octave, of
relative width 2^-7. Occurrences of codes are counted, so the sketch is exact in counts: it depends on no order and no
batches, two sketches add up, and one that is written and read goes on bit for bit.

Only the OCTAVES = 16 octaves below the largest magnitude M of a unit are told apart; smaller values count as 0. The
quantile q (the least value that a share of at least `quantile` of the values does not exceed) is then answered by
the middle l of its bin:

    |l - q| <= max(2^-8 |q|, 2^-15 M)

| symbol | meaning | shape |
|---|---|---|
| U | units | |
| counts | see `activation_kernel` | (U, 8 + 2 BINS) |
| base | code of the smallest magnitude that is told from 0 | (U,) |
| total | values of each unit so far | |
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.milan.activation_kernel import BINS, LOWEST, OCTAVES, ZEROS, count_columns, count_planes

RELATIVE, FLOOR = 2.0**-8, 2.0 ** (1 - OCTAVES)


@dataclass
class Sketch:
    """Counts of the activations of U units; `empty_sketch` makes one, `add` adds to it.

    counts: int64 (U, 8 + 2 BINS). base: int64 (U,). total: values of each unit. least: float32 (U,), the smallest.
    """

    counts: np.ndarray
    base: np.ndarray
    least: np.ndarray
    total: int = 0

    def add(self, x: Tensor) -> np.ndarray:
        """Count the activations x (n, U, h, w); returns the largest of each unit on each picture, float32 (n, U).

        Raises InputError for NaN and infinities, as `NotFiniteError` with the number of the picture.
        """
        if x.device.type == "cpu":
            best, bad = self._add_on_cpu(x)
        else:
            best, bad = self._add_tensors(x)
        if bad >= 0:
            raise NotFiniteError(bad)
        self.total += x.shape[2] * x.shape[3] * len(x)
        return best

    def _add_on_cpu(self, x: Tensor) -> tuple[np.ndarray, int]:
        n, units = x.shape[:2]
        best = np.empty((n, units), np.float32)
        last = x.float().permute(0, 2, 3, 1)
        if last.is_contiguous():
            values, kernel = last.reshape(n, -1, units).numpy(), count_columns
        else:
            values, kernel = x.float().reshape(n, units, -1).contiguous().numpy(), count_planes
        return best, kernel(values, values.view(np.int32), self.counts, self.base, best, self.least)

    def _add_tensors(self, x: Tensor) -> tuple[np.ndarray, int]:
        """The same by tensors, for other devices."""
        x = x.float().flatten(2)
        n, units = x.shape[:2]
        finite = x.isfinite().flatten(1).all(1).cpu()
        if not finite.all():
            return np.empty((n, units), np.float32), int((~finite).nonzero()[0])
        bits = x.contiguous().view(torch.int32)
        codes = (bits & 0x7FFFFFFF) >> 16
        self._raise(codes.amax((0, 2)).cpu().numpy())
        at = codes - torch.from_numpy(self.base).to(codes)[:, None]
        slots = torch.where(at >= 0, ZEROS + at + BINS * (bits < 0), 0)
        width = ZEROS + 2 * BINS
        slots = slots + width * torch.arange(units, device=x.device)[:, None]
        self.counts += torch.bincount(slots.flatten(), minlength=units * width).reshape(units, width).cpu().numpy()
        np.minimum(self.least, x.amin((0, 2)).cpu().numpy(), out=self.least)
        return x.amax(2).cpu().numpy(), -1

    def _raise(self, codes: np.ndarray) -> None:
        """Move the windows up to the octaves of the largest codes (U,)."""
        for unit in np.flatnonzero(codes >= self.base + BINS):
            new = (int(codes[unit]) // 128 + 1) * 128 - BINS
            by = min(new - int(self.base[unit]), BINS)
            for start in (ZEROS, ZEROS + BINS):
                part = self.counts[unit, start : start + BINS]
                self.counts[unit, 0] += part[:by].sum()
                part[: BINS - by] = part[by:].copy()
                part[BINS - by :] = 0
            self.base[unit] = new

    def quantile(self, share: float) -> np.ndarray:
        """The middle of the bin of the quantile, float32 (U,); see the error above."""
        ordered = np.concatenate(
            (
                self.counts[:, ZEROS + BINS :][:, ::-1],
                self.counts[:, :ZEROS].sum(1, keepdims=True),
                self.counts[:, ZEROS : ZEROS + BINS],
            ),
            axis=1,
        )
        rank = max(int(np.ceil(share * self.total)), 1)
        at = (np.cumsum(ordered, axis=1) >= rank).argmax(1) - BINS
        magnitude = np.abs(at) - 1 + self.base
        edges = np.stack([magnitude, magnitude + 1]).clip(0).astype(np.uint32) << 16
        middle = edges.view(np.float32).astype(np.float64).clip(max=np.finfo(np.float32).max).mean(0)
        return np.where(at == 0, 0.0, np.sign(at) * middle).astype(np.float32)

    def levels(self, share: float, largest: np.ndarray) -> np.ndarray:
        """What an activation has to exceed to be in the mask, float32 (U,); largest (U,): the unit's maximum.

        It is the quantile but where the unit saturates, which would leave nothing above it: there it lies below the
        maximum by the error that the sketch has anyway. A unit that never varies keeps its one value as its level.
        """
        levels, high = self.quantile(share), largest.astype(np.float64)
        scale = np.maximum(np.abs(high), np.abs(self.least.astype(np.float64)))
        below = high - np.maximum(RELATIVE * np.abs(high), FLOOR * scale)
        levels = np.where(levels >= largest, below.astype(np.float32), levels)
        return np.where(self.least == largest, largest, levels)


class NotFiniteError(InputError):
    """An activation is NaN or infinite; `picture` is its number in the batch."""

    def __init__(self, picture: int) -> None:
        super().__init__(f"picture {picture} of the batch gives an activation that is NaN or infinite")
        self.picture = picture


def empty_sketch(units: int) -> Sketch:
    """A sketch of nothing yet."""
    counts = np.zeros((units, ZEROS + 2 * BINS), np.int64)
    return Sketch(counts, np.full(units, LOWEST, np.int64), np.full(units, np.inf, np.float32))
