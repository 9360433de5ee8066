"""The four methods, the encoders and models that they explain, and the zoo of small networks; see the subpackages.

Their public names are in `api.py` of each and are imported when they are first asked for: options and `--help` live in
the same packages as the algorithms, and importing torch for them would take seconds.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def lazy_face(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of `package`, whose public names are those of its module `api`."""

    def get(name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if name != "__all__" and find_spec(f"{package}.{name}"):
            return import_module(f"{package}.{name}")
        api = import_module(f"{package}.api")
        if name != "__all__" and name not in api.__all__:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(api, name)
        setattr(sys.modules[package], name, value)  # asked for once
        return value

    return get, lambda: sorted(import_module(f"{package}.api").__all__)
