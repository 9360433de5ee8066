"""Models of open_clip from a configuration, and their weights from a file in any layout that is about."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from conceptry.models.errors import InputError
from conceptry.models.explained.checkpoints import fill, read_checkpoint

BIG_VISION = (".npz", ".npy")  # suffixes of its files


def build_model(config: Mapping[str, Any], name: str) -> nn.Module:
    """A model of open_clip by its configuration, with weights of chance, as `open_clip.create_model` makes it.

    Raises InputError where it makes none; `name` is what the sentence calls the configuration.
    """
    import open_clip

    parts = {key: value for key, value in config.items() if key != "custom_text"}
    if "timm_model_name" in config["vision_cfg"]:  # else timm might download weights that are written over
        parts["vision_cfg"] = {**config["vision_cfg"], "timm_model_pretrained": False}
    kind = open_clip.CLIP
    if config.get("custom_text"):
        kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    try:
        return kind(**parts)
    except Exception as error:  # whatever a configuration of another kind runs into
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{name}: open_clip makes no model of this configuration: {reason}") from None


def read_weights(model: nn.Module, path: Path, name: str) -> None:
    """Load the checkpoint at `path` into a model of open_clip; `name` is what sentences call the model.

    Raises InputError for a file that holds other objects than tensors and numbers, and for one whose names and shapes
    are not those of the model, which are named.
    """
    if path.suffix in BIG_VISION:
        _read_big_vision(model, path, name)
        return
    found = read_checkpoint(path, model.state_dict()).state
    try:
        state = _converted(model, dict(found))
    except (KeyError, ValueError, RuntimeError, AttributeError, IndexError):
        state = found  # of another model: `fill` says how its names and shapes differ
    fill(model, state, f"{name}, {path}")


def _converted(model: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state under the names and in the shapes of this release of open_clip, as its `load_checkpoint` converts."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed

    own = model.state_dict()
    state = convert_state_dict(model, state)  # type: ignore[arg-type]  # a CLIP or CustomTextCLIP
    if "positional_embedding" in state and "positional_embedding" not in own:
        state = convert_to_custom_text_state_dict(state)
    for scalar in ("logit_scale", "logit_bias"):  # once with a dimension, once without
        if scalar in state and scalar in own and state[scalar].numel() == 1:
            state[scalar] = state[scalar].reshape(own[scalar].shape)
    if "logit_bias" in own and "logit_bias" not in state:
        state["logit_bias"] = torch.zeros_like(own["logit_bias"])
    if "text.transformer.embeddings.position_ids" not in own:  # earlier releases kept it
        state.pop("text.transformer.embeddings.position_ids", None)
    resize_pos_embed(state, model)
    resize_text_pos_embed(state, model)
    return state


def _read_big_vision(model: nn.Module, path: Path, name: str) -> None:
    from open_clip.convert import load_big_vision_weights

    try:
        load_big_vision_weights(model, str(path))  # type: ignore[arg-type]  # as above
    except Exception as error:  # arrays of other names and shapes end in many types
        raise InputError(
            f"{name}, {path}: holds no weights of big_vision for this model ({type(error).__name__})"
        ) from None
