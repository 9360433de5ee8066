"""Features of annotated units, computed once: the encoder is frozen, so training need not look at pictures again.

| symbol | meaning | shape |
|---|---|---|
| N | annotated units | |
| k | exemplars of each | |
| F | features of the encoder | |
| f | features of all exemplars, rounded to float16 | (N, k, F) |

Where units share images (`SharedImages`), each image goes through the trunk once, and every mask of it is pooled
over the same levels; otherwise each unit is a batch of its own, as when it is described.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.manifest import read_json, write_json
from conceptry.models.method import Progress
from conceptry.models.milan.describer.features import FeatureEncoder, Projection
from conceptry.models.milan.exemplars.records import UnitExemplars

FEATURES, CAPTIONS = "features.npy", "captions.json"
_BATCH = 128  # pictures of a forward pass


class Annotated(Protocol):
    """A unit with captions of it."""

    @property
    def exemplars(self) -> UnitExemplars: ...
    @property
    def captions(self) -> Sequence[str]: ...


class AnnotatedUnits(Protocol):
    """Annotated units in their order."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Annotated: ...


@runtime_checkable
class SharedImages(Protocol):
    """Annotated units whose pictures, all of one size, are drawn from one pool."""

    def __len__(self) -> int: ...
    def captions(self, index: int) -> Sequence[str]: ...
    def ids_and_masks(self, index: int) -> tuple[np.ndarray, np.ndarray]: ...
    def image(self, scene: int) -> np.ndarray: ...


@dataclass(frozen=True)
class FeatureCache:
    """features: float16, or float32 where they are projected, (N, k, F), an array or a memory map. captions: those of
    each unit, at least one."""

    features: np.ndarray
    captions: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.captions)

    def batch(self, units: np.ndarray) -> Tensor:
        """float32 (n, k, F): the features of `units` (n,)."""
        return torch.from_numpy(self.features[units].astype(np.float32))

    def projected(self, projection: Projection) -> "FeatureCache":
        """Copy with projected features, as float32 in memory."""
        features = np.empty((*self.features.shape[:2], projection.matrix.shape[1]), dtype=np.float32)
        for start in range(0, len(self), 256):
            units = np.arange(start, min(start + 256, len(self)))
            features[units] = projection(self.batch(units)).numpy()
        return FeatureCache(features, self.captions)

    def digest(self) -> str:
        """SHA-256 (hex) of features and captions."""
        sha = hashlib.sha256(repr((self.features.shape, self.captions)).encode())
        for start in range(0, len(self), 256):
            sha.update(np.ascontiguousarray(self.features[start : start + 256]).tobytes())
        return sha.hexdigest()

    def save(self, directory: Path) -> None:
        """Write features.npy and captions.json."""
        directory.mkdir(parents=True, exist_ok=True)
        np.save(directory / FEATURES, self.features, allow_pickle=False)
        write_json(directory / CAPTIONS, [list(texts) for texts in self.captions])


def read_feature_cache(directory: Path) -> FeatureCache:
    """The cache that `save` wrote, features memory-mapped. Raises InputError for a folder that is none."""
    if not (directory / FEATURES).is_file() or not (directory / CAPTIONS).is_file():
        raise InputError(f"{directory}: holds no {FEATURES} and {CAPTIONS}; expected a folder of cached features")
    features = np.load(directory / FEATURES, mmap_mode="r", allow_pickle=False)
    captions = tuple(tuple(texts) for texts in read_json(directory / CAPTIONS))
    if features.ndim != 3 or len(features) != len(captions):
        raise InputError(
            f"{directory}: features of shape {features.shape} do not go with captions of {len(captions)} units"
        )
    return FeatureCache(features, captions)


def cache_features(
    encoder: FeatureEncoder, units: AnnotatedUnits | SharedImages, progress: Progress | None = None
) -> FeatureCache:
    """The features of every unit. progress: called with what is done and the share of it.

    Raises InputError where there is no unit, where a unit has no caption, where their numbers of exemplars differ, or
    where a feature is beyond float16.
    """
    if not len(units):
        raise InputError("there is no annotated unit to compute features of")
    if isinstance(units, SharedImages):
        return _shared(encoder, units, progress)
    features: np.ndarray | None = None
    captions: list[tuple[str, ...]] = []
    for index in range(len(units)):
        unit = units[index]
        exemplars = unit.exemplars
        if features is None:
            features = np.empty((len(units), len(exemplars.images), encoder.n_features), dtype=np.float16)
        if len(exemplars.images) != features.shape[1]:
            raise InputError(
                f"layer {exemplars.layer} unit {exemplars.unit} has {len(exemplars.images)} exemplars, "
                f"those before it {features.shape[1]}; expected one number"
            )
        features[index] = _halves(encoder(exemplars.images[None], exemplars.masks[None])[0], encoder)
        captions.append(_checked(index, unit.captions))
        if progress:
            progress("computing features", (index + 1) / len(units))
    assert features is not None  # there is a unit
    return FeatureCache(features, tuple(captions))


def _halves(values: Tensor, encoder: FeatureEncoder) -> np.ndarray:
    """Round to float16; raises InputError where that is too small, or where a value is no number."""
    found, limit = values.cpu().numpy(), np.finfo(np.float16).max
    if not (largest := np.abs(found).max()) <= limit:
        raise InputError(f"{encoder.name}: gives a feature of size {largest:.4g}; expected at most {limit:,.0f}")
    return found.astype(np.float16)


def _shared(encoder: FeatureEncoder, units: SharedImages, progress: Progress | None) -> FeatureCache:
    drawn = [units.ids_and_masks(i) for i in range(len(units))]
    ids = np.stack([i for i, _ in drawn])  # (N, k)
    packed = np.stack([np.packbits(masks, axis=None) for _, masks in drawn])  # a mask is 4 kB as bytes
    shape = drawn[0][1].shape
    del drawn
    packed = packed.reshape(*ids.shape, -1)
    features = np.empty((*ids.shape, encoder.n_features), dtype=np.float16)
    for numbers, images, slots in _batches(units, ids):
        rows, columns = np.divmod(slots, ids.shape[1])
        flat = np.unpackbits(packed[rows, columns], axis=-1)
        masks = torch.from_numpy(flat).reshape(-1, *shape[1:]).to(encoder.device).float()
        source = torch.from_numpy(np.searchsorted(numbers, ids[rows, columns])).to(encoder.device)
        parts = [encoder.pool(values[source], masks) for values in encoder.pyramid(torch.from_numpy(images))]
        features[rows, columns] = _halves(encoder.joined(parts), encoder)
        if progress:
            progress("computing features", float(numbers[-1] + 1) / (ids.max() + 1))
    return FeatureCache(features, tuple(_checked(i, units.captions(i)) for i in range(len(units))))


def _batches(units: SharedImages, ids: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pictures' numbers (b,), ascending; the pictures (b, 3, H, W); the flat places in `ids` where they are used."""
    order = np.argsort(ids, axis=None, kind="stable")
    used, first = np.unique(ids.ravel()[order], return_index=True)
    first = np.append(first, ids.size)
    for start in range(0, len(used), _BATCH):
        stop = min(start + _BATCH, len(used))
        numbers = used[start:stop]
        images = np.stack([units.image(int(number)) for number in numbers])
        yield numbers, images, order[first[start] : first[stop]]


def _checked(index: int, captions: Sequence[str]) -> tuple[str, ...]:
    if not captions:
        raise InputError(f"unit {index} has no caption; expected at least one")
    return tuple(captions)
