"""Record what layers put out, seen as units over positions: maps of channels, patches of tokens, plain features.

| output | shape | seen as (n, units, h, w) |
|---|---|---|
| maps | (n, units, h, w) | as it is |
| maps, channels last | (n, h, w, units) | turned |
| tokens | (n, r + p p, units) | the first r are dropped; the others are the p x p patches, by rows |
| features | (n, units) | one position |

r is 1, the token of the class, where the network does not say otherwise: transformers of timm do, as num_prefix_tokens
(registers; no token of the class). Channels come last where a layer works on the last axis, as linear ones and
normalisations over it do. Elsewhere, maps of one height and depth, (n, 7, 7, 768), are refused until somebody says
which axis the units are.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from conceptry.models.errors import InputError
from conceptry.models.explained.hooks import find_layer, forward_hooks
from conceptry.models.milan.settings import CHANNELS

HOOK = "transform_hiddens"
FIRST, LAST = CHANNELS


@dataclass(frozen=True)
class Form:
    """How the output of one layer is seen. channels: which axis of maps the units are, None where it is not known.

    prefix: how many tokens come before those of patches.
    """

    channels: str | None = None
    prefix: int = 1


def form_of(module: nn.Module, layer: str, channels: str | None = None) -> Form:
    """The form of a layer of `module`; channels: what the user says of it, first or last."""
    part = module.get_submodule(layer)
    # Not kinds of LayerNorm: those for maps turn them.
    is_norm = type(part) is nn.LayerNorm and len(part.normalized_shape) == 1
    if channels is None and (isinstance(part, nn.Linear) or is_norm):
        channels = LAST
    names, prefix = layer.split("."), 1
    for above in (module.get_submodule(".".join(names[:i])) for i in range(len(names))):
        found = getattr(above, "num_prefix_tokens", None)
        prefix = found if isinstance(found, int) else prefix
    return Form(channels, prefix)


def default_hiddens(output: Any, form: Form = Form()) -> Tensor:  # immutable
    """The output of a layer as (n, units, h, w); see the table. Raises InputError for any other."""
    if not isinstance(output, Tensor):
        raise InputError(f"puts out {_kind(output)}, not one tensor; pass {HOOK} to choose or fold it")
    if output.ndim == 4:
        if form.channels == LAST:
            return output.permute(0, 3, 1, 2)
        if form.channels is None and output.shape[1] == output.shape[2] != output.shape[3]:
            raise InputError(
                f"puts out shape {tuple(output.shape)}, whose units may be the last axis as in Swin and ConvNeXt; say "
                f"which by channels={LAST!r} or {FIRST!r} (--channels), or fold it by {HOOK}"
            )
        return output
    if output.ndim == 2:
        return output[:, :, None, None]
    if output.ndim == 3:
        tokens = output.shape[1] - form.prefix
        side = math.isqrt(max(tokens, 0))
        if not side or side * side != tokens:
            raise InputError(
                f"puts out {output.shape[1]} tokens, which without the first {_times(form.prefix)}are no square of "
                f"patches; pass {HOOK} to fold them"
            )
        return output[:, form.prefix :].transpose(1, 2).unflatten(2, (side, side))
    raise InputError(
        f"puts out shape {tuple(output.shape)}; expected maps (n, units, h, w), tokens (n, 1 + patches, units) or "
        f"features (n, units), or {HOOK}"
    )


class _Probe:
    """Records one pass to its end: how often each layer runs, and what each puts out last.

    overwritten: layers whose outputs are known to be changed in place by what follows them, which are copied.
    stop: end the pass as soon as all layers have run.
    """

    def __init__(self, layers: Sequence[str], overwritten: Set[str] = frozenset(), stop: bool = False) -> None:
        self.outputs: dict[str, Any] = {}
        self._counts = dict.fromkeys(layers, 0)
        self._overwritten, self._stop = overwritten, stop
        self._versions: dict[str, int] = {}

    def record(self, layer: str, output: Any) -> None:
        self._counts[layer] += 1
        self.outputs[layer] = _copy(output) if layer in self._overwritten or _is_untracked(output) else output
        self._versions[layer] = _version(self.outputs[layer])
        if self._stop and all(self._counts.values()):
            raise _StopForward

    def all_run_once(self) -> bool:
        return all(count == 1 for count in self._counts.values())

    def overwritten(self) -> set[str]:
        """The layers whose outputs were changed in place after they had been recorded."""
        return {layer for layer, output in self.outputs.items() if self._versions[layer] != _version(output)}


class _Stream:
    """Hands on, in one pass, what each layer puts out, as soon as it has run; each may run once.

    stop: end the pass as soon as all layers have run.
    """

    def __init__(self, name: str, layers: Sequence[str], on_layer: Callable[[str], Any], stop: bool) -> None:
        self.outputs: dict[str, Any] = {}
        self.waiting = dict.fromkeys(layers)  # layers that have not run, in order
        self._name, self._on_layer, self._stop = name, on_layer, stop

    def record(self, layer: str, output: Any) -> None:
        if layer not in self.waiting:
            raise InputError(
                f"{self._name}: layer {layer!r} runs once for some pictures and several times for others; "
                "expected the same for all"
            )
        del self.waiting[layer]
        self.outputs[layer] = output
        self._on_layer(layer)
        if self._stop and not self.waiting:
            raise _StopForward


class ActivationRecorder:
    """The outputs of several layers in the most recent forward pass; `record_activations` makes it.

    The first pass is probed: only when it is over is it known whether each layer runs once, and whether what follows a
    layer changes its output in place; such a pass is repeated, and from then on a copy is kept. Where every layer has
    run once, later passes are streamed: a layer is announced as soon as it has run, when its output is in the caches
    still and not changed yet, and the memory of the output then serves the next layer. Outputs that are kept to the
    end make the C library ask the system for memory again and again, which took .3 of a small network's time.
    """

    def __init__(
        self, name: str, layers: Sequence[str], transforms: Mapping[str, Callable[[Any], Tensor]] | None = None
    ) -> None:
        self.name, self.layers, self.transforms = name, tuple(layers), transforms or {}
        self._run_once = False  # whether each layer ran once in the pass before
        self._overwritten: set[str] = set()
        self._pass: _Probe | _Stream = _Probe(self.layers)

    def run(
        self, forward: Callable[[], Any], *, on_layer: Callable[[str], Any] | None = None, stop_early: bool = False
    ) -> Any:
        """Record a pass.

        Args:
            forward: calls the module; it is called again where the pass has to be repeated.
            on_layer: called with each layer, once, when `take` can be asked for it: at the end of the pass at the
                latest.
            stop_early: whether the pass may end after the last of the layers, where it is known which that is.

        Returns:
            The result of `forward`, or None where the pass ended early.
        """
        if not (on_layer and self._run_once):
            output = self._probe(forward, stop=stop_early and self._run_once)
            announced = self.layers if on_layer else ()
        else:
            stream = self._pass = _Stream(self.name, self.layers, on_layer, stop=stop_early)
            output = _until_stopped(forward)
            self._run_once = not stream.waiting
            announced = tuple(stream.waiting)  # `take` says what is wrong with those
        for layer in announced:
            assert on_layer is not None
            on_layer(layer)
        return output

    def _probe(self, forward: Callable[[], Any], stop: bool) -> Any:
        while True:
            probe = self._pass = _Probe(self.layers, self._overwritten, stop)
            output = _until_stopped(forward)
            self._run_once = probe.all_run_once()
            changed = probe.overwritten()
            if not changed:
                return output
            self._overwritten |= changed

    def record(self, layer: str, output: Any) -> None:
        """Take note of what a layer has put out; ends the pass where no other layer is waited for."""
        if layer in self.layers:
            self._pass.record(layer, output)

    def restrict_to(self, layers: Sequence[str]) -> None:
        """Record these of the layers only from now on."""
        self.layers, self._run_once = tuple(layers), False
        self.clear()

    def clear(self) -> None:
        """Forget what was recorded."""
        self._pass = _Probe(self.layers)

    def take(self, layer: str, batch: int) -> Tensor:
        """Hand over the output of `layer`, (n, units, h, w) with n = batch, which is not kept here any longer.

        Raises InputError where the layer was not run, or did not put out what can be seen as units over positions.
        """
        where = f"{self.name}: layer {layer!r}"
        if layer not in self._pass.outputs:
            raise InputError(f"{where} is not run in a forward pass, so it has no activations")
        try:
            hidden = self.transforms.get(layer, default_hiddens)(self._pass.outputs.pop(layer))
        except InputError as error:
            raise InputError(f"{where} {error}") from None
        if isinstance(hidden, Tensor) and hidden.is_quantized:
            hidden = hidden.dequantize()
        if isinstance(hidden, Tensor) and hidden.ndim == 4 and not hidden.is_floating_point():
            kind = str(hidden.dtype).removeprefix("torch.")
            raise InputError(
                f"{where}: expected real activations, got {kind}; pass {HOOK} to make them such, e.g. by .float()"
            )
        if not isinstance(hidden, Tensor) or hidden.ndim != 4:
            got = tuple(hidden.shape) if isinstance(hidden, Tensor) else type(hidden).__name__
            raise InputError(f"{where}: expected real activations (n, units, h, w), got {got}")
        if len(hidden) != batch or 0 in hidden.shape:
            raise InputError(
                f"{where} gives activations {tuple(hidden.shape)} for {batch} pictures, "
                f"expected ({batch}, units, h, w); pass {HOOK} where the batch is another axis"
            )
        return hidden.detach()


class _StopForward(Exception):  # noqa: N818  # a signal, not an error
    """All layers have been run."""


def _until_stopped(forward: Callable[[], Any]) -> Any:
    try:
        return forward()
    except _StopForward:
        return None


def _version(output: Any) -> int:
    """A number that grows when a tensor in `output` is changed in place."""
    tensors = (leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
    return sum(leaf._version for leaf in tensors if not leaf.is_inference())


def _is_untracked(output: Any) -> bool:
    """Whether nobody counts the changes of a tensor in `output`, as of those made in inference mode."""
    return any(leaf.is_inference() for leaf in tree_leaves(output) if isinstance(leaf, Tensor))


def _copy(output: Any) -> Any:
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, output)


def _times(prefix: int) -> str:
    return "" if prefix == 1 else f"{prefix} "


def _kind(output: Any) -> str:
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)}"
    return type(output).__name__


@contextmanager
def record_activations(
    module: nn.Module,
    layers: Sequence[str],
    name: str = "model",
    transform: Callable[[Any], Tensor] | None = None,
    channels: str | None = None,
) -> Iterator[ActivationRecorder]:
    """Record the outputs of `layers` as this thread calls `module` in the block; it is left as it was found.

    A layer that is run several times in a pass gives its last output. `name` is what sentences call the module, and
    `transform` makes (n, units, h, w) of an output; the default is `default_hiddens`, with what is known of the layer
    (`form_of`) and said by `channels`.

    Raises InputError for no layers, unknown ones and repeated ones.
    """
    if not layers or len(set(layers)) != len(layers):
        raise InputError(f"{name}: expected one or more layers, each once, got {list(layers)}")
    parts = {layer: find_layer(module, layer, name) for layer in layers}
    transforms = {
        layer: transform or partial(default_hiddens, form=form_of(module, layer, channels)) for layer in layers
    }
    recorder = ActivationRecorder(name, layers, transforms)
    with (
        forward_hooks(module, parts, lambda layer, _inputs, output: recorder.record(layer, output)),
        torch.no_grad(),
    ):
        try:
            yield recorder
        finally:
            recorder.clear()
