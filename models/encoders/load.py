"""From the name of an encoder to the encoder.

| name | what |
|---|---|
| `zoo:emoji-clip` | the small encoder that ships with conceptry, of the scenes it draws |
| `zoo:photos` | photographs: a classifier of ImageNet with vectors of words (the extra `photos`; see `conse`) |
| `conse:FOLDER` | the same from a folder that `conceptry train photos` wrote |
| `textunlock:FOLDER` | any image classifier, from a folder of `conceptry train photos --images` (see `text_unlock`) |
| `open_clip:ARCH@TAG` | an open_clip model with published weights (downloaded by open_clip) |
| `open_clip:ARCH@FILE` | the same architecture with a local checkpoint |
| `open_clip:local-dir:FOLDER` | a folder with configuration and safetensors, as `conceptry train encoder` writes it |
| `onnx:FOLDER` | a folder with both towers as ONNX |
| `clip:ViT-B/32`, `clip:ViT-B/16`, `clip:RN50` | the weights of OpenAI, by open_clip |
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from conceptry.models.errors import InputError
from conceptry.models.manifest import read_json, write_json

if TYPE_CHECKING:  # options name what is here, and `--help` imports no torch
    import torch

    from conceptry.models.encoders.protocol import PackagedEncoder

DESCRIPTION = "encoder.json"
RUNTIMES = ("torch", "onnx")
SCHEMES = (
    "zoo:NAME",
    "open_clip:ARCH@TAG",
    "open_clip:ARCH@FILE",
    "open_clip:local-dir:FOLDER",
    "conse:FOLDER",
    "textunlock:FOLDER",
    "onnx:FOLDER",
)
# The names that users of the published implementation of SpLiCE know.
ALIASES = {
    "open_clip:ViT-B-32": "open_clip:ViT-B-32@laion2b_s34b_b79k",
    "clip:ViT-B/32": "open_clip:ViT-B-32@openai",
    "clip:ViT-B/16": "open_clip:ViT-B-16@openai",
    "clip:RN50": "open_clip:RN50@openai",
}


def load_encoder(
    name: str, device: str | torch.device = "auto", *, download_root: str | Path | None = None
) -> PackagedEncoder:
    """The encoder called `name` (see the table above), on `device`. Raises InputError for an unknown scheme.

    `download_root`: the folder for downloaded weights, instead of open_clip's own cache.
    """
    from conceptry.models.devices import resolve_device

    name, device = ALIASES.get(name, name), resolve_device(str(device))
    scheme, _, rest = name.partition(":")
    if not rest or scheme not in ("zoo", "open_clip", "conse", "textunlock", "onnx"):
        raise InputError(f"unknown encoder {name!r}; expected one of {', '.join((*SCHEMES, *ALIASES))}")
    if scheme == "onnx":
        from conceptry.models.encoders.onnx_runtime import OnnxEncoder

        return OnnxEncoder(name, Path(rest), device)
    from conceptry.models.encoders.conse import read_conse

    if scheme == "conse":
        return read_conse(Path(rest), name, device)
    if scheme == "textunlock":
        from conceptry.models.encoders.text_unlock import load_text_unlock

        return load_text_unlock(Path(rest), name, device)
    if scheme == "zoo":
        from conceptry.models.shipped import weights_directory

        return _read_torch(weights_directory(rest), name, device)
    from conceptry.models.encoders.clip import load_open_clip

    return load_open_clip(rest, device, download_root)


def save_encoder(encoder: PackagedEncoder, directory: Path, runtime: str) -> None:
    """Write an encoder for a package folder, exported to ONNX where `runtime` is "onnx" and it is not yet."""
    if runtime not in RUNTIMES:
        raise InputError(f"runtime must be one of {', '.join(RUNTIMES)}, got {runtime!r}")
    directory.mkdir(parents=True)
    if runtime == encoder.runtime:
        encoder.save(directory)
    elif runtime == "onnx":
        from conceptry.models.encoders.clip import OpenClipEncoder
        from conceptry.models.encoders.conse import ConseEncoder
        from conceptry.models.encoders.onnx_runtime import export_onnx

        assert isinstance(encoder, OpenClipEncoder | ConseEncoder)
        export_onnx(encoder, directory)
    else:
        raise InputError(f"{encoder.name} consists of ONNX files; register it with runtime onnx")
    write_json(directory / DESCRIPTION, {"name": encoder.name, "runtime": runtime})


def read_encoder(directory: Path, device: torch.device) -> PackagedEncoder:
    """The encoder that `save_encoder` wrote."""
    description = read_json(directory / DESCRIPTION)
    if description["runtime"] == "onnx":
        from conceptry.models.encoders.onnx_runtime import OnnxEncoder

        return OnnxEncoder(description["name"], directory, device)
    return _read_torch(directory, description["name"], device)


def _read_torch(directory: Path, name: str, device: torch.device) -> PackagedEncoder:
    from conceptry.models.encoders.conse import is_conse, read_conse
    from conceptry.models.encoders.text_unlock import has_map, read_text_unlock

    if has_map(directory):
        return read_text_unlock(directory, name, device)
    if is_conse(directory):
        return read_conse(directory, name, device)
    from conceptry.models.encoders.clip import read_open_clip

    return read_open_clip(directory, name, device)
