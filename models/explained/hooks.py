"""Look into a network while it runs, and leave it as it was: evaluation mode, layers by name, hooks of one thread."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from conceptry.models.errors import InputError, closest, truncated_repr

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_always_called",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


Value = TypeVar("Value")


@dataclass
class _Found:
    """How a module was before the first of those who use it now."""

    training: list[tuple[nn.Module, bool]] = field(default_factory=list)
    parameters: list[tuple[nn.Parameter, bool, Tensor | None]] = field(default_factory=list)
    hooks: list[tuple[nn.Module, str, dict[Any, Any]]] = field(default_factory=list)
    users: int = 0


_found: WeakKeyDictionary[nn.Module, _Found] = WeakKeyDictionary()
_lock = threading.RLock()


def module_of(model: Callable[..., Any]) -> nn.Module | None:
    """The torch module behind `model`: itself, or what it offers as `module`; None for any other function."""
    if isinstance(model, nn.Module):
        return model
    module = getattr(model, "module", None)
    return module if isinstance(module, nn.Module) else None


def tracked(value: Value) -> Value:
    """A tensor that gradients can be taken through: a copy of one that was made in inference mode; else `value`.

    To be called outside of inference mode.
    """
    if isinstance(value, Tensor) and value.is_inference():
        return value.clone()  # type: ignore[return-value]  # of the same type
    return value


@contextmanager
def evaluation_mode(model: Callable[..., Any]) -> Iterator[None]:
    """Put a model in evaluation mode for the block, in which its parameters ask for no gradient.

    Afterwards every submodule's training flag and hooks, and every parameter's requires_grad and grad, are as they
    were, whatever happened. Several threads may use a model at once: the last one that leaves restores it.

    Args:
        model: a torch module, or a function that names the one behind it as its attribute `module`; another function
            is left to itself.
    """
    module = module_of(model)
    if module is None:
        yield
        return
    with _lock:
        found = _found.get(module)
        if found is None:
            found = _found[module] = _take_over(module)
        found.users += 1
    try:
        yield
    finally:
        with _lock:
            found.users -= 1
            if not found.users:
                del _found[module]
                _restore(found)


def _take_over(module: nn.Module) -> _Found:
    found = _Found()
    for part in module.modules():
        found.training.append((part, part.training))
        found.hooks += [(part, name, dict(getattr(part, name))) for name in _HOOKS]
    found.parameters = [(p, p.requires_grad, p.grad) for p in module.parameters()]
    if any(training for _, training in found.training):
        module.eval()
    for parameter, asks, _ in found.parameters:
        if asks:
            parameter.requires_grad_(False)
    return found


def _restore(found: _Found) -> None:
    for part, training in found.training:
        part.training = training
    for parameter, asks, gradient in found.parameters:
        if parameter.requires_grad != asks:
            parameter.requires_grad_(asks)
        parameter.grad = gradient
    for part, name, hooks in found.hooks:
        now = getattr(part, name)
        if now.keys() != hooks.keys():
            now.clear()
            now.update(hooks)


untouched = evaluation_mode  # its former name, which was exported


@contextmanager
def forward_hooks(
    module: nn.Module, parts: Mapping[str, nn.Module], hook: Callable[[str, tuple[Any, ...], Any], Any]
) -> Iterator[None]:
    """Call `hook` in the block whenever one of `parts` has run in the thread that opened the block.

    Other threads may run the module meanwhile, and are not listened to. The module is in evaluation mode, and is left
    as it was found.

    Args:
        module: the whole network.
        parts: submodules of it, by the names that `hook` is to know them by.
        hook: called with the name, the inputs and the output of the part. What it returns takes the place of the
            output, unless it is None.
    """
    owner = threading.get_ident()

    def hook_of(name: str) -> Callable[..., Any]:
        def call(_part: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            return hook(name, inputs, output) if threading.get_ident() == owner else None

        return call

    with evaluation_mode(module), ExitStack() as handles:  # else others who use it would take the hooks away
        for name, part in parts.items():
            handles.callback(part.register_forward_hook(hook_of(name)).remove)
        yield


def find_layer(module: nn.Module, layer: str, name: str) -> nn.Module:
    """Look up the submodule of `module` called `layer`, such as "layer1.0.conv1".

    Raises InputError with near names where there is none, and where hooks of it would not be called; `name` is what the
    sentence calls the network.
    """
    layers = {path: part for path, part in module.named_modules() if path}
    if layer in layers:
        names = layer.split(".")
        for above in (module, *(layers[".".join(names[: i + 1])] for i in range(len(names)))):
            if isinstance(above, torch.jit.ScriptModule):
                raise InputError(
                    f"{name}: is scripted or traced (torch.jit) at layer {layer!r}, and such a module takes no hooks; "
                    "give the network as it was before that"
                )
        return layers[layer]
    near = closest(layer, layers, 5) or list(layers)
    raise InputError(f"{name}: has no layer {truncated_repr(layer)}; expected one such as {format_names(near)}")


def format_names(names: Sequence[str]) -> str:
    """Join the first names and say how many there are besides: "a, b, c, d, e and 7 more"."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def redraw(networks: Sequence[object], share: float, seed: int) -> int:
    """Draw the parameters of the last `share` of the layers of all networks anew, in place, by the seed.

    Layers are the modules that hold parameters of their own, in the order in which they are registered. Each parameter
    is drawn from a normal of its own mean and standard deviation, so that the network keeps its scale and any kind of
    module will do; running statistics stay. Returns how many layers were drawn: none where there is no torch module.

    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018 (cascading randomisation).
    """
    modules = [m for network in networks if isinstance(network, nn.Module) for m in network.modules()]
    layers = [[p for p in m.parameters(recurse=False) if p.is_floating_point()] for m in modules]
    layers = list(filter(None, layers))
    count = math.ceil(share * len(layers))
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), torch.no_grad():
        for parameter in (p for layer in layers[len(layers) - count :] for p in layer):
            values = parameter.detach().float().cpu()
            drawn = torch.randn(values.shape, generator=generator) * values.std(correction=0) + values.mean()
            parameter.data = drawn.to(parameter)
    return count
