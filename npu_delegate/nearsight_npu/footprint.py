"""What this process fills of the machine's memory, and how it gives back what it no longer needs."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def resident_bytes() -> int | None:
    """Give the memory that this process fills just now, or None where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def release() -> None:
    """Give memory that was freed back to the system.

    glibc keeps it for later: of a graph of 351 MB, 245 MB more after its load and 370 MB after its end. This returns
    all of it, in 1 ms for small graphs and 15 for that one; session options of onnxruntime (memory arena, memory
    patterns, allocator of the weights, packing) change nothing about it. Where there is no glibc, this does nothing.
    """
    import ctypes

    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
