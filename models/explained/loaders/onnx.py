"""ONNX graphs over a table or pictures, run by ONNX Runtime.

| input of the graph | taken as |
|---|---|
| (batch, k), floats, whole numbers or truth values | a table of k columns |
| (batch, 1 or 3, height, width), float32 | pictures in [0, 1]; the graph holds its own normalisation |

The output is the only one, or the second of a label and its scores, as converters of scikit-learn write them.
"""

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from conceptry.models.encoders.onnx_runtime import session as open_session
from conceptry.models.errors import InputError
from conceptry.models.explained.base import Description, ModelBase
from conceptry.models.explained.image_inputs import PIXELS_NOTE, Scaling, chunks, example_images, to_pixels
from conceptry.models.explained.signature import Inputs, array_inputs, refuse_statistics, table_columns, with_gaps
from conceptry.models.explained.tables import typed_frame
from conceptry.models.manifest import sha256_file

_GRAPH = "model.onnx"
_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True)
class OnnxFile:
    """A graph in one file, or with its weights in files beside it."""

    path: Path
    kind: str = "onnx"
    requirements: tuple[str, ...] = ("onnxruntime", "torch")

    def write(self, directory: Path) -> dict[str, Any]:
        shutil.copyfile(self.path, directory / _GRAPH)
        for name in self.beside():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path.parent / name, directory / name)
        return {}

    def beside(self) -> list[str]:
        """The files of weights that the graph refers to, relative to its folder."""
        import onnx
        from onnx.external_data_helper import ExternalDataInfo, uses_external_data

        tensors = onnx.load(str(self.path), load_external_data=False).graph.initializer
        names = sorted({ExternalDataInfo(tensor).location for tensor in tensors if uses_external_data(tensor)})
        for name in names:
            if Path(name).is_absolute() or ".." in Path(name).parts or not (self.path.parent / name).is_file():
                raise InputError(f"{self.path}: refers to {name}, which is no file beside it")
        return names

    def sha256(self) -> str:
        """The SHA-256 of the graph's file, or one over it and the files that it refers to."""
        names = self.beside()
        if not names:
            return sha256_file(self.path)
        digests = "".join(f"{sha256_file(self.path.parent / name)}\n" for name in (self.path.name, *names))
        return hashlib.sha256(digests.encode()).hexdigest()


class OnnxModel(ModelBase):
    """A graph as an explained model; a session may be called from many threads."""

    def __init__(self, description: Description, source: OnnxFile, session: Any, device: torch.device) -> None:
        super().__init__(description, source)
        self.session, self.device = session, device
        self._inputs, self._output = signature_of(session, description.name)
        self._prepare = Scaling(self._inputs.shape).fit if self._inputs.is_image else None

    def __call__(self, inputs: Any) -> np.ndarray:
        if self._prepare is None:
            frame = typed_frame(inputs, self.columns, fractions=self._inputs.tensor.startswith("float"))
            return self.outputs(lambda: self._run(frame.to_numpy(self._inputs.tensor)), len(inputs))
        prepare = self._prepare
        return self.outputs(
            lambda: np.concatenate(
                [self._run(prepare(to_pixels(part, torch.device("cpu"))).numpy()) for part in chunks(inputs)]
            ),
            len(inputs),
        )

    def _run(self, batch: np.ndarray) -> np.ndarray:
        return self.session.run([self._output], {self.session.get_inputs()[0].name: np.ascontiguousarray(batch)})[0]


def load_onnx(
    name: str, path: Path, device: torch.device, statistics: str | Path | pd.DataFrame | None, outputs: str
) -> OnnxModel:
    """The graph at `path`; see `load_explained`."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an ONNX graph")
    source, session = OnnxFile(path), open_session(path, device)
    inputs, _ = signature_of(session, name)
    lineage = {"explained_model": name, "explained_sha256": source.sha256()}
    description = Description(name, "table", lineage=tuple(sorted(lineage.items())))
    if inputs.is_image:
        refuse_statistics(statistics, name, "pictures")
        description = replace(description, modality="image", notes=(PIXELS_NOTE,))
        example: Any = example_images(*(max(size, 32) for size in inputs.shape[1:]))
    else:
        columns, rows = table_columns(inputs, statistics, name)
        description, example = replace(description, columns=columns), rows.head(32)
    tried = OnnxModel(description, source, session, device)(example)
    if description.columns:
        columns = with_gaps(
            description.columns,
            example,
            lambda some: OnnxModel(replace(description, columns=some), source, session, device),
            every=False,
        )
        description = replace(description, columns=columns)
    form = "values" if outputs == "auto" else outputs
    return OnnxModel(description.with_outputs(form, tried), source, session, device)


def read_onnx(directory: Path, description: Description, device: torch.device) -> OnnxModel:
    """The graph in a folder that `save` wrote."""
    path = directory / _GRAPH
    return OnnxModel(description, OnnxFile(path), open_session(path, device), device)


def signature_of(session: Any, name: str) -> tuple[Inputs, str]:
    """What a graph takes and the name of the output that is explained; InputError for graphs of other shapes."""
    taken, given = session.get_inputs(), session.get_outputs()
    if len(taken) != 1:
        raise InputError(f"{name}: takes {len(taken)} inputs, expected one; export it with a single array as input")
    batch, *shape = taken[0].shape
    if isinstance(batch, int):
        raise InputError(f"{name}: takes batches of exactly {batch}; export it with a free batch dimension")
    labelled = len(given) == 2 and given[0].type in ("tensor(int64)", "tensor(string)")
    if not (len(given) == 1 or labelled) or given[-1].type not in ("tensor(float)", "tensor(double)"):
        types = ", ".join(f"{output.name} {output.type}" for output in given)
        raise InputError(f"{name}: gives {types}; expected one tensor of numbers (zipmap has to be off)")
    return array_inputs(shape, _TYPES.get(str(taken[0].type), str(taken[0].type)), name), given[-1].name
