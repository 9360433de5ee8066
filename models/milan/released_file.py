"""Released weights, which torch pickled together with objects of other libraries, read without running any code.

A file that `torch.save` writes is a zip archive: `data.pkl`, a pickle, and the bytes of every storage in `data/KEY`.
The pickle may name any function of any library, and call it while it is read. Here nothing that it names is imported:

| named in the pickle | what it becomes |
|---|---|
| torch's storage types, `_rebuild_tensor_v2`, `_rebuild_parameter` | functions of this file, which build a tensor |
| `collections.OrderedDict` | itself |
| whatever else, as a spaCy object or `os.system` | `Foreign`: takes every argument and does nothing |

Only `conceptry.models.milan.convert` reads such files, once; what is loaded and served holds no pickle.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conceptry.models.errors import InputError

MAX_PICKLE_BYTES = 2**28  # of data.pkl; that of a released file has about 2**25
_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Foreign:
    """Stands for an object of another library; nothing that a pickle can do with it has an effect."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> "Foreign":
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass

    def __setitem__(self, _key: Any, _value: Any) -> None:
        pass

    def append(self, _item: Any) -> None:
        pass

    def extend(self, _items: Any) -> None:
        pass

    def add(self, _item: Any) -> None:
        pass

    def __hash__(self) -> int:
        return id(self)


@dataclass(frozen=True)
class ReleasedFile:
    """content: what was pickled, tensors in it. foreign: the names of other libraries in it, sorted."""

    content: Any
    foreign: tuple[str, ...]


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    data: bytearray


class _Reader(pickle.Unpickler):
    """Reads data.pkl of an open archive; `foreign` collects what was named and not admitted."""

    def __init__(self, archive: zipfile.ZipFile, prefix: str, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self._archive, self._prefix = archive, prefix
        self.foreign: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        if module == "collections" and name == "OrderedDict":
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return type(name, (), {"dtype": _DTYPES[name]})  # one of its own, which the pickle may alter as it likes
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return lambda storage, offset, size, stride, *_: _tensor(storage, offset, size, stride)
        if module == "torch._utils" and name == "_rebuild_parameter":
            return lambda data, *_: data
        self.foreign.add(f"{module}.{name}")
        return type(name.rpartition(".")[2] or "Foreign", (Foreign,), {})

    def persistent_load(self, pid: Any) -> _Storage:
        kind, marker, key, _location, n_elements = pid
        if kind != "storage":
            raise ValueError(f"a reference of kind {kind!r}")
        data = bytearray(self._archive.read(_stored(self._archive, f"{self._prefix}data/{key}")))
        if len(data) != n_elements * marker.dtype.itemsize:
            raise ValueError(f"{len(data)} bytes for {n_elements} elements")
        return _Storage(marker.dtype, data)


def read_released(path: Path) -> ReleasedFile:
    """The content of a file that `torch.save` wrote.

    Raises InputError where there is no such file, and where it is no archive of torch, cut off or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected released weights, such as milan-base.pth")
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise InputError(
                    f"{path}: is no file of torch.save, as it holds no data.pkl; expected released weights"
                )
            info = _stored(archive, pickles[0])
            if info.file_size > MAX_PICKLE_BYTES:
                raise InputError(
                    f"{path}: its pickle has {info.file_size:,} bytes, at most {MAX_PICKLE_BYTES:,} are read"
                )
            prefix = pickles[0].removesuffix("data.pkl")
            if f"{prefix}byteorder" in archive.namelist() and archive.read(f"{prefix}byteorder") != b"little":
                raise InputError(f"{path}: was written by a big-endian machine, which is not read")
            reader = _Reader(archive, prefix, archive.read(info))
            return ReleasedFile(reader.load(), tuple(sorted(reader.foreign)))
    except InputError:
        raise
    except zipfile.BadZipFile:
        raise InputError(
            f"{path}: is no file of torch.save, or is cut off; expected released weights, such as milan-base.pth"
        ) from None
    except Exception as error:  # a damaged pickle can ask for anything
        raise InputError(
            f"{path}: cannot be read, it is damaged or of another format ({type(error).__name__})"
        ) from None


def _stored(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:  # torch compresses nothing; so nothing unpacks to more than the file
        raise ValueError(f"{name} is compressed")
    return info


def _tensor(storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    if not storage.data:
        return torch.empty(size, dtype=storage.dtype)
    return torch.frombuffer(storage.data, dtype=storage.dtype).as_strided(size, stride, offset).clone()
