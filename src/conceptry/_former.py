"""Former names of modules, and of what is in them: they go on for one release, with a DeprecationWarning."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES = {
    "conceptry.models.milan.exemplar_settings": "conceptry.models.milan.settings",
    "conceptry.models.milan.sources": "conceptry.models.milan.exemplars.sources",
    "conceptry.models.milan.torch_source": "conceptry.models.milan.exemplars.sources",
    "conceptry.models.milan.clip_dissect": "conceptry.models.milan.baselines.clip_dissect",
    "conceptry.models.explained.checkpoint": "conceptry.models.explained.checkpoints",
    "conceptry.models.splice.loaders": "conceptry.models.splice.original",
    "conceptry.models.splice.solve": "conceptry.models.splice.decomposition",
}
NAMES = {
    "conceptry.evaluation.cli": {"cli": "conceptry.evaluation.cli.app:cli"},
    "conceptry.evaluation.data": {
        "Picture": "conceptry.evaluation.splice.data:AnnotatedImage",
        "PictureData": "conceptry.evaluation.splice.data:ImageData",
        "load_data": "conceptry.evaluation.splice.data:load_images",
    },
}


def name_of(module: str, name: str) -> Any:
    """What `name` of `module` stands for; made for `__getattr__` of that module."""
    place = NAMES[module].get(name)
    if place is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    _warn(f"{module}.{name}", place.replace(":", "."))
    target, _, attribute = place.partition(":")
    return getattr(importlib.import_module(target), attribute)


class Former(MetaPathFinder, Loader):
    """Finds the modules of MODULES, which are the others by another name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        _warn(spec.name, MODULES[spec.name])
        module = importlib.import_module(MODULES[spec.name])
        spec.loader_state = module.__spec__  # importing puts another in its place
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def install() -> None:
    if not any(isinstance(finder, Former) for finder in sys.meta_path):
        sys.meta_path.append(Former())


def _warn(former: str, name: str) -> None:
    warnings.warn(
        f"{former} is {name} now, and the former name will be removed in the next release", DeprecationWarning, 4
    )
