"""The values that Nearsight hands back: vectors, hits and reports, all of them frozen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from nearsight.errors import InputError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray

    from nearsight_npu import Decision

# How far from one the length of a unit vector may be.
UNIT_TOLERANCE = 1e-3
# The largest picture that is decoded unless the caller says otherwise.
DEFAULT_MAX_PIXELS = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderIdentity:
    """Which encoder made a vector, down to its files.

    Attributes:
        model: name of the model, as in `Encoder(model=...)`.
        space: name of the vector space; only vectors of one space can be compared.
        dimensions: length of a vector of this space.
        precision: numbers the graph computes in, such as `int8` or `fp16`.
        preprocessing: hash of the way from picture to pixels.
        model_hash: hash of the model's files.
    """

    model: str
    space: str
    dimensions: int
    precision: str
    preprocessing: str
    model_hash: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embeddings:
    """Unit vectors of one space, and how they came about.

    Attributes:
        vectors: float32 (n, d), each of length one.
        space: name of the space.
        decision: the delegate's account of the run; None where nothing was run.
    """

    vectors: NDArray[np.float32]
    space: str
    decision: Decision | None = None

    def __post_init__(self) -> None:
        vectors = self.vectors
        if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype != np.float32:
            shape = getattr(vectors, "shape", None)
            raise InputError(
                f"embeddings must be a float32 array (n, d); got {type(vectors).__name__} of shape {shape}, "
                f"dtype {getattr(vectors, 'dtype', None)}; convert with numpy.asarray(x, numpy.float32).reshape(n, d)"
            )
        lengths = np.linalg.norm(vectors, axis=1)
        # Written so that a NaN is found, too.
        odd = int(np.count_nonzero(~(np.abs(lengths - 1.0) <= UNIT_TOLERANCE)))
        if odd:
            raise InputError(
                f"embeddings must be of unit length; {odd} of {len(vectors)} are not; "
                "divide each row by its Euclidean norm"
            )

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One picture that a search found.

    Attributes:
        path: where the file was when it was added.
        score: inner product of query and picture, -1 to 1; comparable within one query only.
        relevance: calibrated probability, 0 to 1, that the picture is what was asked for.
        captured_at: EXIF time; without a zone where the camera wrote none.
        camera: name given when the picture was added, else the EXIF camera model.
        metadata: what was given when the picture was added.
        duplicates: paths that `group=True` folded into this hit.
    """

    path: Path
    score: float
    relevance: float
    captured_at: datetime | None = None
    camera: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    duplicates: tuple[Path, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether the file is still there."""
        return os.path.exists(self.path)

    def to_dict(self) -> dict[str, Any]:
        """Give the hit in the form of `nearsight search --json`."""
        form: dict[str, Any] = {
            "path": str(self.path),
            "score": self.score,
            "relevance": self.relevance,
            "captured_at": None if self.captured_at is None else self.captured_at.isoformat(),
            "camera": self.camera,
            "metadata": self.metadata,
        }
        if self.duplicates:
            form["duplicates"] = [str(path) for path in self.duplicates]
        return form


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits(Sequence[Hit]):
    """The answer to one search, best first; a sequence of `Hit`.

    Attributes:
        items: the hits of this page.
        query: the text that was asked, or a description of the picture.
        decision: how the query was encoded.
        total_considered: pictures that passed the filters.
        best_relevance: relevance of the best picture considered, shown or not; None if there was none.
        min_relevance: hits below it were left out.
        weak: True when pictures were considered and even the best is below the threshold: "nothing matches".
    """

    items: tuple[Hit, ...]
    query: str
    decision: Decision | None
    total_considered: int
    best_relevance: float | None
    min_relevance: float
    weak: bool

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Hit: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...

    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.items[index]

    def to_dict(self) -> dict[str, Any]:
        """Give the answer in the form of `nearsight search --json`."""
        return {
            "query": self.query,
            "hits": [hit.to_dict() for hit in self.items],
            "weak": self.weak,
            "best_relevance": self.best_relevance,
            "min_relevance": self.min_relevance,
            "total_considered": self.total_considered,
            "decision": None if self.decision is None else self.decision.to_dict(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A file that could not be used, and why."""

    path: Path
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Give the failure as JSON-able values."""
        return {"path": str(self.path), "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a long call has come.

    Attributes:
        done: files dealt with, those that needed nothing included.
        total: files found.
        rate_per_s: files a second, over the files that needed work.
        seconds_left: estimate; None until there is a rate.
        current: the file dealt with last.
    """

    done: int
    total: int
    rate_per_s: float
    seconds_left: float | None
    current: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddReport:
    """What one `Gallery.add` or `Gallery.reindex` did; every counted item is durable.

    Attributes:
        added: new in the gallery.
        changed: known paths whose content was new, encoded again.
        unchanged: known and the same; their camera and metadata were updated if given.
        renamed: known content found at a new path while the old one is gone; not encoded again.
        missing: paths of the gallery below the added folders that are gone; kept until `remove(missing=True)`.
        skipped_heif: HEIC and HEIF files left out because the reader is not installed.
        failed: files that could not be used, each with the reason.
        encoded: pictures that went through the encoder.
        seconds: wall time.
        decision: the delegate's account of the last batch; None where nothing was encoded.
    """

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    renamed: int = 0
    missing: int = 0
    skipped_heif: int = 0
    failed: tuple[Failure, ...] = ()
    encoded: int = 0
    seconds: float = 0.0
    decision: Decision | None = None

    @property
    def rate_per_s(self) -> float:
        """Pictures encoded a second, end to end."""
        return self.encoded / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Give the report in the form of `nearsight index --json`."""
        return {
            "added": self.added,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "renamed": self.renamed,
            "missing": self.missing,
            "skipped_heif": self.skipped_heif,
            "failed": [failure.to_dict() for failure in self.failed],
            "encoded": self.encoded,
            "seconds": self.seconds,
            "rate_per_s": self.rate_per_s,
            "decision": None if self.decision is None else self.decision.to_dict(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryStats:
    """What a gallery holds.

    Attributes:
        path: its folder.
        items: pictures.
        model: the model that encodes them; what `Gallery.open` wants to be told.
        space: space of the vectors.
        dimensions: length of a vector.
        models: `model/precision` and how many vectors each made.
        cameras: camera name and how many pictures it took; pictures without one are under "".
        oldest: earliest capture time, as the cameras wrote it.
        newest: latest capture time.
        disk_bytes: size of the folder's own files.
        generation: counts the changes that were committed.
        schema_version: layout of the database.
    """

    path: Path
    items: int
    model: str
    space: str
    dimensions: int
    models: dict[str, int]
    cameras: dict[str, int]
    oldest: datetime | None
    newest: datetime | None
    disk_bytes: int
    generation: int
    schema_version: int

    def to_dict(self) -> dict[str, Any]:
        """Give the figures as JSON-able values."""
        return {
            "path": str(self.path),
            "items": self.items,
            "model": self.model,
            "space": self.space,
            "dimensions": self.dimensions,
            "models": self.models,
            "cameras": self.cameras,
            "oldest": None if self.oldest is None else self.oldest.isoformat(),
            "newest": None if self.newest is None else self.newest.isoformat(),
            "disk_bytes": self.disk_bytes,
            "generation": self.generation,
            "schema_version": self.schema_version,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What a check of a gallery found.

    Attributes:
        items: pictures checked.
        database_problems: SQLite's own findings; empty when sound.
        bad_vectors: pictures whose vector is not finite, not of unit length or of the wrong size.
        index_state: the cache on disk: "current", "behind" (it catches up by itself), "absent" or "damaged".
        index_wrong: vectors in which the loaded index differs from the database.
        index_repaired: True when `verify(repair=True)` wrote the cache anew.
        missing_files: pictures whose file is gone; not damage, see `Gallery.remove(missing=True)`.
    """

    items: int
    database_problems: tuple[str, ...] = ()
    bad_vectors: tuple[Path, ...] = ()
    index_state: str = "current"
    index_wrong: int = 0
    index_repaired: bool = False
    missing_files: tuple[Path, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the gallery answers rightly: the truth is sound, and the index agrees with it."""
        index_wrong = self.index_wrong and not self.index_repaired
        return not (self.database_problems or self.bad_vectors or index_wrong)

    def to_dict(self) -> dict[str, Any]:
        """Give the findings as JSON-able values."""
        return {
            "ok": self.ok,
            "items": self.items,
            "database_problems": list(self.database_problems),
            "bad_vectors": [str(path) for path in self.bad_vectors],
            "index_state": self.index_state,
            "index_wrong": self.index_wrong,
            "index_repaired": self.index_repaired,
            "missing_files": [str(path) for path in self.missing_files],
        }
