"""Bring picture files into a gallery, and bring a gallery into another space."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearsight.errors import GalleryError, InputError
from nearsight.folders import absolute
from nearsight.gallery.pipeline import Outcome, processed
from nearsight.gallery.writer import Writer, below, metadata_text
from nearsight.pictures import walk
from nearsight.values import AddReport, Failure, Progress

if TYPE_CHECKING:
    from nearsight.gallery.encoder import GalleryEncoder
    from nearsight.gallery.reader import Content, Row
    from nearsight_npu import Decision

OnProgress = Callable[[Progress], None]
OnStored = Callable[[Path], None]
# Rows that need no encoding are committed this many at a time.
_ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOptions:
    """How `add` goes about it; see `Gallery.add`."""

    camera: str | None = None
    metadata: Mapping[str, Any] | None = None
    recursive: bool = True
    hidden: bool = False
    exclude: tuple[str, ...] = ()
    max_pixels: int | None = None
    workers: int | None = None
    progress: OnProgress | None = None
    on_stored: OnStored | None = None


@dataclass(slots=True)
class _Tally:
    """Counts while a call runs, and tells how it goes."""

    total: int
    progress: OnProgress | None
    started: float = field(default_factory=time.monotonic)
    work_started: float = field(default_factory=time.monotonic)
    idle: int = 0
    worked: int = 0
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("added", "changed", "unchanged", "renamed", "skipped_heif", "encoded"), 0
        )
    )
    failed: list[Failure] = field(default_factory=list)
    decision: Decision | None = None

    def begin_work(self) -> None:
        self.work_started = time.monotonic()

    def show(self, current: Path | None) -> None:
        if self.progress is None:
            return
        elapsed = time.monotonic() - self.work_started
        rate = self.worked / elapsed if elapsed > 0 else 0.0
        left = self.total - self.idle - self.worked
        seconds_left = 0.0 if not left else (left / rate if rate > 0 else None)
        self.progress(
            Progress(
                done=self.idle + self.worked,
                total=self.total,
                rate_per_s=rate,
                seconds_left=seconds_left,
                current=current,
            )
        )

    def report(self, missing: int = 0) -> AddReport:
        return AddReport(
            **self.counts,
            missing=missing,
            failed=tuple(self.failed),
            seconds=time.monotonic() - self.started,
            decision=self.decision,
        )

    def note_failure(self, outcome: Outcome) -> None:
        if outcome.heif:
            self.counts["skipped_heif"] += 1
        else:
            self.failed.append(Failure(path=outcome.path, reason=outcome.reason))


def add(
    store: Writer, encoder: GalleryEncoder, paths: Iterable[str | os.PathLike[str]], options: AddOptions
) -> AddReport:
    """Walk, skip what is known, encode the rest and store it; the caller holds the writer's lock."""
    text = metadata_text(options.metadata)
    if options.camera is not None and not isinstance(options.camera, str):
        raise InputError(f"camera={options.camera!r} is not a name; give text")
    tally = _Tally(total=0, progress=options.progress)
    roots = [absolute(path) for path in paths]
    # A gallery's own folder is never looked into, whatever it is called.
    found = [
        path
        for path in walk(
            roots,
            recursive=options.recursive,
            hidden=options.hidden,
            exclude=options.exclude,
            on_error=lambda folder, reason: tally.failed.append(Failure(path=folder, reason=reason)),
        )
        if not below(path, [store.folder])
    ]
    tally.total = len(found)
    fresh = _Fresh(store, encoder, options.camera, text, tally, options.on_stored)
    todo = fresh.unknown(found)
    tally.begin_work()
    known = store.digests() if todo else set()
    outcomes = processed(todo, encoder, known, workers=options.workers, max_pixels=options.max_pixels)
    with closing(outcomes):
        for some in outcomes:
            fresh.keep(some)
    tally.show(None)
    return tally.report(_missing(store, [root for root in roots if root.is_dir()], set(found)))


def _missing(store: Writer, folders: list[Path], seen: set[Path]) -> int:
    """Count the gallery's pictures below these folders that are gone; single files cost no walk over the gallery."""
    if not folders:
        return 0
    return sum(
        1 for _, path in store.paths() if path not in seen and below(path, folders) and not os.path.lexists(path)
    )


class _Fresh:
    """Stores the outcomes of one `add`."""

    def __init__(
        self,
        store: Writer,
        encoder: GalleryEncoder,
        camera: str | None,
        metadata: str | None,
        tally: _Tally,
        on_stored: OnStored | None,
    ) -> None:
        self._store = store
        self._encoder = encoder
        self._camera = camera
        self._metadata = metadata
        self._tally = tally
        self._on_stored = on_stored
        # Contents that this call has replaced, for files that were swapped.
        self._spares: dict[bytes, tuple[Row, bytes]] = {}
        self._number: int | None = None

    def unknown(self, paths: list[Path]) -> list[Path]:
        """Give the files whose size or time is not as stored; the others get the camera and metadata of this call."""
        todo: list[Path] = []
        described: list[tuple[Row, str | None, str]] = []
        for path in paths:
            row = self._store.row(path)
            try:
                status = os.stat(path)
            except OSError:
                # Reading it names the reason.
                row = None
            if row is None or (row.size, row.mtime_ns) != (status.st_size, status.st_mtime_ns):
                todo.append(path)
                continue
            self._tally.idle += 1
            self._tally.counts["unchanged"] += 1
            if (description := self._new_description(row)) is not None:
                described.append((row, *description))
            if self._tally.idle % _ROWS_AT_ONCE == 0:
                self._tally.show(path)
        for start in range(0, len(described), _ROWS_AT_ONCE):
            with self._store.writing():
                for row, camera, metadata in described[start : start + _ROWS_AT_ONCE]:
                    self._store.describe(row.id, camera, metadata)
        return todo

    def keep(self, outcomes: list[Outcome]) -> None:
        """Reader some outcomes in one durable step, then count and acknowledge them."""
        with self._store.writing():
            kinds = [self._keep(outcome) for outcome in outcomes]
        for outcome, kind in zip(outcomes, kinds, strict=True):
            self._tally.worked += 1
            if kind == "failed":
                self._tally.note_failure(outcome)
                continue
            self._tally.counts[kind] += 1
            self._tally.counts["encoded"] += outcome.vector is not None
            self._tally.decision = outcome.decision or self._tally.decision
            if self._on_stored is not None:
                self._on_stored(outcome.path)
        if outcomes:
            self._tally.show(outcomes[-1].path)

    def _keep(self, outcome: Outcome) -> str:
        content = outcome.content
        if outcome.reason or content is None:
            return "failed"
        store, path = self._store, outcome.path
        old = store.row(path)
        if outcome.vector is not None:
            return self._put(path, content, old, self._encoder_number(), outcome.vector.tobytes())
        if old is not None and old.digest == content.digest:
            store.move(old.id, path, content.size, content.mtime_ns)
            if (description := self._new_description(old)) is not None:
                store.describe(old.id, *description)
            return "unchanged"
        twins = store.rows_of(content.digest)
        if old is None:
            for twin in twins:
                if not os.path.lexists(twin.path):
                    store.move(twin.id, path, content.size, content.mtime_ns)
                    if (description := self._new_description(twin)) is not None:
                        store.describe(twin.id, *description)
                    return "renamed"
        if twins:
            twin, vector = twins[0], store.vector(twins[0].id)
        else:
            twin, vector = self._spares[content.digest]
        if vector is None:
            raise GalleryError(f"the vector of {twin.path} is lost; run verify, remove that picture and add it again")
        content = replace(content, captured_at=twin.captured_at, camera=twin.exif_camera)
        return self._put(path, content, old, twin.encoder, vector)

    def _put(self, path: Path, content: Content, old: Row | None, encoder: int, vector: bytes) -> str:
        given, metadata = self._camera, self._metadata or "{}"
        if old is not None:
            spare = self._store.vector(old.id)
            if spare is not None:
                self._spares[old.digest] = (old, spare)
            metadata = self._metadata or json.dumps(old.metadata, sort_keys=True)
            if given is None and old.camera != old.exif_camera:
                given = old.camera
        self._store.put(path, content, camera=given, metadata=metadata, encoder=encoder, vector=vector)
        return "added" if old is None else "changed"

    def _new_description(self, row: Row) -> tuple[str | None, str] | None:
        stored = json.dumps(row.metadata, sort_keys=True)
        camera = row.camera if self._camera is None else self._camera
        metadata = stored if self._metadata is None else self._metadata
        return None if (camera, metadata) == (row.camera, stored) else (camera, metadata)

    def _encoder_number(self) -> int:
        if self._number is None:
            self._number = self._store.encoder_id(self._encoder.identity)
        return self._number


def reindex(store: Writer, encoder: GalleryEncoder, options: AddOptions) -> AddReport:
    """Encode every picture anew, beside the old vectors, and change over when all are there.

    The caller holds the writer's lock. What was prepared by an interrupted call is used.

    Raises:
        GalleryError: when pictures cannot be encoded; the gallery stays as it was, and what was prepared is kept.
    """
    identity = encoder.identity
    with store.writing():
        store.begin_staging(identity)
    ids = {path: number for number, path in store.paths()}
    tally = _Tally(total=len(ids), progress=options.progress)
    staged = store.staged()
    todo: list[Path] = []
    for path, number in ids.items():
        try:
            status = os.stat(path)
        except OSError:
            todo.append(path)
            continue
        if staged.get(number) == (status.st_size, status.st_mtime_ns):
            tally.idle += 1
        else:
            todo.append(path)
    tally.begin_work()
    outcomes = processed(todo, encoder, store.staged_digests(), workers=options.workers, max_pixels=options.max_pixels)
    with closing(outcomes):
        for some in outcomes:
            with store.writing():
                for outcome in some:
                    if outcome.content is not None and not outcome.reason:
                        _stage(store, ids[outcome.path], outcome)
            for outcome in some:
                tally.worked += 1
                tally.counts["encoded"] += outcome.vector is not None
                tally.decision = outcome.decision or tally.decision
                if outcome.reason:
                    tally.failed.append(Failure(path=outcome.path, reason=outcome.reason))
            tally.show(some[-1].path if some else None)
    if tally.failed:
        first = tally.failed[0]
        raise GalleryError(
            f"{len(tally.failed)} of {len(ids)} pictures cannot be encoded again "
            f"(first: {first.path}: {first.reason}); the gallery is as it was. Bring them back, or take them out with "
            "gallery.remove(missing=True) or gallery.remove(path), then call reindex again: it goes on where it stopped"
        )
    with store.writing():
        # Asked again: only now that it is loaded is it certain which files it runs.
        store.adopt_staging(encoder.identity)
    tally.counts["changed"] = len(ids)
    tally.show(None)
    return tally.report()


def _stage(store: Writer, number: int, outcome: Outcome) -> None:
    content = outcome.content
    if content is None:
        return
    if outcome.vector is not None:
        store.stage(number, content, outcome.vector.tobytes())
        return
    twin = store.staged_twin(content.digest)
    if twin is None:
        raise GalleryError(f"the prepared vector of {outcome.path} is lost; call reindex again")
    captured_at, camera, vector = twin
    store.stage(number, replace(content, captured_at=captured_at, camera=camera), vector)
