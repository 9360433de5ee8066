"""What a process does with memory that is freed: the C library, and Python's collector of cycles."""

import atexit
import ctypes
import gc
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of the options of mallopt, in malloc.h
_KEPT = 2**31 - 1
_LARGEST = (2**30, 2**25)  # older versions take no more than the second


def keep_freed_memory() -> None:
    """Have glibc keep what this process frees, for what it asks next; other C libraries are left alone.

    By default glibc hands the larger maps of a network's layers back to the system after each pass, and the system
    clears them page by page for the next one, up to half of the time of a network on a CPU. It is a choice for a whole
    process, so commands make it and the library does not.
    """
    with suppress(AttributeError, OSError, TypeError):  # no such function, or no such library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, _KEPT)
        any(mallopt(_MMAP_THRESHOLD, size) for size in _LARGEST)


def collect_rarely() -> None:
    """Look for cycles of garbage once in 100,000 new objects instead of 700, and not at all when the process ends.

    The libraries of a command are a million objects that stay: going through them again and again is a quarter of the
    time that importing them takes, and going through them at the end is another. A choice for a whole process, too.
    """
    gc.set_threshold(100_000, 10, 10)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
