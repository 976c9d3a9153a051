"""What this process fills of the machine's memory, and how it gives back what it no longer needs."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # Source: malloc.h of glibc
# Free bytes at the end of a heap that make glibc give them back, and the size from which a block is asked for singly
# and goes back by itself. Left alone it moves both, up to 64 and 32 MB; once one is set, it leaves both as they are.
# Lower ones would ask for large pictures singly (9 MB: 8 ms more of 27 to decode and shrink one).
_USUAL = {_TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20}
_EAGER = {_TRIM_THRESHOLD: 1 << 20}
_FREEING = threading.RLock()  # held again where freeing one graph lets another go
_CHOSEN = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")  # by whoever runs the process


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

    What a process fills more after its first graph than before is no graph's: some 10 MB of onnxruntime's own code,
    read in when it is first needed and shared with other processes, and 2 MB of what it sets up once.
    """
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


@contextlib.contextmanager
def freeing() -> Iterator[None]:
    """Have what is freed meanwhile go back to the system, whichever thread's heap it is of.

    glibc has a heap for each thread, and `release` reaches the end of the first one only. One thread frees at a time:
    another's end would take the settings away from it.
    """
    with _FREEING:
        _set(_EAGER)
        try:
            yield
        finally:
            _set(_USUAL)


def _set(options: Mapping[int, int]) -> None:
    mallopt = _of_glibc("mallopt")
    if mallopt is not None and not any(name in os.environ for name in _CHOSEN):
        for option, size in options.items():
            mallopt(option, size)


def _of_glibc(name: str) -> Any:
    """Find one of glibc's own functions; None where there is another library, or another system."""
    import ctypes

    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
