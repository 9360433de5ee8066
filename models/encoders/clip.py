"""Any open_clip model as a dual encoder: by architecture and pretrained tag, by checkpoint, or from a folder."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from conceptry.models.encoders.processing import (
    CONFIG,
    PREPROCESSING,
    Processing,
    check_texts,
    hugging_face_tokenizer,
    read_config,
    read_processing,
)
from conceptry.models.encoders.weights import BIG_VISION, build_model, read_weights
from conceptry.models.errors import ConceptryError, InputError, closest
from conceptry.models.explained.checkpoints import Undrawn
from conceptry.models.folders import temporary_folder
from conceptry.models.manifest import write_json

WEIGHTS = "open_clip_model.safetensors"


class PreprocessingWarning(UserWarning):
    """Which pixels weights take is not known for certain."""


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
    if not (directory / WEIGHTS).is_file():
        raise InputError(f"{directory}: holds no {WEIGHTS}; expected a folder in open_clip's local-dir layout")
    processing = read_processing(directory)
    with Undrawn():
        model = build_model(read_config(directory)["model_cfg"], str(directory / CONFIG))
    read_weights(model, directory / WEIGHTS, name)
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
    config = architecture_config(architecture)
    _check_pretrained(architecture, pretrained)
    tokenizer = _tokenizer(architecture, config)  # before gigabytes of weights are downloaded
    name = f"open_clip:{architecture}@{pretrained}"
    # Weights of the openai tags were trained with QuickGELU; open_clip only warns when the two disagree.
    tag = open_clip.get_pretrained_cfg(architecture, pretrained) or _published(architecture)
    quick_gelu = bool(tag.get("quick_gelu"))
    if quick_gelu:
        config["quick_gelu"] = True
    if pretrained not in open_clip.list_pretrained_tags_by_model(architecture):
        from open_clip.transform import PreprocessCfg

        # Nothing holds what open_clip reads of big_vision against all that the model has.
        with nullcontext() if Path(pretrained).suffix in BIG_VISION else Undrawn():
            model = build_model(config, f"open_clip:{architecture}")
        read_weights(model, Path(pretrained), f"open_clip:{architecture}")
        size: Any = model.visual.image_size  # type: ignore[union-attr]  # of open_clip's towers
        preprocess = asdict(PreprocessCfg(size)) | {key: tag[key] for key in PREPROCESSING if key in tag}
        return OpenClipEncoder(name, model, _stored_processing(config, preprocess, tokenizer), device)
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
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ConceptryError(f"{name} cannot be downloaded or read: {reason}") from None
    return OpenClipEncoder(name, model, _stored_processing(config, _preprocess_of(model), tokenizer), device)


def _published(architecture: str) -> dict[str, Any]:
    """What all published weights of an architecture agree on, for weights of a file, which do not say it.

    A warning says where they take pixels in several ways: open_clip's usual one is not that of all then.
    """
    import open_clip

    tags = {
        tag: open_clip.get_pretrained_cfg(architecture, tag)
        for tag in open_clip.list_pretrained_tags_by_model(architecture)
    }
    if not tags:
        return {}
    first, *others = tags.values()
    shared = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    if differing := [key for key in PREPROCESSING if key not in shared and any(key in tag for tag in tags.values())]:
        warnings.warn(
            f"open_clip:{architecture}: published weights differ in {' and '.join(differing)} of their pixels, and a "
            "file of weights does not say which are its own: open_clip's usual ones are taken; for others, write a "
            f"folder in open_clip's local-dir layout, whose {CONFIG} names them",
            PreprocessingWarning,
            stacklevel=4,
        )
    return shared


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
    config = architecture_config(architecture)
    tokenizer = _tokenizer(architecture, config)
    if not isinstance(model, (open_clip.CLIP, open_clip.CustomTextCLIP)):
        raise InputError(
            f"expected a model of open_clip, as open_clip.create_model makes it, got {type(model).__name__}"
        )
    with torch.device("meta"):  # shapes alone: no weights are made up
        reference = build_model(config, f"open_clip:{architecture}")
    expected = {key: value.shape for key, value in reference.state_dict().items()}
    got = {key: value.shape for key, value in model.state_dict().items()}
    if differing := sorted(key for key in {*expected, *got} if expected.get(key) != got.get(key)):
        more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise InputError(f"the model is no open_clip {architecture}: its weights differ in {differing[0]}{more}")
    if any(type(part).__name__ == "QuickGELU" for part in model.modules()):
        config["quick_gelu"] = True
    device = next(model.parameters()).device
    return OpenClipEncoder(
        name or f"own:{architecture}", model, _stored_processing(config, _preprocess_of(model), tokenizer), device
    )


def architecture_config(architecture: str) -> dict[str, Any]:
    """The configuration of one of open_clip's architectures. Raises InputError for what it or conceptry lacks."""
    import open_clip

    known = open_clip.list_models()
    if architecture not in known:
        near = ", ".join(closest(architecture, known)) or "see open_clip.list_models()"
        raise InputError(f"open_clip has no architecture {architecture!r}; near names: {near}")
    config = open_clip.get_model_config(architecture)
    assert config is not None  # it is among the known ones
    check_texts(config["text_cfg"], f"open_clip:{architecture}")
    return config


def _tokenizer(architecture: str, config: Mapping[str, Any]) -> Any:
    """The Hugging Face tokeniser of an architecture that has one, else None."""
    if not config["text_cfg"].get("hf_tokenizer_name"):
        return None
    return hugging_face_tokenizer(architecture, f"open_clip:{architecture}")


def _check_pretrained(architecture: str, pretrained: str) -> None:
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if pretrained not in tags and not Path(pretrained).is_file():
        raise InputError(
            f"open_clip:{architecture} needs @TAG or @CHECKPOINT, got {pretrained!r}, which is no file; "
            f"tags: {', '.join(tags) or 'none'}"
        )


def _preprocess_of(model: nn.Module) -> dict[str, Any]:
    return model.visual.preprocess_cfg  # type: ignore[union-attr,return-value]  # set by open_clip


def _stored_processing(config: dict, preprocess: dict[str, Any], tokenizer: Any) -> Processing:
    """The processing of a built-in architecture, by way of the files that will describe it in a version."""
    with temporary_folder("encoder") as directory:
        write_json(directory / CONFIG, {"model_cfg": config, "preprocess_cfg": preprocess})
        if tokenizer is not None:
            tokenizer.tokenizer.save_pretrained(str(directory))
        return read_processing(directory)
