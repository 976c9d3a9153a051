"""Checks a gallery: is the database sound, does the index agree with it, are the files there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from nearsight.errors import GalleryDamagedError
from nearsight.gallery.cache import Cache
from nearsight.values import UNIT_TOLERANCE, VerifyReport

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from nearsight.gallery.index import Index
    from nearsight.gallery.reader import Reader


def checked(store: Reader, folder: Path) -> VerifyReport:
    """Check everything that can be checked without reading the pictures."""
    try:
        with store.reading():
            return _checked(store, folder)
    except GalleryDamagedError as error:
        return VerifyReport(items=0, database_problems=(str(error),), index_state="unknown")


def _checked(store: Reader, folder: Path) -> VerifyReport:
    problems = store.problems()
    cache = Cache(folder)
    state = cache.state(store)
    paths = dict(store.paths())
    dimensions = int(store.fact("dimensions"))
    try:
        index: Index | None = cache.refreshed(store)
    except GalleryDamagedError:
        # The vector that stops it is among the bad ones.
        index = None
    held_ids = np.empty(0, np.int64) if index is None else index.ids
    held = np.empty((0, dimensions), np.float32) if index is None else index.vectors
    bad: list[Path] = []
    agreeing = counted = 0
    for ids, blobs in store.vectors_after(0):
        for number, blob in zip(ids, blobs, strict=True):
            if number not in paths:
                continue
            counted += 1
            if len(blob) != 4 * dimensions or not _is_unit(np.frombuffer(blob, np.float32)):
                bad.append(paths[number])
            agreeing += _agrees(held_ids, held, number, blob)
    wrong = 0 if index is None else max(len(index), counted) - agreeing
    return VerifyReport(
        items=len(paths),
        database_problems=problems,
        bad_vectors=tuple(bad),
        index_state=state,
        index_wrong=wrong,
        missing_files=tuple(path for path in paths.values() if not os.path.lexists(path)),
    )


def _is_unit(vector: NDArray[np.float32]) -> bool:
    # Written so that a NaN fails.
    return bool(abs(float(np.linalg.norm(vector)) - 1.0) <= UNIT_TOLERANCE)


def _agrees(held_ids: NDArray[np.int64], held: NDArray[np.float32], number: int, blob: bytes) -> bool:
    row = int(np.searchsorted(held_ids, number))
    return row < len(held_ids) and int(held_ids[row]) == number and held[row].tobytes() == blob
