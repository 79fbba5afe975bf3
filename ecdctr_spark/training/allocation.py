"""Keeps the memory that a training step frees for the next step."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's numbers (malloc.h)
_KEPT = 1 << 30  # bytes that may lie idle, at most
_MAPPED = 1 << 26  # larger blocks are mapped on their own and given back when freed: tables, not a step's tensors


def keep_freed_memory() -> None:
    """Stops glibc from returning freed memory to the system after each step, which makes the next step wait while the
    system zeroes it page by page. Does nothing with another C library."""
    with suppress(AttributeError):
        tune = ctypes.CDLL(None).mallopt
        tune(_TRIM_THRESHOLD, _KEPT)
        tune(_MMAP_THRESHOLD, _MAPPED)
