"""What becomes of the memory that a training step frees."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's numbers (malloc.h)
_KEPT = 1 << 30  # bytes at most that lie idle
_MAPPED = 1 << 26  # bytes from which on memory is mapped for itself and given back: tables, not a step's tensors


def keep_freed_memory() -> None:
    """Lets this process keep what a step frees for the next one: glibc would give it back to the system each time, and
    the next step would wait while it is zeroed, page by page. Other C libraries are left as they are."""
    with suppress(AttributeError):
        tune = ctypes.CDLL(None).mallopt
        tune(_TRIM_THRESHOLD, _KEPT)
        tune(_MMAP_THRESHOLD, _MAPPED)
