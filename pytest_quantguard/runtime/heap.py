"""Giving memory back to the system while a model is loaded."""

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache

# malloc.h of glibc
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_SMALL = 128 << 10
_LARGE, _LARGE_TRIM = 32 << 20, 64 << 20

_LOCK = threading.Lock()
_users = 0


@contextlib.contextmanager
def returning_memory() -> Iterator[None]:
    """Have glibc give freed blocks of 128 kB and more back at once; elsewhere, do nothing.

    glibc begins so, but the first large block that is freed makes it keep the next ones for reuse. While weights
    are decoded and rearranged, blocks of ever other sizes follow each other, so the process would grow to twice
    what it holds. Afterwards blocks up to 32 MB are kept again: glibc's own upper limit, at which arrays are made
    fastest. May be nested and used from several threads at once. Someone's own limits in the environment stay.
    """
    global _users
    set_option = _mallopt()
    with _LOCK:
        _users += 1
        if _users == 1:
            set_option(_M_MMAP_THRESHOLD, _SMALL)
            set_option(_M_TRIM_THRESHOLD, _SMALL)
    try:
        yield
    finally:
        with _LOCK:
            _users -= 1
            if not _users:
                set_option(_M_MMAP_THRESHOLD, _LARGE)
                set_option(_M_TRIM_THRESHOLD, _LARGE_TRIM)


@cache
def _mallopt() -> Callable[[int, int], object]:
    """glibc's `mallopt`, or a function that does nothing."""
    own = "MALLOC_MMAP_THRESHOLD_" in os.environ or "mmap_threshold" in os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform == "linux" and not own:
        library = ctypes.CDLL(None)
        if hasattr(library, "gnu_get_libc_version"):
            function: Callable[[int, int], object] = library.mallopt
            return function
    return lambda option, value: None
