"""A trained network as an explained model, and the folder that it is kept in.

| file | content |
|---|---|
| classifier.json | the network's shape, modality, form, classes, columns (of the training rows), vocabulary |
| model.safetensors | the weights, float32 or float16 |
| provenance.json | how it was made (written by `conceptry train classifiers`; not read here) |

A regressor's network puts out (y - m) / s with m and s of the training rows; the model undoes it.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.explained.classifiers.architectures import ARCHITECTURES, Shape, build_network
from conceptry.models.explained.classifiers.features import (
    MASK_TOKEN,
    image_features,
    padded,
    table_features,
    table_owner,
    token_ids,
    tokenise,
)
from conceptry.models.explained.image_inputs import check_pixels, to_images, wrong_size
from conceptry.models.explained.protocol import Column
from conceptry.models.explained.tables import columns_from_json, columns_to_json
from conceptry.models.manifest import read_json, write_json

DESCRIPTION, WEIGHTS = "classifier.json", "model.safetensors"


@dataclass(frozen=True)
class Description:
    """What is known of a network beside its weights."""

    shape: Shape
    modality: str
    form: str  # "logits", or "values" of a regressor
    classes: tuple[str, ...]
    columns: tuple[Column, ...] = ()  # of tables
    vocabulary: tuple[str, ...] = ()  # of texts: the rows of the embedding
    target_mean: float = 0.0  # m
    target_std: float = 1.0  # s


class Classifier:
    """A network of the zoo: `DifferentiableModel` over a table, texts or images, `PixelModel` over images.

    Calls are thread-safe.

    Raises InputError for inputs that the model cannot read, naming row and column.
    """

    requirements: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    resizes = False

    def __init__(self, name: str, description: Description, network: nn.Module, device: torch.device) -> None:
        self.name = name
        self.description = description
        self.modality = description.modality
        self.form = description.form
        self.classes = description.classes
        self.columns = description.columns
        self.device = device
        self.network = network.to(device).eval().requires_grad_(False)
        self.mask_token = MASK_TOKEN if self.modality == "text" else None
        self._index = {token: i for i, token in enumerate(description.vocabulary)}

    @property
    def module(self) -> nn.Module:
        return self.network

    @property
    def channels(self) -> int:
        """Channels of the pixels that an image model reads; 0 for a table or a text."""
        return self.description.shape.inputs[0] if self.modality == "image" else 0

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the images that an image model takes; None of a table or a text."""
        if self.modality != "image":
            return None
        height, width = self.description.shape.inputs[1:]
        return height, width

    @property
    def call_size(self) -> tuple[int, int] | None:
        """Equal to `size`: a call takes images of no other size."""
        return self.size

    @property
    def lineage(self) -> dict[str, str]:
        """The model's name and the SHA-256 of its weights."""
        return {
            "explained_model": self.name,
            "explained_sha256": hashlib.sha256(self._weights(torch.float32)).hexdigest(),
        }

    def __call__(self, inputs: Any, /) -> np.ndarray:
        """A DataFrame, a list of texts or uint8 images (batch, H, W, 3) to outputs (batch, n_outputs), float64."""
        with torch.inference_mode():
            if self.modality == "text":
                ids, lengths = map(self._tensor, padded(token_ids(inputs, self._index)))
                outputs = self._scaled(self.network(self._embedding(ids), lengths))
            else:
                outputs = self.forward(self.encode(inputs))
            return outputs.double().cpu().numpy()

    def encode(self, inputs: Any, /) -> Tensor:
        """Features (batch, *features), float32: columns (k,), embeddings (L, d) of texts of L tokens each, pixels."""
        if self.modality == "table":
            return self._tensor(table_features(inputs, self.columns))
        if self.modality == "image":
            return self._tensor(image_features(inputs, self.description.shape.inputs))
        rows = token_ids(inputs, self._index)
        if len({len(row) for row in rows}) > 1:
            raise InputError("texts must have the same number of tokens to be encoded together")
        return self._embedding(self._tensor(padded(rows)[0]))

    def forward(self, x: Tensor, /) -> Tensor:
        """Features (batch, *features) to outputs (batch, n_outputs), differentiable in x."""
        return self._scaled(self.network(x))

    def to_pixels(self, images: np.ndarray, /) -> Tensor:
        """uint8 (n, H, W, 3) to float32 (n, C, H, W) in [0, 1]; InputError for images of another size."""
        size = self.size
        if size is not None and isinstance(images, np.ndarray) and images.ndim == 4:
            height, width = images.shape[1:3]
            if size != (height, width):
                raise wrong_size(self.name, size, (height, width))
        return self.encode(images)

    def from_pixels(self, x: Tensor, /) -> Tensor:
        """Pixels (n, C, H, W) to outputs (n, n_outputs), differentiable in x."""
        check_pixels(self.name, x, self.channels, self.size)
        return self.forward(x)

    def to_images(self, x: Tensor, /) -> np.ndarray:
        """Pixels (n, C, H, W) to uint8 (n, H, W, 3), clipped and rounded."""
        return to_images(x)

    def feature_owner(self, inputs: Any, /) -> Tensor:
        """int64 (*features): the column, or the position of the token in `tokens`, of each feature; -1 for pixels."""
        if self.modality == "table":
            return self._tensor(table_owner(self.columns))
        features = self.encode(inputs).shape[1:]
        if self.modality == "image":
            return torch.full(features, -1, device=self.device)
        return torch.arange(features[0], device=self.device)[:, None].expand(features).contiguous()

    @staticmethod
    def tokens(text: str) -> list[str]:
        """The lower-cased words and marks that a text model reads; `[MASK]` is a masked word."""
        return tokenise(text)

    def save(self, directory: Path, dtype: torch.dtype = torch.float32) -> None:
        """Write classifier.json and model.safetensors into `directory`, which is made where it is not there."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / WEIGHTS).write_bytes(self._weights(dtype))
        write_json(
            directory / DESCRIPTION, asdict(self.description) | {"columns": columns_to_json(self.description.columns)}
        )

    def _weights(self, dtype: torch.dtype) -> bytes:
        state = self.network.state_dict()
        return save({k: (t.to(dtype) if t.is_floating_point() else t).cpu().contiguous() for k, t in state.items()})

    def _embedding(self, ids: Tensor) -> Tensor:
        embedding = self.network.embedding
        assert isinstance(embedding, nn.Embedding)
        return embedding(ids)

    def _scaled(self, outputs: Tensor) -> Tensor:
        m, s = self.description.target_mean, self.description.target_std
        return outputs if (m, s) == (0.0, 1.0) else outputs * s + m

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device)


def read_classifier(directory: Path, device: torch.device, name: str) -> Classifier:
    """The model in a folder that `Classifier.save` wrote, called `name`, on `device`.

    Raises InputError where the folder is not one.
    """
    directory = Path(directory)
    for file in (DESCRIPTION, WEIGHTS):
        if not (directory / file).is_file():
            raise InputError(f"{directory}: holds no {file}; expected a folder written by conceptry train classifiers")
    try:
        description = _description(read_json(directory / DESCRIPTION))
        with torch.device("meta"):  # no weights are drawn, so no generator is touched
            network = build_network(description.shape)
        state = {k: t.float() if t.is_floating_point() else t for k, t in load_file(directory / WEIGHTS).items()}
        network.load_state_dict(state, assign=True)
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[-1].strip() if str(error).strip() else repr(error)
        raise InputError(f"{directory}: is not a classifier that can be read ({reason})") from None
    return Classifier(name, description, network, device)


def _description(values: dict[str, Any]) -> Description:
    shape = Shape(**{**values["shape"], "inputs": tuple(values["shape"]["inputs"])})
    if shape.arch not in ARCHITECTURES.get(values["modality"], ()):
        raise ValueError(f"architecture {shape.arch!r} does not read modality {values['modality']!r}")
    columns = columns_from_json(values["columns"])
    names = {key: tuple(values[key]) for key in ("classes", "vocabulary")}
    return Description(**{**values, **names, "shape": shape, "columns": columns})
