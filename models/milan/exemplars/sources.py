"""The data that exemplars are chosen from: images by name, or any torch data set.

| name | what |
|---|---|
| `zoo:emoji-scenes` | held-out scenes of the emoji world, 64 x 64 pixels |
| `zoo:emoji-scenes-train` | the scenes that its networks were trained on |
| `zoo:emoji-scenes-colour` | objects on colours that no training scene shows them on |
| `zoo:NAME` | the held-out pictures of a data set that classifiers of the zoo are trained on |
| `folder:PATH` | the pictures below a folder; the folder that each lies in is its class where there are several |

`TorchSource` wraps any torch data set with a length, whose items need not be images.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.images import image_files, open_image
from conceptry.models.milan.settings import DEFAULT_SIZE

SCHEMES = ("zoo:emoji-scenes", "zoo:emoji-scenes-train", "zoo:emoji-scenes-colour", "zoo:NAME", "folder:PATH")
_SPLITS = {"emoji-scenes": "heldout", "emoji-scenes-train": "train", "emoji-scenes-colour": "heldout-colour"}


@runtime_checkable
class Source(Protocol):
    """What all sources offer.

    name: as the user gave it. digest: SHA-256 (hex) of what fixes the content. labels: int64 (n,) positions in
    `classes`, or None where classes are not known. parallel: whether several threads may read at once.
    """

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def labels(self) -> np.ndarray | None: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def parallel(self) -> bool: ...
    def __len__(self) -> int: ...


@runtime_checkable
class ImageSource(Source, Protocol):
    """Pictures, of one size or of several."""

    def read_images(self, indices: Sequence[int]) -> list[np.ndarray]:
        """The pictures of these numbers: uint8 (H, W, 3), RGB. Raises InputError naming one that cannot be read."""
        ...


@runtime_checkable
class ItemSource(Source, Protocol):
    """Inputs that are tensors already: normalised pictures, or what a generator makes pictures from."""

    def items(self, indices: Sequence[int]) -> tuple[Any, ...]:
        """The items of these numbers, collated: a tuple of tensors (n, ...), one for each part of an item."""
        ...

    def to_images(self, items: tuple[Any, ...]) -> Tensor:
        """The first part of the items as pictures uint8 (n, 3, H, W). Raises InputError where it holds none."""
        ...


class ArraySource:
    """Pictures uint8 (n, H, W, 3) in memory."""

    parallel = False

    def __init__(
        self, name: str, images: np.ndarray, labels: np.ndarray | None = None, classes: Sequence[str] = ()
    ) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise InputError(f"{name}: pictures must be uint8 (n, H, W, 3), got {images.dtype} {images.shape}")
        self.name, self.images, self.labels, self.classes = name, images, labels, tuple(classes)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def digest(self) -> str:
        sha = hashlib.sha256(f"{self.images.shape}".encode())
        sha.update(np.ascontiguousarray(self.images).data)  # not joined to the above, which would copy all of them
        return sha.hexdigest()

    def read_images(self, indices: Sequence[int]) -> list[np.ndarray]:
        return [self.images[i] for i in indices]


class SceneSource:
    """Scenes of the emoji world; `scenes` also knows what is true of each and where."""

    parallel = True
    labels = None
    classes = ()

    def __init__(self, name: str, size: int = DEFAULT_SIZE, seed: int = 0) -> None:
        from conceptry.models.zoo.emoji_world.scenes import EmojiScenes

        self.name = name
        self.scenes = EmojiScenes(_SPLITS[name.removeprefix("zoo:")], size, seed)

    def __len__(self) -> int:
        return len(self.scenes)

    @property
    def digest(self) -> str:
        return self.scenes.digest()

    def read_images(self, indices: Sequence[int]) -> list[np.ndarray]:
        return [self.scenes[i].image for i in indices]


class FolderSource:
    """The picture files below a folder in the order of their paths, or `files` among them; hidden ones are left out.

    The digest is that of the relative paths and sizes of the files: their content is not read for it.
    """

    parallel = True

    def __init__(self, root: Path, size: int | None = None, seed: int = 0, files: Sequence[Path] | None = None) -> None:
        root = Path(root)
        files = image_files(root) if files is None else list(files)
        if size is not None and size < len(files):
            chosen = np.random.default_rng(seed).choice(len(files), size, replace=False)
            files = [files[i] for i in sorted(chosen)]
        self.root, self.files, self.name = root, files, f"folder:{root}"
        folders = [file.parent.relative_to(root).as_posix() for file in files]
        self.classes = tuple(sorted(set(folders))) if len(set(folders)) > 1 else ()
        number = {name: i for i, name in enumerate(self.classes)}
        self.labels = np.array([number[folder] for folder in folders], np.int64) if number else None

    def __len__(self) -> int:
        return len(self.files)

    @property
    def digest(self) -> str:
        lines = [f"{file.relative_to(self.root).as_posix()} {file.stat().st_size}\n" for file in self.files]
        return hashlib.sha256(os.fsencode("".join(lines))).hexdigest()  # a name need not be UTF-8

    def read_images(self, indices: Sequence[int]) -> list[np.ndarray]:
        return [np.asarray(open_image(self.files[i])) for i in indices]


def open_source(name: str, size: int | None = None, seed: int = 0) -> ImageSource:
    """The source called `name` (see the table above).

    size: so many pictures at most, a draw by `seed` from a folder, the first ones of a data set; of scenes exactly so
    many, of that seed (default 2,000). Raises InputError for unknown names and for folders without pictures.
    """
    if size is not None and size < 1:
        raise InputError(f"size must be at least 1 picture, got {size}")
    scheme, _, rest = name.partition(":")
    if scheme == "zoo" and rest in _SPLITS:
        return SceneSource(name, size or DEFAULT_SIZE, seed)
    if scheme == "zoo" and rest:
        return _dataset(name, rest, size)
    if scheme == "folder" and rest:
        return FolderSource(Path(rest), size, seed)
    raise InputError(f"unknown data {name!r}; expected one of {', '.join(SCHEMES)}")


def _dataset(name: str, rest: str, size: int | None) -> ArraySource:
    from conceptry.models.zoo.datasets import load_dataset

    dataset = load_dataset(rest)
    if dataset.modality != "image":
        raise InputError(f"{name}: holds {dataset.modality} data, expected pictures; such as {SCHEMES[0]}")
    rows = dataset.heldout[:size]
    return ArraySource(name, dataset.take(rows), dataset.targets[rows], dataset.classes)


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

    def to_images(self, items: tuple[Any, ...]) -> Tensor:
        images = items[0]
        if isinstance(images, Tensor) and self.mean is not None and self.std is not None:
            mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (self.mean, self.std))
            images = (images * std + mean).clamp(0, 1)
        return as_bytes(images, f"{self.name}: give mean and std, or transform_outputs: its items")


def source_of(data: Any, size: int | None = None) -> Source:
    """The images that exemplars are chosen from, of whatever a user holds them in.

    data: a name as `open_source` takes it, uint8 (n, H, W, 3), a torch data set, or a source. size: at most so many
    images of data that are given by name.
    """
    if isinstance(data, str):
        return open_source(data, size)
    if size is not None:
        raise InputError("size is of data that are given by name; give a smaller data set instead")
    if isinstance(data, np.ndarray):
        return ArraySource("images", data)
    if hasattr(data, "read_images") or hasattr(data, "items"):  # isinstance would read every attribute, the digest too
        return data
    return TorchSource(data, type(data).__name__)


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
