"""Inputs to explain, made into embeddings: images, texts, tokens, pixels and embeddings, singly or mixed in a list.

| given | read as |
|---|---|
| PIL image, `Path`, bytes of an image file, uint8 array (height, width) or (height, width, 3) | an image |
| uint8 tensor (3, height, width) | an image |
| floating tensor (3, height, width) | preprocessed pixels of an image |
| `str` | a text; an image file where it looks like the name of one |
| integer tensor (context,) | the tokens of a text |
| array or floating tensor (d,), list of numbers | an embedding as the encoder gives it, of any norm |

Arrays and tensors with one more dimension hold n inputs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from conceptry.models.encoders.protocol import encode_pixels, encode_texts, takes_texts
from conceptry.models.errors import InputError
from conceptry.models.images import decode_image, image_bytes, is_image_file, open_image, to_rgb

Kind = Literal["image", "pixels", "text", "tokens", "embedding"]
Modality = Literal["image", "text"]
MODALITIES: Mapping[Kind, Modality] = {"image": "image", "pixels": "image", "text": "text", "tokens": "text"}
Part = tuple[Kind, Any]
BATCH = 64
_NOT_NUMBERS = {str, bytes, bool, np.bool_, np.str_, np.bytes_}  # numpy would convert them


@dataclass(frozen=True)
class Input:
    """One thing to explain. where: how errors call it, such as "input 2" or "row 2, column 'image'"."""

    kind: Kind
    value: Any
    where: str

    def error(self, problem: Exception | str) -> InputError:
        """An error about this input."""
        return InputError(f"{self.where}: {problem}")

    def image(self) -> Image.Image:
        """The RGB image. Raises InputError where it is none."""
        value = self.value
        try:
            if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3):
                value = Image.fromarray(value)
            if isinstance(value, Image.Image):
                return to_rgb(value)
            return open_image(value) if isinstance(value, Path) else decode_image(image_bytes(value))
        except InputError as error:
            raise self.error(error) from None

    def pixels(self, encoder: Any) -> Tensor:
        """What the encoder makes of the image before it embeds it. Raises InputError where it cannot."""
        image = self.image()
        try:
            return encoder.preprocess(image)
        except InputError as error:
            raise self.error(error) from None


def read_inputs(inputs: Any) -> list[Input]:
    """The inputs one by one (see the table above). Raises InputError naming the one that is none of them."""
    several = isinstance(inputs, (list, tuple)) and not _are_numbers(inputs)
    read: list[Input] = []
    for item in inputs if several else [inputs]:
        where = f"input {len(read)}"
        if isinstance(item, Input):
            read.append(item)
            continue
        try:
            parts = list(_parts(item))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        read += [Input(kind, value, f"input {len(read) + i}") for i, (kind, value) in enumerate(parts)]
    if not read:
        raise InputError("there is nothing to explain; expected at least one image, text or embedding")
    return read


def _are_numbers(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(value, Real) and not isinstance(value, bool) for value in values)


def _parts(item: Any) -> Iterator[Part]:
    if isinstance(item, str):
        yield ("image", Path(item)) if is_image_file(item) else ("text", item)
    elif isinstance(item, (Image.Image, Path, bytes)):
        yield "image", item
    elif isinstance(item, (list, tuple)) and _are_numbers(item):
        yield "embedding", item
    elif isinstance(item, np.ndarray):
        yield from _parts_of_array(item)
    elif isinstance(item, Tensor):
        yield from _parts_of_tensor(item)
    else:
        raise InputError(
            f"expected an image (PIL, a path, bytes, uint8 array), a text or an embedding, got {type(item).__name__}"
        )


def _parts_of_array(array: np.ndarray) -> Iterator[Part]:
    if array.dtype == np.uint8 and array.ndim > 1:
        single = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in (3, 4))
        if not single and not (array.ndim == 4 and array.shape[-1] in (3, 4)):
            raise InputError(f"a uint8 image has the shape (height, width) or (height, width, 3), got {array.shape}")
        for one in [array] if single else array:
            yield "image", one
    elif array.ndim in (1, 2):
        for one in [array] if array.ndim == 1 else array:
            yield "embedding", one
    else:
        raise InputError(f"an array is an embedding (d,), several (n, d), or a uint8 image, got shape {array.shape}")


def _parts_of_tensor(tensor: Tensor) -> Iterator[Part]:
    image = tensor.ndim in (3, 4) and tensor.shape[-3] == 3
    if tensor.dtype == torch.uint8 and image:
        yield from _parts_of_array(tensor.movedim(-3, -1).contiguous().cpu().numpy())
        return
    kind: Kind
    if tensor.is_floating_point():
        kind, one = ("pixels", 3) if image else ("embedding", 1)
    else:
        kind, one = "tokens", 1
    if tensor.ndim not in (one, one + 1) or tensor.dtype in (torch.bool, torch.uint8) or tensor.is_complex():
        raise InputError(
            "a tensor is an embedding (d,), pixels or a uint8 image (3, height, width), or tokens (context,), "
            f"got {str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
        )
    for part in tensor if tensor.ndim > one else tensor[None]:
        yield kind, part


def embed(inputs: Sequence[Input], encoder: Any, d: int, device: torch.device) -> Tensor:
    """Embeddings (inputs, d), float32, of any norm; images are decoded one at a time.

    Raises InputError naming the input that has none: a damaged file, a word that the encoder does not know, a vector
    of another length.
    """
    embeddings = torch.empty(len(inputs), d, device=device)
    for kind, encode in _ENCODERS.items():
        if rows := [row for row, one in enumerate(inputs) if one.kind == kind]:
            members = [inputs[row] for row in rows]
            encoded = encode(members, encoder, d)
            if tuple(encoded.shape) != (len(rows), d):
                raise InputError(
                    f"the encoder gave embeddings of shape {tuple(encoded.shape)} for {len(rows)} inputs; expected "
                    f"({len(rows)}, {d}), as wide as the dictionary"
                )
            embeddings[rows] = encoded.to(embeddings)
    return embeddings


def _embed_images(inputs: Sequence[Input], encoder: Any, d: int) -> Tensor:
    _known(encoder)
    if missing := [name for name in ("preprocess", "device") if not hasattr(encoder, name)]:
        raise inputs[0].error(
            f"the encoder, of class {type(encoder).__name__}, has no {missing[0]}, so it takes no images; give pixels "
            "(3, height, width), or wrap an open_clip model by conceptry.models.encoders.wrap_open_clip"
        )
    return encode_pixels(encoder, (one.pixels(encoder) for one in inputs))


def _embed_pixels(inputs: Sequence[Input], encoder: Any, d: int) -> Tensor:
    parts = [inputs[i : i + BATCH] for i in range(0, len(inputs), BATCH)]
    with torch.no_grad():
        return torch.cat([_known(encoder).encode_image(_stacked(part)).float() for part in parts])


def _embed_texts(inputs: Sequence[Input], encoder: Any, d: int) -> Tensor:
    for one in inputs:
        if not isinstance(one.value, str) or not one.value.strip():
            raise one.error("expected a text that is not blank")
    try:
        return encode_texts(takes_texts(_known(encoder)), [one.value for one in inputs])
    except InputError as whole:
        for one in inputs if hasattr(encoder, "tokenize") else ():
            try:
                encoder.tokenize([one.value])
            except InputError as error:
                raise one.error(error) from None
        raise whole


def _embed_tokens(inputs: Sequence[Input], encoder: Any, d: int) -> Tensor:
    parts = [inputs[i : i + BATCH] for i in range(0, len(inputs), BATCH)]
    with torch.no_grad():
        return torch.cat([_known(encoder).encode_text(_stacked(part)).float() for part in parts])


def _embed_vectors(inputs: Sequence[Input], encoder: Any, d: int) -> Tensor:
    return torch.from_numpy(np.stack([_direction(one, d) for one in inputs]))


_ENCODERS: Mapping[Kind, Callable[[Sequence[Input], Any, int], Tensor]] = {
    "image": _embed_images,
    "pixels": _embed_pixels,
    "text": _embed_texts,
    "tokens": _embed_tokens,
    "embedding": _embed_vectors,
}


def _known(encoder: Any) -> Any:
    """The encoder. Raises InputError where there is none."""
    if encoder is None:
        raise InputError("this model has no encoder; it decomposes embeddings only")
    return encoder


def _stacked(inputs: Sequence[Input]) -> Tensor:
    shape = inputs[0].value.shape
    for one in inputs:
        if one.value.shape != shape:
            raise one.error(f"expected the shape {tuple(shape)} of {inputs[0].where}, got {tuple(one.value.shape)}")
    return torch.stack([one.value for one in inputs])


def _direction(one: Input, d: int) -> np.ndarray:
    """The direction of an embedding of any scale: float32 (d,), its largest entry 1 in magnitude."""
    value = one.value
    if isinstance(value, Tensor):
        value = value.detach().double().cpu().numpy()
    entries = value.tolist() if isinstance(value, np.ndarray) else value
    try:
        if not isinstance(entries, (list, tuple)) or not _NOT_NUMBERS.isdisjoint(map(type, entries)):
            raise TypeError
        vector = np.asarray(entries, dtype=np.float64)
    except (TypeError, ValueError):
        raise one.error(f"expected {d} numbers") from None
    except OverflowError:  # an integer beyond float64; JSON's 1e400 arrives as infinity
        raise one.error(f"expected {d} finite numbers, got NaN or infinite values") from None
    if vector.shape != (d,):
        raise one.error(f"expected {d} numbers, got shape {vector.shape}")
    if not np.isfinite(vector).all():
        raise one.error(f"expected {d} finite numbers, got NaN or infinite values")
    if not vector.any():
        raise one.error("the zero vector has no direction; expected at least one number that is not 0")
    return (vector / np.abs(vector).max()).astype(np.float32)


def modalities_of(inputs: Sequence[Input], modality: Modality | Sequence[Modality]) -> list[Modality]:
    """The modality of each input: its own for images and texts, `modality` for embeddings."""
    given: list[Modality] = [modality] * len(inputs) if isinstance(modality, str) else list(modality)  # type: ignore[list-item]  # a Modality
    if len(given) != len(inputs):
        raise InputError(f"modality names {len(given)} modalities for {len(inputs)} inputs; they must agree")
    return [MODALITIES.get(one.kind, stated) for one, stated in zip(inputs, given, strict=True)]
