"""Convert released describers, `milan-KEY.pth`, to a folder of safetensors, JSON and text, without running their code.

Such a file is a nested mapping {properties, children, state_dict}. Its weights go to the parts of a describer so:

| in the file | here |
|---|---|
| init_h.0, init_c.0 | decoder: initial_hidden, initial_cell |
| attend.query_to_hidden, attend.key_to_hidden, attend.output.0 | decoder: query, key, attention |
| feature_gate.0, embedding, lstm, output.1 | decoder: feature_gate, embedding, lstm, output |
| lm.embedding, lm.lstm, lm.output.0 | language model: embedding, lstm, output |
| encoder.encoder.model.* | the trunk of the feature encoder |
| properties.indexer.properties.vocab.properties.tokens | the words |

Tokens are numbered alike: words, then start, stop, pad, unk. The pickled tokenizer is left out; see `vocabulary`.

A file that `torch.save` writes is a zip archive: `data.pkl`, a pickle, and the bytes of every storage in `data/KEY`.
Here weights are pickled together with objects of other libraries, and the pickle may name any function of any library,
and call it while it is read. Here nothing that it names is imported:

| named in the pickle | what it becomes |
|---|---|
| torch's storage types, `_rebuild_tensor_v2`, `_rebuild_parameter` | functions of this file, which build a tensor |
| `collections.OrderedDict` | itself |
| whatever else, as a spaCy object or `os.system` | `Foreign`: takes every argument and does nothing |

Such files are read here alone, once; what is loaded and served holds no pickle.
"""

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.explained.checkpoints import fill
from conceptry.models.folders import check_new, new_folder, temporary_folder
from conceptry.models.manifest import sha256_file
from conceptry.models.milan.describer.decoder import Decoder
from conceptry.models.milan.describer.describer import Describer
from conceptry.models.milan.describer.features import FeatureEncoder, load_feature_encoder
from conceptry.models.milan.describer.language_model import LAYERS, LanguageModel
from conceptry.models.milan.describer.vocabulary import SPECIALS, Vocabulary

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


_DECODER = {
    "init_h.0": "initial_hidden",
    "init_c.0": "initial_cell",
    "embedding": "embedding",
    "attend.query_to_hidden": "query",
    "attend.key_to_hidden": "key",
    "attend.output.0": "attention",
    "feature_gate.0": "feature_gate",
    "lstm": "lstm",
    "output.1": "output",
}
_LANGUAGE_MODEL = {"lm.embedding": "embedding", "lm.lstm": "lstm", "lm.output.0": "output"}
_TRUNK = "encoder.encoder.model."
_WORDS = ("indexer", "vocab", "tokens")


@dataclass(frozen=True)
class Conversion:
    """describer: what was written. foreign: names of other libraries in the file, whose objects were left out."""

    describer: Describer
    foreign: tuple[str, ...]


def convert_describer(path: str | Path, directory: str | Path, encoder: str | None = None) -> Conversion:
    """Write the describer in the released file `path` to the new folder `directory`.

    encoder: a feature encoder to use instead of the file's own, as torchvision:resnet101@FILE. No code in the file
    runs. Raises InputError where the folder exists, where the file is of another layout, and where parts do not fit.
    """
    path, directory = Path(path), Path(directory)
    check_new(directory)
    released = read_released(path)
    content = released.content
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not isinstance(content.get("properties"), Mapping):
        raise InputError(f"{path}: is no released describer; expected a mapping with properties and state_dict")
    state = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}
    vocabulary = _vocabulary(content, path)
    decoder, language_model = _decoder(state, vocabulary, path), _language_model(state, vocabulary, path)
    features = load_feature_encoder(encoder, "cpu") if encoder else _encoder(content, state, path)
    if decoder.n_features != features.n_features:
        raise InputError(
            f"{path}: its decoder reads {decoder.n_features:,} features, but {features.name} gives "
            f"{features.n_features:,}"
        )
    provenance = {"converted_from": path.name, "sha256": sha256_file(path), "left_out": list(released.foreign)}
    describer = Describer(features, decoder, language_model, vocabulary, provenance=provenance)
    with new_folder(directory) as partial:
        describer.save(partial)
    return Conversion(describer, released.foreign)


def _property(content: Any, *names: str) -> Any:
    """What lies under properties.NAME.properties.NAME..., None where it is not there."""
    for name in names:
        content = content.get("properties") if isinstance(content, Mapping) else None
        content = content.get(name) if isinstance(content, Mapping) else None
    return content


def _vocabulary(content: Any, path: Path) -> Vocabulary:
    words = _property(content, *_WORDS)
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise InputError(f"{path}: holds no words; expected texts at properties.{'.properties.'.join(_WORDS)}")
    others = _property(content, "lm", *_WORDS)
    if others is not None and tuple(others) != tuple(words):
        raise InputError(f"{path}: the words of its language model are not those of its decoder")
    try:
        return Vocabulary([*words])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _encoder(content: Any, state: Mapping[str, Tensor], path: Path) -> FeatureEncoder:
    architecture = _property(content, "encoder", "config")
    trunk = {key.removeprefix(_TRUNK): value.clone() for key, value in state.items() if key.startswith(_TRUNK)}
    if not isinstance(architecture, str) or not re.fullmatch(r"\w+", architecture) or not trunk:
        raise InputError(
            f"{path}: does not hold its feature encoder with the name of the architecture; name one by --encoder, "
            "as torchvision:resnet101@FILE"
        )
    with temporary_folder("convert") as folder:
        file = folder / f"{path.stem}.safetensors"
        save_file(trunk, str(file))
        try:
            found = load_feature_encoder(f"torchvision:{architecture}@{file}", "cpu")
        except InputError as error:
            raise InputError(f"{path}: its feature encoder: {str(error).replace(str(file), file.name)}") from None
    found.name = found.config["name"] = f"torchvision:{architecture}@{file.name}"
    return found


def _decoder(state: Mapping[str, Tensor], vocabulary: Vocabulary, path: Path) -> Decoder:
    own = _renamed(state, _DECODER)
    (n_tokens, embedding), (hidden, n_features), (attention, _) = (
        _shape(own, name, path) for name in ("embedding.weight", "initial_hidden.weight", "query.weight")
    )
    _check_words(n_tokens, vocabulary, "decoder", path)
    decoder = Decoder(n_tokens, n_features, hidden, embedding, attention)
    fill(decoder, own, f"{path}, decoder")
    return decoder.eval()


def _language_model(state: Mapping[str, Tensor], vocabulary: Vocabulary, path: Path) -> LanguageModel:
    own = _renamed(state, _LANGUAGE_MODEL)
    if not own:
        raise InputError(f"{path}: holds no language model, without which nothing is ranked by mutual information")
    (n_tokens, embedding), (_, hidden) = (_shape(own, name, path) for name in ("embedding.weight", "lstm.weight_hh_l0"))
    _check_words(n_tokens, vocabulary, "language model", path)
    if deeper := [key for key in own if key.endswith(f"_l{LAYERS}")]:
        raise InputError(f"{path}: its language model has more than {LAYERS} layers, as {deeper[0]} says")
    model = LanguageModel(n_tokens, hidden, embedding)
    fill(model, own, f"{path}, language model")
    return model.eval()


def _check_words(n_tokens: int, vocabulary: Vocabulary, part: str, path: Path) -> None:
    if n_tokens != len(vocabulary):
        raise InputError(
            f"{path}: its {part} knows {n_tokens:,} tokens; expected {len(vocabulary):,}, "
            f"its words and {len(SPECIALS)} specials"
        )


def _renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Tensors NAME.PARAMETER under the names that they have here; others are left out."""
    pairs = ((key.rpartition("."), value) for key, value in state.items())
    return {f"{names[name]}.{parameter}": value.float() for (name, _, parameter), value in pairs if name in names}


def _shape(own: Mapping[str, Tensor], name: str, path: Path) -> tuple[int, int]:
    found = own.get(name)
    if found is None or found.ndim != 2:
        got = "nothing" if found is None else f"shape {tuple(found.shape)}"
        raise InputError(f"{path}: is no released describer: expected a matrix for {name}, got {got}")
    return found.shape[0], found.shape[1]
