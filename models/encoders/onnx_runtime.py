"""Both towers of a dual encoder as ONNX files, run by ONNX Runtime.

A folder holds `image.onnx`, `text.onnx` and the processing files (`open_clip_config.json` or `conse.json`, tokeniser).
The CUDA provider is used where the device is a CUDA one. Without a working CUDA provider a named CUDA device is
refused; for the device that "auto" chose, the CPU provider runs instead, with a warning. `providers` and the log say
which runs.
"""

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from conceptry.models.encoders.clip import OpenClipEncoder
from conceptry.models.encoders.conse import ConseEncoder
from conceptry.models.encoders.processing import Processing, read_processing
from conceptry.models.errors import ConceptryError, InputError

logger = logging.getLogger(__name__)
TOWERS = ("image.onnx", "text.onnx")
MIN_COSINE = 0.9999


class OnnxEncoder:
    """A dual encoder whose towers run in ONNX Runtime; the same protocol and results as the torch original."""

    runtime = "onnx"

    def __init__(self, name: str, directory: Path, device: torch.device) -> None:
        self.name = name
        self.device = device
        self.processing: Processing = read_processing(directory)
        if missing := [tower for tower in TOWERS if not (directory / tower).is_file()]:
            raise InputError(f"{directory}: holds no {missing[0]}; expected a folder written by an ONNX export")
        self._directory = directory
        self._image, self._text = (session(directory / tower, device) for tower in TOWERS)
        self.providers = self._image.get_providers()
        logger.info("ONNX Runtime runs %s on %s", name, self.providers[0])

    @property
    def calibration(self) -> Callable[[Tensor], Tensor] | None:
        return self.processing.calibration

    def preprocess(self, image: Image.Image) -> Tensor:
        return self.processing.preprocess(image)

    def tokenize(self, texts: str | Sequence[str]) -> Tensor:
        return self.processing.tokenize([texts] if isinstance(texts, str) else list(texts))

    def encode_image(self, pixels: Tensor) -> Tensor:
        return self._run(self._image, pixels.to(torch.float32))

    def encode_text(self, texts: str | Sequence[str] | Tensor) -> Tensor:
        tokens = texts if isinstance(texts, Tensor) else self.tokenize(texts)
        return self._run(self._text, tokens.to(torch.int64))

    def save(self, directory: Path) -> None:
        """Write the folder that `OnnxEncoder` reads."""
        self.processing.save(directory)
        for tower in TOWERS:
            shutil.copyfile(self._directory / tower, directory / tower)

    def _run(self, session, batch: Tensor) -> Tensor:
        (embeddings,) = session.run(None, {"batch": batch.cpu().numpy()})
        return torch.from_numpy(embeddings).to(self.device)


def export_onnx(encoder: OpenClipEncoder | ConseEncoder, directory: Path) -> None:
    """Write both towers of a torch encoder as ONNX with a free batch dimension, and prove them equal.

    Where texts are of any length, so is the second dimension of their tokens.

    Raises ConceptryError where an exported tower and its original differ by more than cosine 0.9999 on a probe.
    """
    encoder.processing.save(directory)
    size, device = _image_size(encoder), encoder.device
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(3, 3, *size, generator=generator)
    tokens = encoder.tokenize(["a photo of a dog", "a dog", "a"])
    length = {1: "length"} if encoder.processing.any_length else {}
    for tower, module, batch, free in (
        (TOWERS[0], _ImageTower(encoder.model), pixels, {0: "n"}),
        (TOWERS[1], _TextTower(encoder.model), tokens, {0: "n"} | length),
    ):
        _export(module.eval().cpu(), batch, free, directory / tower)
    encoder.model.to(device)
    exported = OnnxEncoder(encoder.name, directory, torch.device("cpu"))
    for what, ours, original in (
        ("image", exported.encode_image(pixels[:2]), encoder.encode_image(pixels[:2]).cpu()),
        ("text", exported.encode_text(["a dog"]), encoder.encode_text(["a dog"]).cpu()),
    ):
        cosine = float(nn.functional.cosine_similarity(ours, original).min())
        if not cosine >= MIN_COSINE:
            raise ConceptryError(f"{encoder.name}: the exported {what} tower differs from torch (cosine {cosine:.6f})")


def _export(module: nn.Module, batch: Tensor, free: dict[int, str], path: Path) -> None:
    """Write one tower; free: names of the dimensions of any size.

    The exporter notes stack traces with paths of this machine on every node; they are removed.
    """
    import warnings

    import onnx

    with warnings.catch_warnings():
        # The exporter's own deprecation and tracing notes; the result is checked against torch below.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (batch,),
            input_names=["batch"],
            output_names=["embeddings"],
            dynamic_shapes=({axis: torch.export.Dim(name) for axis, name in free.items()},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # with dynamo=True
    model = program.model_proto
    _remove_notes(model)
    onnx.save(model, str(path))


def _remove_notes(message: Any) -> None:
    """Clear `metadata_props` and `doc_string` of an ONNX message and of all that it contains."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type:
            for part in [value] if hasattr(value, "ListFields") else value:
                _remove_notes(part)


def session(path: Path, device: torch.device):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Spinning threads of one session starve every other worker of a server that shares the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = torch.get_num_threads()
    wanted = "CPUExecutionProvider" if device.type == "cpu" else "CUDAExecutionProvider"
    provider = wanted if device.type == "cpu" else (wanted, {"device_id": device.index or 0})
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # ONNX Runtime raises its own types for unreadable files
        raise ConceptryError(f"{path.name}: ONNX Runtime cannot load it ({type(error).__name__})") from None
    if session.get_providers()[0] != wanted:
        if device.index is not None:
            raise ConceptryError(f"ONNX Runtime has no working {wanted} here; set device to cpu or auto")
        logger.warning("ONNX Runtime has no working %s here; %s runs on the CPU", wanted, path.name)
    return session


def _image_size(encoder: OpenClipEncoder | ConseEncoder) -> tuple[int, int]:
    pixels = encoder.preprocess(Image.fromarray(np.zeros((8, 8, 3), np.uint8)))
    return int(pixels.shape[1]), int(pixels.shape[2])


class _ImageTower(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Tensor) -> Tensor:
        return self.model.encode_image(batch)  # type: ignore[operator]  # open_clip's method


class _TextTower(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Tensor) -> Tensor:
        return self.model.encode_text(batch)  # type: ignore[operator]  # open_clip's method
