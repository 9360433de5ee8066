"""Record what layers put out, seen as units over positions: maps of channels, patches of tokens, plain features.

| output | shape | seen as (n, units, h, w) |
|---|---|---|
| maps | (n, units, h, w) | as it is |
| tokens | (n, 1 + p p, units) | token 0, of the class, is dropped; the others are the p x p patches, by rows |
| features | (n, units) | one position |
"""

import math
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from conceptry.models.errors import InputError
from conceptry.models.explained.hooks import find_layer, forward_hooks

HOOK = "transform_hiddens"


def default_hiddens(output: Any) -> Tensor:
    """The output of a layer as (n, units, h, w); see the table. Raises InputError for any other."""
    if not isinstance(output, Tensor):
        raise InputError(f"puts out {_kind(output)}, not one tensor; pass {HOOK} to choose or fold it")
    if output.ndim == 4:
        return output
    if output.ndim == 2:
        return output[:, :, None, None]
    if output.ndim == 3:
        tokens = output.shape[1] - 1
        side = math.isqrt(max(tokens, 0))
        if not side or side * side != tokens:
            raise InputError(
                f"puts out {output.shape[1]} tokens, which without the first are no square of patches; "
                f"pass {HOOK} to fold them"
            )
        return output[:, 1:].transpose(1, 2).unflatten(2, (side, side))
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
        self.outputs[layer] = _copy(output) if layer in self._overwritten else output
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

    def __init__(self, name: str, layers: Sequence[str], transform: Callable[[Any], Tensor] | None) -> None:
        self.name, self.layers, self.transform = name, tuple(layers), transform or default_hiddens
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
            hidden = self.transform(self._pass.outputs.pop(layer))
        except InputError as error:
            raise InputError(f"{where} {error}") from None
        if not isinstance(hidden, Tensor) or hidden.ndim != 4 or not hidden.is_floating_point():
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
    return sum(leaf._version for leaf in tree_leaves(output) if isinstance(leaf, Tensor))


def _copy(output: Any) -> Any:
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, output)


def _kind(output: Any) -> str:
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)}"
    return type(output).__name__


@contextmanager
def record_activations(
    module: nn.Module, layers: Sequence[str], name: str = "model", transform: Callable[[Any], Tensor] | None = None
) -> Iterator[ActivationRecorder]:
    """Record the outputs of `layers` as this thread calls `module` in the block; it is left as it was found.

    A layer that is run several times in a pass gives its last output. `name` is what sentences call the module, and
    `transform` makes (n, units, h, w) of an output; the default is `default_hiddens`.

    Raises InputError for no layers, unknown ones and repeated ones.
    """
    if not layers or len(set(layers)) != len(layers):
        raise InputError(f"{name}: expected one or more layers, each once, got {list(layers)}")
    parts = {layer: find_layer(module, layer, name) for layer in layers}
    recorder = ActivationRecorder(name, layers, transform)
    with forward_hooks(module, parts, lambda layer, _inputs, output: recorder.record(layer, output)), torch.no_grad():
        try:
            yield recorder
        finally:
            recorder.clear()
