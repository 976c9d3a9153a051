"""Nearest vectors by FAISS, and their cache on disk, which may be lost or damaged at any time."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT = 1
# Up to this share of the vectors a filter is cheaper as a scan of the kept ones than as a test on each.
SCAN_SHARE = 0.05
SCAN_ALWAYS = 1024
# Beyond this many wanted neighbours a full sort is cheaper than FAISS's heap.
HEAP_LIMIT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Which state of which gallery an index holds.

    Attributes:
        gallery: the gallery's own random name.
        epoch: counts re-encodings; vectors of different epochs do not mix.
        generation: counts committed changes.
        dimensions: length of a vector.
    """

    gallery: str
    epoch: int
    generation: int
    dimensions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Description(Stamp):
    """What the cache on disk holds, in the words of `index.json`.

    Attributes:
        format: layout of the two files.
        count: vectors held.
        last_id: greatest id held; 0 when empty.
        blake2b: checksum of `index.faiss`.
    """

    format: int
    count: int
    last_id: int
    blake2b: str


class Index:
    """Exact inner-product search over unit vectors with ascending ids."""

    def __init__(self, dimensions: int, _loaded: tuple[Any, NDArray[np.int64]] | None = None) -> None:
        # Imported here, so that galleries can be listed and written without it.
        import faiss  # type: ignore[import-untyped, unused-ignore]

        self._faiss: Any = faiss
        self.dimensions = dimensions
        self.ids: NDArray[np.int64] = np.empty(0, np.int64)
        if _loaded is None:
            self._flat: Any = faiss.IndexFlatIP(dimensions)
        else:
            # The loaded wrapper owns the vectors, so it is kept.
            self._owner, self.ids = _loaded
            self._flat = faiss.downcast_index(self._owner.index)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def last_id(self) -> int:
        """Greatest id held; 0 when empty."""
        return int(self.ids[-1]) if len(self.ids) else 0

    @property
    def vectors(self) -> NDArray[np.float32]:
        """float32 (n, d), a view that `add` and `keep` make invalid."""
        if not len(self):
            return np.empty((0, self.dimensions), np.float32)
        count = len(self) * self.dimensions
        view: NDArray[np.float32] = self._faiss.rev_swig_ptr(self._flat.get_xb(), count)
        return view.reshape(len(self), self.dimensions)

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Append vectors; ids ascend and are greater than all that are held.

        Args:
            ids: int64 (n,).
            vectors: float32 (n, d).
        """
        self._flat.add(np.ascontiguousarray(vectors, np.float32))
        self.ids = np.concatenate([self.ids, np.asarray(ids, np.int64)])

    def keep(self, ids: NDArray[np.int64]) -> None:
        """Drop every vector whose id is not among these.

        Args:
            ids: int64 (n,), ascending.
        """
        kept = np.isin(self.ids, ids, assume_unique=True)
        if not kept.all():
            dropped = np.packbits(~kept, bitorder="little")
            self._flat.remove_ids(self._faiss.IDSelectorBitmap(dropped))
            self.ids = self.ids[kept]

    def nearest(
        self, query: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the k vectors with the greatest inner product, exactly; equal scores are ordered by id.

        Args:
            query: float32 (d,).
            k: how many; fewer come back when there are fewer.
            allowed: int64 (n,) ascending ids to choose from; None for all.

        Returns:
            ids int64 (m,) and scores float32 (m,), best first.
        """
        places = None if allowed is None else self._places(allowed)
        count = len(self) if places is None else len(places)
        k = min(k, count)
        if k < 1:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        narrow = places is not None and count <= max(SCAN_ALWAYS, SCAN_SHARE * len(self))
        if narrow or k >= HEAP_LIMIT:
            vectors = self.vectors if places is None else self.vectors[places]
            scores = vectors @ query
            ids = self.ids if places is None else self.ids[places]
            order = np.lexsort((ids, -scores))[:k]
            return ids[order], scores[order]
        ids, scores = self._heap(query, min(k + 1, count), places)
        while len(ids) > k and scores[k] == scores[k - 1] and len(ids) < count and len(ids) < HEAP_LIMIT:
            # Which of several equal scores FAISS keeps is left to chance; take all of them, and order them by id.
            ids, scores = self._heap(query, min(2 * len(ids), count), places)
        if len(ids) > k and scores[-1] == scores[k - 1] and len(ids) < count:
            ids, scores = self.nearest(query, max(HEAP_LIMIT, k), allowed)
        return ids[:k], scores[:k]

    def _places(self, allowed: NDArray[np.int64]) -> NDArray[np.intp]:
        places = np.searchsorted(self.ids, allowed)
        places = places[places < len(self)]
        held = self.ids[places] == allowed[: len(places)]
        matched: NDArray[np.intp] = places[held]
        return matched

    def _heap(
        self, query: NDArray[np.float32], k: int, places: NDArray[np.intp] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        # One query gains nothing from a second thread. Source: measured with faiss-cpu 1.15.1.
        self._faiss.omp_set_num_threads(1)
        parameters = None
        if places is not None:
            mask = np.zeros(len(self), np.bool_)
            mask[places] = True
            bits = np.packbits(mask, bitorder="little")
            parameters = self._faiss.SearchParameters(sel=self._faiss.IDSelectorBitmap(bits))
        found = self._flat.search(query[None].astype(np.float32, copy=False), k, params=parameters)
        scores, rows = found[0][0], found[1][0]
        ids = self.ids[rows]
        order = np.lexsort((ids, -scores))
        return ids[order], scores[order]

    def save(self, folder: Path, stamp: Stamp) -> None:
        """Write the index beside the database, as a FAISS file and its description; each is replaced in one step."""
        faiss = self._faiss
        mapped = faiss.IndexIDMap(faiss.IndexFlatIP(self.dimensions))
        if len(self):
            mapped.add_with_ids(self.vectors, self.ids)
        checksum = hashlib.blake2b(digest_size=20)
        fresh = folder / "index.faiss.new"
        with open(fresh, "wb") as file:

            def write(chunk: bytes) -> int:
                checksum.update(chunk)
                return file.write(chunk)

            faiss.write_index(mapped, faiss.PyCallbackIOWriter(write))
        os.replace(fresh, folder / "index.faiss")
        description = Description(
            format=FORMAT, **asdict(stamp), count=len(self), last_id=self.last_id, blake2b=checksum.hexdigest()
        )
        fresh = folder / "index.json.new"
        fresh.write_text(json.dumps(asdict(description), indent=1), encoding="utf-8")
        os.replace(fresh, folder / "index.json")


def described(folder: Path) -> Description | None:
    """Read what the cache on disk claims to hold; None when it is absent or makes no sense."""
    try:
        values = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        description = Description(**values)
    except (OSError, ValueError, TypeError):
        return None
    numbers = (description.format, description.epoch, description.generation, description.dimensions)
    if not all(type(number) is int for number in (*numbers, description.count, description.last_id)):
        return None
    return description if description.format == FORMAT else None


def load(folder: Path) -> tuple[Index, Description] | None:
    """Read the cache; None when it is absent, damaged or of another format."""
    description = described(folder)
    if description is None:
        return None
    import faiss

    module: Any = faiss
    try:
        with open(folder / "index.faiss", "rb") as file:
            # Checked before FAISS parses it: its reader trusts the sizes it meets.
            if hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest() != description.blake2b:
                return None
            file.seek(0)
            mapped = module.read_index(module.PyCallbackIOReader(file.read))
    except (OSError, RuntimeError):
        # RuntimeError: written by a FAISS that this one does not understand.
        return None
    if not hasattr(mapped, "id_map") or (mapped.d, mapped.ntotal) != (description.dimensions, description.count):
        return None
    ids = module.vector_to_array(mapped.id_map).astype(np.int64)
    if len(ids) > 1 and not bool((np.diff(ids) > 0).all()):
        return None
    return Index(description.dimensions, _loaded=(mapped, ids)), description
