"""What a layer puts out, seen as units over positions: maps of channels, patches of tokens, plain features.

| output | shape | seen as (n, units, h, w) |
|---|---|---|
| maps | (n, units, h, w) | as it is |
| tokens | (n, 1 + p p, units) | token 0, of the class, is dropped; the others are the p x p patches, by rows |
| features | (n, units) | one position |
"""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from conceptry.models.errors import InputError
from conceptry.models.explained.hooks import find_layer, untouched

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


class Hiddens:
    """The outputs of several layers in the last forward pass; see `listening`."""

    def __init__(self, name: str, layers: Sequence[str], transform: Callable[[Any], Tensor] | None) -> None:
        self.name, self.layers, self.transform = name, tuple(layers), transform or default_hiddens
        self.raw: dict[str, tuple[Any, int]] = {}
        self.copied: set[str] = set()  # layers whose outputs are changed in place by what follows them
        self.runs: dict[str, int] = dict.fromkeys(self.layers, 0)  # in this pass
        self._stops = False
        self._look: Callable[[str], Any] | None = None
        self.once: bool | None = None  # whether each layer runs once in a pass; None until a pass was seen

    def run(self, forward: Callable[[], Any], whole: bool, look: Callable[[str], Any] | None = None) -> Any:
        """The result of `forward`, a call of the module; unless the `whole` of it is asked for, only as far as it takes
        to have seen all layers, and None.

        look: told each layer that `take` can be asked for, once. Where one pass has shown that every layer runs once,
        it is told as soon as the layer has run: what it puts out is then in the caches still, and its memory serves
        the next layer; outputs that are kept to the end make the C library ask the system for memory again and again,
        which took .3 of a small network's time. There, too, later passes stop after the last layer.
        """
        self._stops = bool(self.once) and not whole
        self._look = look if self.once else None
        while True:
            self.raw.clear()
            self.runs = dict.fromkeys(self.layers, 0)
            try:
                output = forward()
            except _Seen:
                output = None
            else:
                self.once = all(count == 1 for count in self.runs.values())
            changed = {layer for layer, (kept, version) in self.raw.items() if version != _version(kept)}
            if not changed:
                break
            self.copied |= changed  # and the pass is repeated, once
        if look:
            for layer in self.layers:
                if layer in self.raw or not self.runs[layer]:  # `take` says what is wrong with one that was not run
                    look(layer)
        return output

    def keep(self, layer: str, output: Any) -> None:
        """Take note of what a layer puts out; ends the pass where it was the last one."""
        self.runs[layer] += 1
        if self._look:
            if self.runs[layer] > 1:
                raise InputError(
                    f"{self.name}: layer {layer!r} runs once for some pictures and several times for others; "
                    "expected the same for all"
                )
            self.raw[layer] = output, 0
            self._look(layer)
        else:
            kept = _copy(output) if layer in self.copied else output
            self.raw[layer] = kept, _version(kept)
        if self._stops and all(self.runs.values()):
            raise _Seen

    def listen_to(self, layers: Sequence[str]) -> None:
        """From now on keep these layers only."""
        self.layers, self.once = tuple(layers), None

    def take(self, layer: str, batch: int) -> Tensor:
        """The output of `layer`, (n, units, h, w) with n = batch, and forgotten here.

        Raises InputError where the layer was not run, or did not put out what can be seen as units over positions.
        """
        where = f"{self.name}: layer {layer!r}"
        if layer not in self.raw:
            raise InputError(f"{where} is not run in a forward pass, so it has no activations")
        output, _ = self.raw.pop(layer)
        try:
            hidden = self.transform(output)
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


class _Seen(Exception):  # noqa: N818  # a signal, not an error
    """All layers have been run."""


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
def listening(
    module: nn.Module, layers: Sequence[str], name: str, transform: Callable[[Any], Tensor] | None = None
) -> Iterator[Hiddens]:
    """In the block, the outputs of `layers` are kept as this thread calls `module`; it is left as it was found.

    A layer that is run several times in a pass gives its last output. Raises InputError for no layers, unknown ones
    and repeated ones.
    """
    if not layers or len(set(layers)) != len(layers):
        raise InputError(f"{name}: expected one or more layers, each once, got {list(layers)}")
    found = [(layer, find_layer(module, layer, name)) for layer in layers]
    owner = threading.get_ident()
    hiddens = Hiddens(name, layers, transform)

    def listener(layer: str) -> Callable[..., None]:
        def listen(_module: nn.Module, _arguments: Any, output: Any) -> None:
            if threading.get_ident() == owner and layer in hiddens.layers:
                hiddens.keep(layer, output)

        return listen

    with untouched(module), torch.no_grad():
        handles = [part.register_forward_hook(listener(layer)) for layer, part in found]
        try:
            yield hiddens
        finally:
            for handle in handles:
                handle.remove()
            hiddens.raw.clear()
