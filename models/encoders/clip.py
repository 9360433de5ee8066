"""Any open_clip model as a dual encoder: by architecture and pretrained tag, by checkpoint, or from a folder."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from conceptry.models.encoders.processing import CONFIG, Processing, read_processing
from conceptry.models.errors import ConceptryError, InputError, closest
from conceptry.models.manifest import write_json

WEIGHTS = "open_clip_model.safetensors"


class OpenClipEncoder(nn.Module):
    """An open_clip model with its preprocessing and tokeniser.

    `preprocess` takes an RGB picture; `encode_image` pixels (n, 3, height, width); `encode_text` n strings, or their
    tokens (n, context). Both return float32 embeddings (n, d) as the network gives them, not normalised.
    """

    runtime = "torch"

    def __init__(self, name: str, model: nn.Module, processing: Processing, device: torch.device) -> None:
        super().__init__()
        self.name = name
        self.model = model.eval().requires_grad_(False).to(device)
        self.processing = processing

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return next(self.model.parameters()).device

    def preprocess(self, image: Image.Image) -> Tensor:
        return self.processing.preprocess(image)

    def tokenize(self, texts: str | Sequence[str]) -> Tensor:
        return self.processing.tokenize([texts] if isinstance(texts, str) else list(texts))

    @torch.inference_mode()
    def encode_image(self, pixels: Tensor) -> Tensor:
        return self.model.encode_image(pixels.to(self.device)).float()  # type: ignore[operator]  # open_clip's method

    @torch.inference_mode()
    def encode_text(self, texts: str | Sequence[str] | Tensor) -> Tensor:
        tokens = texts if isinstance(texts, Tensor) else self.tokenize(texts)
        return self.model.encode_text(tokens.to(self.device)).float()  # type: ignore[operator]  # as above

    def save(self, directory: Path) -> None:
        """Write the folder that open_clip's `local-dir:` schema and `read_open_clip` read."""
        from safetensors.torch import save_file

        self.processing.save(directory)
        state = {name: tensor.contiguous().cpu() for name, tensor in self.model.state_dict().items()}
        save_file(state, str(directory / WEIGHTS))


def read_open_clip(directory: Path, name: str, device: torch.device) -> OpenClipEncoder:
    """Read an encoder from a folder in the `local-dir` layout (configuration + safetensors)."""
    import open_clip

    if not (directory / WEIGHTS).is_file():
        raise InputError(f"{directory}: holds no {WEIGHTS}; expected a folder in open_clip's local-dir layout")
    processing = read_processing(directory)
    model = open_clip.create_model(f"local-dir:{directory}", require_pretrained=True, weights_only=True)
    return OpenClipEncoder(name, model, processing, device)


def load_open_clip(identifier: str, device: torch.device, download_root: str | Path | None = None) -> OpenClipEncoder:
    """Load `ARCH@TAG`, `ARCH@CHECKPOINT` or `local-dir:FOLDER`; "ViT-B/32" is read as "ViT-B-32".

    A tag is downloaded by open_clip into `download_root`, or else its own cache; a checkpoint is a .safetensors file
    or a .pt file that `torch.load(weights_only=True)` accepts. Raises InputError for unknown names, listing near ones.
    """
    import open_clip

    if identifier.startswith("local-dir:"):
        return read_open_clip(Path(identifier.removeprefix("local-dir:")), f"open_clip:{identifier}", device)
    architecture, _, pretrained = identifier.partition("@")
    architecture = architecture.replace("/", "-")
    config = _architecture_config(architecture)
    _check_pretrained(architecture, pretrained)
    # Weights of the openai tags were trained with QuickGELU; open_clip only warns when the two disagree.
    tag = open_clip.get_pretrained_cfg(architecture, pretrained)
    quick_gelu = bool(tag.get("quick_gelu"))
    try:
        model = open_clip.create_model(
            architecture,
            pretrained,
            force_quick_gelu=quick_gelu,
            cache_dir=None if download_root is None else str(download_root),
            require_pretrained=True,
            weights_only=True,
        )
    except Exception as error:  # network, file format and shape errors come as a dozen types
        where = "cannot be downloaded or read" if tag else "is not a checkpoint of this architecture"
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ConceptryError(f"open_clip:{architecture}@{pretrained} {where}: {reason}") from None
    if quick_gelu:
        config["quick_gelu"] = True
    name = f"open_clip:{architecture}@{pretrained}"
    return OpenClipEncoder(name, model, _stored_processing(architecture, config, model), device)


def wrap_open_clip(model: nn.Module, architecture: str, name: str | None = None) -> OpenClipEncoder:
    """An open_clip model made in Python as an encoder that a version can carry.

    Args:
        model: what `open_clip.create_model` returned, on any device, trained further or not; it is set to evaluation
            and its parameters are frozen.
        architecture: the name that it was created by, such as "ViT-B-32" or "RN50-quickgelu".
        name: how versions name the encoder; by default "own:ARCHITECTURE".

    Raises:
        InputError: where open_clip has no such architecture, and where the weights are not of it.
    """
    import open_clip

    architecture = architecture.replace("/", "-")
    config = _architecture_config(architecture)
    if not isinstance(model, (open_clip.CLIP, open_clip.CustomTextCLIP)):
        raise InputError(
            f"expected a model of open_clip, as open_clip.create_model makes it, got {type(model).__name__}"
        )
    with torch.device("meta"):  # shapes alone: no weights are made up
        reference = type(model)(**{key: value for key, value in config.items() if key != "custom_text"})
    expected = {key: value.shape for key, value in reference.state_dict().items()}
    got = {key: value.shape for key, value in model.state_dict().items()}
    if differing := sorted(key for key in {*expected, *got} if expected.get(key) != got.get(key)):
        more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise InputError(f"the model is no open_clip {architecture}: its weights differ in {differing[0]}{more}")
    if any(type(part).__name__ == "QuickGELU" for part in model.modules()):
        config["quick_gelu"] = True
    device = next(model.parameters()).device
    return OpenClipEncoder(
        name or f"own:{architecture}", model, _stored_processing(architecture, config, model), device
    )


def _architecture_config(architecture: str) -> dict[str, Any]:
    """The configuration of one of open_clip's architectures. Raises InputError for what it or conceptry lacks."""
    import open_clip

    known = open_clip.list_models()
    if architecture not in known:
        near = ", ".join(closest(architecture, known)) or "see open_clip.list_models()"
        raise InputError(f"open_clip has no architecture {architecture!r}; near names: {near}")
    config = open_clip.get_model_config(architecture)
    assert config is not None  # it is among the known ones
    if "hf_model_name" in config["text_cfg"]:
        raise InputError(f"open_clip:{architecture} has a Hugging Face text tower, which is not supported")
    return config


def _check_pretrained(architecture: str, pretrained: str) -> None:
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if pretrained not in tags and not Path(pretrained).is_file():
        raise InputError(
            f"open_clip:{architecture} needs @TAG or @CHECKPOINT, got {pretrained!r}, which is no file; "
            f"tags: {', '.join(tags) or 'none'}"
        )


def _stored_processing(architecture: str, config: dict, model: nn.Module) -> Processing:
    """The processing of a built-in architecture, by way of the files that will describe it in a version."""
    import open_clip

    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        write_json(directory / CONFIG, {"model_cfg": config, "preprocess_cfg": model.visual.preprocess_cfg})  # type: ignore[union-attr]  # set by open_clip
        if "hf_tokenizer_name" in config["text_cfg"]:
            tokenizer: Any = open_clip.get_tokenizer(architecture)  # an HFTokenizer, as the configuration says
            tokenizer.tokenizer.save_pretrained(folder)
        return read_processing(directory)
