"""How the numerical kernels of this package are compiled and run."""

import functools
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import torch
from numba.core import caching, config

from conceptry.models.downloads import cache_directory

_NUMBA: Any = config  # its settings are made while it is imported, which no type checker sees
_LOCATOR: Any = getattr(caching, "UserProvidedCacheLocator", None) or caching._UserProvidedCacheLocator  # type: ignore

# The GIL is released, so that threads can share the rows. numba's own threads are not used: its default
# thread pool aborts the process when two threads enter it. Reassociation lets sums be vectorised; the
# fast-math flags that give up NaN and infinity are left out.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
WITHOUT_WRAPPERS: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
ROWS_PER_THREAD = 16  # fewer are not worth a thread


def compiled(function):
    """numba.njit, cached in the user's cache folder where that can be written.

    numba would write beside the source, which in a registered version is the sealed artifact. A folder that the user
    has set (NUMBA_CACHE_DIR) is kept. The cache notices changes of the file that defines the kernel only: a kernel and
    the helpers it calls therefore stay in one file.
    """
    try:
        directory = Path(_NUMBA.CACHE_DIR or cache_directory() / "numba")
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except (OSError, RuntimeError):  # not writable; no home
        return numba.njit(**OPTIONS)(function)
    with _cached_below(directory, function.__module__):
        return numba.njit(cache=True, **OPTIONS)(function)


@contextmanager
def _cached_below(directory: Path, module: str) -> Iterator[None]:
    """Cache kernels decorated in the block in `directory`, in a folder by their module and the content of its file.

    numba would take one by the path of the file, and compile for seconds whatever version is loaded for the first time,
    though most carry the same code. A cached kernel imports its module by name, so versions between which the module
    has moved share none. What numba reads is global, once for each decoration, so it is set for the block only.
    """
    configured = _NUMBA.CACHE_DIR
    _NUMBA.CACHE_DIR = str(directory)
    _LOCATOR.get_suitable_cache_subpath = staticmethod(functools.partial(_folder_name, module))
    try:
        yield
    finally:
        del _LOCATOR.get_suitable_cache_subpath  # which uncovers numba's own
        _NUMBA.CACHE_DIR = configured


def _folder_name(module: str, file: str) -> str:
    """The name of a Python file, and a digest of its module's name and its content."""
    path = Path(file)
    return f"{path.stem}_{hashlib.sha256(module.encode() + path.read_bytes()).hexdigest()[:32]}"


def helper(function):
    """numba.njit for what only kernels call: compiled as part of them, without the wrappers that Python would need."""
    return numba.njit(**OPTIONS, **WITHOUT_WRAPPERS)(function)


def over_rows(function: Callable[[slice], None], n_rows: int) -> None:
    """Call `function` with slices that cover n_rows, in as many threads as torch may use."""
    n_threads = min(torch.get_num_threads(), n_rows // ROWS_PER_THREAD)
    if n_threads <= 1:
        function(slice(0, n_rows))
        return
    edges = [n_rows * i // n_threads for i in range(n_threads + 1)]
    with ThreadPoolExecutor(n_threads) as threads:
        list(threads.map(lambda i: function(slice(edges[i], edges[i + 1])), range(n_threads)))
