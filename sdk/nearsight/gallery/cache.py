"""Keeps a FAISS index in step with the database, from its file where that is sound."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from nearsight.errors import GalleryDamagedError
from nearsight.gallery.index import Index, described, load

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from nearsight.gallery.reader import Reader

# The file is written anew once this many rows, and this share of all, are newer than it: readers fetch fewer from the
# database in a moment.
BEHIND_ROWS = 256
BEHIND_SHARE = 0.02


class Cache:
    """The index of one gallery in memory."""

    def __init__(self, folder: Path, *, from_file: bool = True) -> None:
        self._folder = folder
        self._from_file = from_file
        self._index: Index | None = None
        self._gallery = ""
        self._epoch = self._generation = 0
        self._file_is_bad = False

    def refreshed(self, store: Reader) -> Index:
        """Give the index as the database stands; called inside `store.reading()`.

        Raises:
            GalleryDamagedError: when a vector in the database has the wrong size.
        """
        now = store.stamp()
        index = self._index
        if index is None and self._from_file:
            loaded = load(self._folder)
            self._file_is_bad = loaded is None
            if loaded is not None:
                index, stamp = loaded
                self._gallery, self._epoch, self._generation = stamp.gallery, stamp.epoch, stamp.generation
        fits = (
            index is not None
            and (self._gallery, self._epoch, index.dimensions) == (now.gallery, now.epoch, now.dimensions)
            and self._generation <= now.generation
        )
        if index is None or not fits:
            index, self._generation = Index(now.dimensions), 0
        if self._generation != now.generation:
            # Not the cache's until it is whole: an error must not leave half of it behind.
            self._index = None
            for ids, vectors in store.vectors_after(index.last_id):
                index.add(np.array(ids, np.int64), _matrix(store, ids, vectors, now.dimensions))
            if len(index) != store.count():
                index.keep(store.ids())
        self._gallery, self._epoch, self._generation = now.gallery, now.epoch, now.generation
        self._index = index
        return index

    def state(self, store: Reader) -> str:
        """Name the state of the file: "current", "behind", "absent" or "damaged"."""
        if not (self._folder / "index.faiss").exists() and not (self._folder / "index.json").exists():
            return "absent"
        loaded = load(self._folder)
        if loaded is None:
            return "damaged"
        now, stamp = store.stamp(), loaded[1]
        if (stamp.gallery, stamp.epoch, stamp.dimensions) != (now.gallery, now.epoch, now.dimensions):
            return "behind"
        return "current" if stamp.generation == now.generation else "behind"

    def save(self, store: Reader, *, always: bool = False) -> bool:
        """Write the file when it is absent or well behind; the caller holds the writer's lock.

        Returns:
            Whether it was written. A full disk is no error: what was added is durable, and `verify` names the state.
        """
        with store.reading():
            now = store.stamp()
            index = self.refreshed(store)
        on_disk = described(self._folder)
        if on_disk is not None and not always and not self._file_is_bad:
            same = (on_disk.gallery, on_disk.epoch) == (now.gallery, now.epoch)
            new = int(np.count_nonzero(index.ids > on_disk.last_id))
            behind = new + on_disk.count + new - len(index)
            if same and on_disk.generation <= now.generation and behind <= max(BEHIND_ROWS, BEHIND_SHARE * len(index)):
                return False
        try:
            index.save(self._folder, now)
        except OSError:
            # What a full disk left of the new file would only fill it further.
            for name in ("index.faiss.new", "index.json.new"):
                with suppress(OSError):
                    (self._folder / name).unlink(missing_ok=True)
            return False
        self._file_is_bad = False
        return True

    @property
    def file_is_bad(self) -> bool:
        """Whether the file was absent or damaged when it was last looked at, and has not been written since."""
        return self._file_is_bad


def _matrix(store: Reader, ids: list[int], vectors: list[bytes], dimensions: int) -> NDArray[np.float32]:
    odd = next((number for number, vector in zip(ids, vectors, strict=True) if len(vector) != 4 * dimensions), None)
    if odd is not None:
        row = store.rows([odd]).get(odd)
        name = row.path if row is not None else f"picture {odd}"
        raise GalleryDamagedError(
            f"the vector of {name} in the gallery {store.folder} is not {dimensions} numbers long; "
            "take that picture out with gallery.remove(path), and add it again"
        )
    return np.frombuffer(b"".join(vectors), np.float32).reshape(len(ids), dimensions)
